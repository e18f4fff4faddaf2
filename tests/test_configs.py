"""Every option file composes, converts and says something new; every setting is commented; unknown keys are refused."""

import dataclasses
import math
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import safeplan.guidance
from safeplan import build, schema
from safeplan.baselines.offline import RIVALS, TABLE
from safeplan.build.settings import freeze
from safeplan.cli.complain import explain, refuse_extras
from safeplan.cli.help import GROUPS, comments, options, schema_of
from safeplan.diffusion import SAMPLERS
from safeplan.dynamics.systems import systems
from safeplan.errors import ConfigError
from safeplan.feasibility import official
from safeplan.feasibility.config import restored, unused
from safeplan.imaging import SETS
from safeplan.training.checkpoint import load_model

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
USES = {"plan": ("env", "planner", "guidance"), "train": ("policy", "data"), "evaluate": ("env", "planner", "guidance")}
USES["sample"] = ("model", "guidance")
USES["density"] = ("system",)
PRESETS = {"fisor_official": "fisor"}  # other values of a kind's settings
GIVEN = {"verify": ["plan=p.json"], "data_check": ["path=x.hdf5"], "data_import": ["source=x.csv", "out=x.hdf5"]}
GIVEN["data_estimate"] = ["path=x.hdf5", "run=runs/x"]
NEEDS = {"data=file": ["data.path=x.hdf5"], "data=dsrl": ["data.task=BallCircle"]}
NEEDS |= {f"policy={p}": ["policy.limit=10"] for p in schema.LIMITED} | {"policy=one_step": ["policy.teacher=x"]}
CHOICES = [(c, f"{g}={o}") for c, groups in USES.items() for g in groups for o in options(g)]
SETTINGS = [c for c in vars(schema).values() if dataclasses.is_dataclass(c)]


def composed(command: str, *overrides: str):
    """Settings of a command, as its `run` receives them."""
    build.register(command)
    with initialize_config_module("safeplan.configs", version_base="1.3"):
        cfg = compose(command, list(overrides))
    refuse_extras(cfg)
    return OmegaConf.to_object(cfg)


@pytest.mark.parametrize(("command", "choice"), [(c, "") for c in build.COMMANDS] + CHOICES)
def test_every_choice_composes_and_converts(command, choice):
    extra = GIVEN.get(command, [choice] if choice else [])
    extra += NEEDS.get(choice, [])
    cfg = composed(command, *extra)
    assert isinstance(cfg, build.COMMANDS[command])
    group, _, option = choice.partition("=")
    if group in ("env", "data", "policy", "model", "system"):
        assert getattr(cfg, group).kind == PRESETS.get(option, option)
    if group == "guidance":
        assert cfg.guidance.chain[-1:] == ([] if option == "none" else [option])
    if hasattr(cfg, "planner"):
        assert build.planner_config(cfg.planner).gamma == 0.01


def test_the_tables_cover_the_schema():
    assert set(options("env")) == set(schema.ENVS) == set(build.ENV_IDS) == set(build.SYSTEMS)
    assert set(options("data")) == set(schema.DATA)
    assert set(options("policy")) == {*schema.POLICIES, *PRESETS}
    assert {schema_of("policy", o) for o in options("policy")} == set(schema.POLICIES) <= set(build.SETTINGS)
    assert set(schema.RIVALS) == set(RIVALS)
    homes = {name: getattr(import_module(module), cls) for name, (module, cls) in TABLE.items()}
    assert set(schema.LIMITED) == {name for name, cls in homes.items() if cls.limited}
    assert all(issubclass(build.settings_class(name), cls.Settings) for name, cls in homes.items())
    assert set(options("guidance")) == {*schema.GUIDANCE, "none"}
    assert set(options("model")) == set(schema.IMAGES) == set(SETS)
    assert set(options("system")) == set(schema.CASES) == set(systems())
    assert set(build.METHODS) == set(schema.GUIDANCE)
    assert set(schema.SAMPLERS) == set(SAMPLERS)
    assert all(hasattr(safeplan.guidance, cls) for cls, _ in build.METHODS.values())
    assert {p.name for p in CONFIGS.iterdir() if p.is_dir() and p.name != "__pycache__"} == {*GROUPS, "rivals"}


def test_the_official_preset_is_the_one_of_the_library():
    cfg = composed("train", "policy=fisor_official", "data=velocity")
    assert freeze(cfg.policy) == official()


def test_tuned_values_belong_to_a_choice():
    for folder in ("planner/tuned", "guidance/tuned", "rivals"):
        for path in (CONFIGS / folder).glob("*.yaml"):
            assert path.stem in schema.ENVS
    for path in (CONFIGS / "rivals").glob("*.yaml"):
        assert set(yaml.safe_load(path.read_text())) <= set(schema.PLANNERS)
    for path in (CONFIGS / "policy" / "tuned").glob("*.yaml"):
        policy = max((p for p in schema.POLICIES if path.stem.startswith(p)), key=len)
        data = path.stem[len(policy) + 1 :]
        assert data in schema.DATA
        values = yaml.safe_load(path.read_text()) or {}
        cfg = composed("train", f"policy={policy}", f"data={data}")
        assert all(getattr(cfg.policy, k) == v for k, v in values.items())


