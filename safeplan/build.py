"""Settings to objects, through closed tables keyed by `kind`. The only place that knows both configs and classes."""

import dataclasses
import hashlib
import importlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from safeplan import schema
from safeplan.errors import CapabilityError, CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from safeplan.data import Log
    from safeplan.dynamics import System
    from safeplan.dynamics.world import World
    from safeplan.planning import Planner, PlannerConfig, Proposer
    from safeplan.training import Learner, Source
    from safeplan.types import Scene

ENV_IDS = {
    "hovercraft": "safeplan_envs:safeplan/Hovercraft-v0",
    "driving": "safeplan_envs:safeplan/Driving-v0",
    "point_robot": "safeplan_envs:safeplan/PointRobot-v0",
}
COMMANDS = {
    "plan": schema.PlanConfig,
    "train": schema.TrainConfig,
    "evaluate": schema.EvaluateConfig,
    "verify": schema.VerifyConfig,
    "info": schema.InfoConfig,
}
# settings that live beside their classes: name in the schema group -> module and class
SETTINGS = {
    "planner": ("safeplan.planning.config", "PlannerConfig"),
    "fisor": ("safeplan.feasibility.config", "FisorConfig"),
    "trajectory": ("safeplan.training.trajectory", "TrajectoryConfig"),
}
NEEDS = {"plan": ("planner",), "train": ("fisor", "trajectory"), "evaluate": ("planner",)}  # command -> SETTINGS


# ---------------------------------------------------------------- settings
def thaw(cls: type, **fixed: Any) -> type:
    """A mutable twin of a frozen settings class, for OmegaConf; `fixed` adds fields with one value, such as `kind`.

    Its `__post_init__` builds the frozen original, so that bad values are refused when the settings are read.
    """
    hints = get_type_hints(cls)
    fields: list[Any] = [(k, type(v), dataclasses.field(default=v)) for k, v in fixed.items()]
    for f in dataclasses.fields(cls):
        given = {k: v for k in ("default", "default_factory") if (v := getattr(f, k)) is not dataclasses.MISSING}
        fields.append((f.name, hints[f.name], dataclasses.field(**given)))

    def check(self: Any) -> None:
        freeze(self)

    return dataclasses.make_dataclass(cls.__name__, fields, namespace={"__post_init__": check, "origin": cls})


def freeze(twin: Any) -> Any:
    """The frozen settings that a thawed twin stands for."""
    cls = type(twin).origin
    return cls(**{f.name: getattr(twin, f.name) for f in dataclasses.fields(cls)})


def settings_class(name: str) -> type:
    """The frozen settings class behind a name of SETTINGS."""
    module, cls = SETTINGS[name]
    return getattr(importlib.import_module(module), cls)


def register(command: str) -> None:
    """Tell Hydra the schemas that a command needs: `schema/<command>` and `schema/<settings>`."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name=command, node=COMMANDS[command])
    for name in NEEDS.get(command, ()):
        fixed = {"kind": name} if name in schema.POLICIES else {}
        store.store(group="schema", name=name, node=thaw(settings_class(name), **fixed))


# ---------------------------------------------------------------- objects
SYSTEMS = {
    "hovercraft": ("safeplan.dynamics.hovercraft", "hovercraft"),
    "driving": ("safeplan.dynamics.bicycle", "bicycle"),
    "point_robot": ("safeplan.dynamics.unicycle", "unicycle"),
}


def device(name: str) -> str:
    """`auto` resolved; CapabilityError when CUDA is asked for and absent."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise CapabilityError("device=cuda, but torch finds no CUDA device. Use device=cpu or a CUDA build of torch")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def env(cfg: schema.EnvConfig, split: str, **options: Any) -> Any:
    """The Gymnasium environment, unwrapped; `split` names its random stream."""
    import gymnasium as gym

    options |= {"difficulty": cfg.difficulty, "split": split, "max_seconds": cfg.max_seconds}
    return gym.make(ENV_IDS[cfg.kind], **options).unwrapped


@dataclass(frozen=True)
class Task:
    """One episode to be flown: the simulated truth, and where it came from."""

    system: "System"
    world: "World"
    scene: "Scene"  # at time 0
    max_seconds: float
    kind: str | None  # the env, or None for a vehicle of the user's own
    source: dict[str, Any]  # for plan.json: enough to build the system again


def task(
    cfg: schema.EnvConfig, split: str, seed: int, system_file: str | None = None, scene: str | None = None
) -> Task:
    """Episode `seed` of an env, or of a user's vehicle in a scene of the user's own.

    Raises:
        ConfigError: a vehicle without a scene; a fault in the vehicle's file.
        DataError: a fault in the scene's file.
    """
    from safeplan.dynamics.world import World
    from safeplan.dynamics.own import load_scene, load_vehicle
    from safeplan.rng import numpy_rng

    if system_file is None:
        made = env(cfg, split)
        options = {}
        if scene is not None:
            options = dict(zip(("scene", "start"), load_scene(scene, made.system), strict=True))
        made.reset(seed=seed, options=options)
        world = made.world
        return Task(made.system, world, world.initial, cfg.max_seconds, cfg.kind, {"env": cfg.kind})
    if scene is None:
        raise ConfigError("system.file needs a scene: scene=FILE.yaml (see scripts/examples/scene.yaml)")
    vehicle = load_vehicle(system_file)
    there, start = load_scene(scene, vehicle.system)
    world = World(vehicle.system, there, vehicle.belief(start), numpy_rng(seed, "own", split), cfg.max_seconds + 1.0)
    source = {"file": str(Path(system_file).resolve()), "sha256": digest(system_file)}
    return Task(vehicle.system, world, there, cfg.max_seconds, None, source)