@pytest.mark.parametrize("vehicle", ("hovercraft", "driving"))
def test_the_preset_of_shipped_weights_trains_as_they_were_trained(vehicle):
    """How they act may have changed since; what an update does may not."""
    shipped = load_model(files("safeplan") / "weights" / vehicle / "fisor.safetensors").meta["fisor"]
    none_yet = {"normalize_weights": False, "skip_unweighted": False}
    trained = dataclasses.asdict(restored(none_yet | shipped | {"critic_rows": 0}))  # 256 of 256
    preset = dataclasses.asdict(freeze(composed("train", "policy=fisor", f"data={vehicle}").policy))
    acting = {"pick", "candidates", "compile", "precision", "graph"}
    assert {k for k in trained if trained[k] != preset[k]} - acting - unused(trained) == set()


def test_no_file_repeats_a_default():
    """A value in YAML that equals the schema's default would hide a later change of it."""
    classes = {"planner": build.settings_class("planner"), "env": schema.EnvConfig, "data": schema.DataConfig}
    files = [(p, classes[p.parent.name]) for g in ("env", "data") for p in (CONFIGS / g).glob("*.yaml")]
    files += [(p, classes["planner"]) for p in (CONFIGS / "planner").rglob("*.yaml")]
    for path in (CONFIGS / "policy").rglob("*.yaml"):
        policy = max((p for p in schema.POLICIES if path.stem.startswith(p)), key=len)
        files.append((path, build.settings_class(policy)))
    files += [(CONFIGS / f"{c}.yaml", cls) for c, cls in build.COMMANDS.items()]
    for path, cls in files:
        default = {f.name: f.default for f in dataclasses.fields(cls)}
        for key, value in (yaml.safe_load(path.read_text()) or {}).items():
            if key not in ("defaults", "hydra"):
                assert default[key] != value, f"{path}: {key} repeats the default"


SETTINGS += [build.settings_class(n) for n in build.SETTINGS]


@pytest.mark.parametrize("cls", SETTINGS, ids=lambda c: c.__name__)
def test_every_setting_is_commented(cls):
    notes = comments(cls)
    bare = [f.name for f in dataclasses.fields(cls) if not notes.get(f.name)]
    exempt = {"actor_blocks", "cost_temperature", "reward_temperature", "cost_clip", "reward_clip"}
    exempt |= {"dropout", "weight_decay"}  # their names say it
    assert not set(bare) - exempt
    assert cls.__doc__


@pytest.mark.parametrize(
    ("command", "override", "words"),
    [
        ("plan", "planner.horizn=3", ("'horizn'", "in 'planner'", "'horizon'", "gamma")),
        ("plan", "env.dificulty=1", ("'dificulty'", "'difficulty'", "max_seconds")),
        ("plan", "sed=1", ("'sed'", "'seed'", "device")),
        ("train", "policy.gama=1", ("'gama'", "'gamma'")),
        ("train", "policy=bcq_lga", ("policy=bcq_lga", "'bcq_lag'", "one_step")),
        ("train", "policy=cpq", ("policy.limit must be given",)),
        ("train", "policy=one_step", ("policy.teacher must be given",)),
        ("train", "data=dsrll", ("data=dsrll", "'dsrl'")),
        ("plan", "env=hovrcraft", ("env=hovrcraft", "'hovercraft'", "driving")),
        ("plan", "guidance=cgf", ("guidance=cgf", "'cfg'", "energy")),
        ("plan", "planner.horizon=long", ("planner.horizon=long", "Integer")),
        ("plan", "guidance.chain=cfg", ("guidance.chain", "cfg")),
        ("plan", "seed", ("seed", "EQUAL")),
        ("evaluate", "env.difficulty=1,2", ("env.difficulty=1,2", "multirun")),
        ("verify", "", ("plan must be given",)),
    ],
)
def test_hydras_refusals_name_the_setting(command, override, words):
    with pytest.raises(Exception) as caught:
        composed(command, *([override] if override else []))
    text = explain(caught.value)
    assert text is not None and "\n" not in text
    assert all(w in text for w in words), text