def digest(path: str | Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def system_of(source: dict[str, Any]) -> "System":
    """The system that a plan.json names: of an env, or from the user's file, which must not have changed.

    Raises:
        DataError: it is neither, or the file has changed.
    """
    from safeplan.dynamics.own import load_vehicle

    if source.get("env") in SYSTEMS:
        module, name = SYSTEMS[source["env"]]
        return getattr(importlib.import_module(module), name)()
    if "file" not in source:
        raise DataError(f"plan: its system is {source}, expected an env ({', '.join(SYSTEMS)}) or a file")
    vehicle = load_vehicle(source["file"])
    if digest(source["file"]) != source.get("sha256"):
        raise DataError(f"plan: {source['file']} has changed since the plan was made; plan again to verify")
    return vehicle.system


def shipped_weights(kind: str, model: str) -> Path:
    """Where the weights of an env that come with the package lie; they need not exist."""
    return Path(__file__).parent / "weights" / kind / f"{model}.safetensors"


def planner_config(shared: Any, changes: dict[str, Any] | None = None) -> "PlannerConfig":
    """Frozen planner settings from the read ones (a thawed twin or a dict), with `changes` on top.

    Raises:
        ConfigError: a change that no setting is called.
    """
    from safeplan.planning import PlannerConfig

    base = dict(shared) if isinstance(shared, dict) else dataclasses.asdict(shared)
    known = [f.name for f in dataclasses.fields(PlannerConfig)]
    for key in changes or {}:
        if key not in known:
            raise ConfigError(f"tuned: {key!r} is no planner setting.{schema.did_you_mean(key, known)}")
    return PlannerConfig(**{**base, **(changes or {})})


def proposer(
    system: "System", horizon: int, weights: str, guidance: schema.GuidanceConfig, kind: str | None, device: str
) -> "Proposer":
    """The source of proposals: a trajectory model with its guidance chain, or a fan of detours.

    Raises:
        CheckpointError: the weights are missing, corrupt, or no trajectory model of this system.
    """
    from safeplan.planning import FanProposer, LearnedProposer
    from safeplan.training import load
    from safeplan.training.trajectory_model import TrajectoryModel

    if weights == "none" or (weights == "auto" and kind is None):
        speeds = [abs(q.high) for q in system.states if q.unit == "m/s" and abs(q.high) < float("inf")]
        return FanProposer(system, horizon, 0.6 * max(speeds, default=1.0))
    path = shipped_weights(kind or "", "trajectory") if weights == "auto" else Path(weights)
    if weights == "auto" and not path.is_file():
        raise CheckpointError(
            f"no weights come with env={kind} ({path}). Train some (safeplan train policy=trajectory data={kind}) and give "
            "weights=RUN_FOLDER, or use weights=none: a fan of detours instead of learned proposals"
        )
    model = load(path, device)
    if not isinstance(model, TrajectoryModel):
        raise CheckpointError(f"weights={path}: holds a {type(model).__name__}, expected a trajectory model")
    layout = model.codec.layout
    if (layout.n, layout.m) != (system.n, system.m):
        raise CheckpointError(
            f"weights={path}: made for {layout.n} states and {layout.m} controls, system {system.name!r} has {system.n} "
            f"and {system.m}"
        )
    return LearnedProposer(system, model, horizon, chain=chain(system, guidance))


def chain(system: "System", cfg: schema.GuidanceConfig) -> Any:
    """The guidance chain, as a function of the observations `[rows, O]` that the samples start from."""
    from safeplan.guidance import CFG, Energy
    from safeplan.guidance.clearance import clearance_energy

    c, e = cfg.cfg, cfg.energy
    make = {
        "cfg": lambda obs: CFG(c.w, interval=(c.sigma_min, c.sigma_max)),
        "energy": lambda obs: Energy(
            clearance_energy(system, obs, e.margin), scale=e.scale, interval=(e.sigma_min, e.sigma_max)
        ),
    }
    return lambda obs: tuple(make[name](obs) for name in cfg.chain)


def planner(
    task: Task,
    settings: Any,
    weights: str,
    guidance: schema.GuidanceConfig,
    device: str = "cpu",
    *,
    rival: str = "safeplan",
    changes: dict[str, Any] | None = None,
) -> "Planner":
    """The planner of a task. Rivals use the same optimiser: `mpc` ignores uncertainty, `density_mpc` has no proposals."""
    from safeplan.planning import Planner

    if rival not in ("safeplan", "mpc", "density_mpc"):
        raise ConfigError(f"planner {rival!r}: not one that plans with the optimiser")
    cfg = planner_config(settings, {"uncertainty": rival != "mpc", **(changes or {})})
    source = None
    if rival == "safeplan":
        source = proposer(task.system, cfg.horizon, weights, guidance, task.kind, device)
    return Planner(task.system, cfg, source)


def episode(settings: dict[str, Any], device: str, rival: str, seed: int) -> dict[str, Any]:
    """One closed-loop episode of a study; `settings` is `asdict` of an EvaluateConfig. Planners are built once per process."""
    from safeplan.planning import run_mission

    cfg = schema.EnvConfig(**settings["env"])
    flown = task(cfg, settings["split"], seed)
    pilot = _planner(json.dumps(settings), device, rival)
    mission = run_mission(flown.world, pilot, seed, max_seconds=cfg.max_seconds)
    statuses = [p.status.value for _, p in mission.plans]
    return {
        "reached": mission.reached,
        "collided": mission.collided,
        "seconds": round(mission.seconds, 3),
        "clearance": mission.clearance,
        "statuses": {s: statuses.count(s) for s in sorted(set(statuses))},
        "planning_ms": [round(1e3 * s, 1) for s in mission.planning_s],
    }


@lru_cache(maxsize=8)
def _planner(settings: str, device: str, rival: str) -> "Planner":
    s = json.loads(settings)
    flown = task(schema.EnvConfig(**s["env"]), s["split"], 0)
    g = s["guidance"]
    guidance = schema.GuidanceConfig(g["chain"], schema.CfgConfig(**g["cfg"]), schema.EnergyConfig(**g["energy"]))
    return planner(flown, s["planner"], s["weights"], guidance, device, rival=rival, changes=s["tuned"].get(rival))


# ---------------------------------------------------------------- training
def log(cfg: schema.DataConfig) -> "Log":
    """The log that a data setting names; generated ones are generated on first use."""
    from safeplan.data import load_log
    from safeplan.evaluation.point_robot import write_point_robot

    if cfg.kind == "file":
        path = cfg.path or ""
        if Path(path).suffix not in (".hdf5", ".h5"):
            raise ConfigError(f"data.path={path}: give a file that ends in .hdf5 or .h5")
        return load_log(path)
    return load_log(cfg.kind, seed=cfg.seed, makers={"point_robot": write_point_robot})


def learner(cfg: schema.TrainConfig) -> tuple["Learner", "Source"]:
    """What is trained, and where its batches come from."""
    from safeplan.training import fisor_from_log
    from safeplan.training.trajectory import trajectory_from_log

    where, settings = device(cfg.device), freeze(cfg.policy)
    if cfg.policy.kind == "fisor":
        return fisor_from_log(log(cfg.data), settings, seed=cfg.seed, device=where)
    if cfg.data.system not in SYSTEMS:
        raise ConfigError(
            f"policy=trajectory needs to know the vehicle of the log: data.system=... (one of {', '.join(SYSTEMS)})"
        )
    system = system_of({"env": cfg.data.system})
    return trajectory_from_log(log(cfg.data), system, settings, seed=cfg.seed, device=where)