@pytest.mark.parametrize(
    ("command", "override", "words"),
    [
        ("plan", "+planner.horizn=3", "'horizn' in 'planner'. Did you mean 'horizon'"),
        ("plan", "+x=3", "unknown setting 'x'"),
        ("plan", "planner.gamma=2", "planner.gamma"),
        ("plan", "guidance.chain=[cfg,enrgy]", "guidance.chain=enrgy is unknown. Did you mean 'energy'"),
        ("plan", "guidance.cfg.w=nan", "guidance.cfg.w is nan, expected a finite number"),
        ("plan", "guidance.cfg.sigma_min=nan", "guidance.cfg.sigma_min is nan, expected a finite number of at least 0"),
        ("plan", "guidance.apg.sigma_max=nan", "guidance.apg.sigma_max is nan, expected a number of at least 0"),
        ("plan", "guidance.energy.margin=0", "guidance.energy.margin is 0.0, expected a finite number above 0"),
        ("plan", "guidance.adaptive.threshold=inf", "guidance.adaptive.threshold is inf, expected a finite number"),
        ("sample", "guidance.zero_star.zero=5", "guidance.zero_star.zero is 5.0, expected a number of at least 0 and"),
        ("sample", "guidance.fdg.scales=[]", "guidance.fdg.scales is empty"),
        ("sample", "guidance.fdg.scales=[2,nan]", "guidance.fdg.scales is nan"),
        ("sample", "guidance.pag.layers=[-1]", "guidance.pag.layers is -1, expected a whole number of at least 0"),
        ("sample", "guidance.elucd.schedule=cosine", "guidance.elucd.schedule=cosine is unknown"),
        ("sample", "guidance.cfgpp.ref_steps=-1", "guidance.cfgpp.ref_steps is -1"),
        ("plan", "device=tpu", "Choose one of: auto, cpu, cuda"),
        ("plan", "seed=-1", "seed=-1: must be at least 0"),
        ("plan", "env.kind=boat", "Choose one of: hovercraft"),
        ("plan", "env.difficulty=3", "must lie in"),
        ("train", "updates=0", "updates=0"),
        ("train", "data.kind=file", "data.path=FILE.hdf5"),
        ("train", "policy.pick=best", "minqc"),
        ("train", "data=dsrl", "data.task=TASK"),
        ("train", "data.task=BallCircle", "goes with data=dsrl, not with data=point_robot"),
        ("train", "policy=bc_safe policy.limit=-1", "policy.limit is -1.0, expected a number of at least 0"),
        ("train", "policy=cpq policy.limit=nan", "policy.limit is nan"),
        ("train", "policy=cpq policy.limit=1 policy.strangers=2", "cpq.strangers is 2.0"),
        ("train", "policy=one_step policy.teacher=''", "policy.teacher is empty"),
        ("evaluate", "planners=[safeplan,mcp]", "'mpc'"),
        ("evaluate", "split=train", "tune, eval"),
        ("density", "system.kind=vpd", "Did you mean 'vdp'"),
        ("density", "particles=1000", "powers of two; use 1024"),
        ("density", "masses=[90]", "such as [0.5,0.9,0.99]"),
        ("density", "seconds=0", "seconds=0"),
    ],
)
def test_our_refusals_name_the_setting(command, override, words):
    with pytest.raises(ConfigError, match=r"\w") as caught:
        composed(command, *override.split())
    assert words in str(caught.value)


def test_guidance_settings_survive_a_study_file():
    cfg = composed("plan", "guidance.chain=[cfg,energy]", "guidance.cfg.w=2").guidance
    assert schema.GuidanceConfig.of(dataclasses.asdict(cfg)) == cfg


def number_fields():
    """Every number setting of every method: (method, setting)."""
    for name in schema.GUIDANCE:
        made = getattr(schema.GuidanceConfig(), name)
        for f in dataclasses.fields(made):
            if isinstance(getattr(made, f.name), float):
                yield name, f.name


@pytest.mark.parametrize(("method", "setting"), list(number_fields()))
def test_no_number_of_guidance_may_be_nan(method, setting):
    """Those that the schema leaves to the class (apg.r) are refused when the method is made."""
    made = schema.GuidanceConfig([method])
    with pytest.raises(ConfigError, match=rf"{setting}\b.*nan"):
        setattr(made, method, dataclasses.replace(getattr(made, method), **{setting: math.nan}))
        build.chain(made, build.Place(classifier=lambda: None))


def test_unlimited_settings_stay_unlimited():
    cfg = composed("plan", "guidance.chain=[cfg,apg]", "guidance.apg.r=inf", "guidance.cfg.sigma_max=inf").guidance
    assert (cfg.apg.r, cfg.cfg.sigma_max) == (math.inf, math.inf) and len(build.chain(cfg, build.Place())) == 2


def test_chains_are_typed():
    cfg = composed("plan", "guidance.chain=[cfg,energy]", "guidance.cfg.w=2")
    assert (cfg.guidance.chain, cfg.guidance.cfg.w) == (["cfg", "energy"], 2.0)


def test_thaw_and_freeze_are_inverse():
    for name in build.SETTINGS:
        cls = build.settings_class(name)
        assert build.freeze(build.thaw(cls)()) == cls()


def test_planner_changes_are_checked():
    cfg = composed("evaluate", "++tuned.mpc.margin=0.2")
    assert build.planner_config(cfg.planner, cfg.tuned["mpc"]).margin == 0.2
    with pytest.raises(ConfigError, match="Did you mean 'margin'"):
        build.planner_config(cfg.planner, {"margn": 0.2})


def test_explain_leaves_other_errors_alone():
    assert explain(ValueError("bug")) is None
