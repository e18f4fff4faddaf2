"""Settings become the objects that they name: proposers with their chains, rivals, policies, episodes."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from safeplan import build, schema
from safeplan.data import Log, Normalizer, write_log
from safeplan.dynamics.observe import observation_size, observe
from safeplan.errors import CapabilityError, CheckpointError, ConfigError, DataError, PlanError
from safeplan.feasibility import Fisor, FisorConfig
from safeplan.planning import FanProposer, LearnedProposer
from safeplan.planning.config import PlannerConfig
from safeplan.rng import torch_rng
from safeplan.training import FisorLearner, save_model
from safeplan.training.trajectory import TrajectoryConfig, trajectory_from_log


def a_log(made: build.Task, episodes: int = 4, steps: int = 30) -> Log:
    """Random driving, with observations as the environments give them."""
    rng, system = np.random.default_rng(0), made.system
    rows = []
    for i in range(episodes):
        world = build.task(schema.EnvConfig(made.kind), "train", i).world
        for k in range(steps):
            action = rng.uniform(-1, 1, system.m)
            before = observe(system, world.x, world.scene())
            world.step(system.control_low + 0.5 * (action + 1) * (system.control_high - system.control_low))
            after = observe(system, world.x, world.scene())
            rows.append((before, after, action, 0.1 * rng.normal(), 0.0, k == steps - 1))
    o, p, a, r, c, t = (np.array(v, np.float32) for v in zip(*rows, strict=True))
    return Log(o, p, a, r, c, np.zeros(len(t), bool), t.astype(bool))


@pytest.fixture(scope="module")
def made() -> build.Task:
    return build.task(schema.EnvConfig("hovercraft"), "demo", 0)


@pytest.fixture(scope="module")
def weights(made, tmp_path_factory):
    """A hardly trained trajectory model: enough for shapes and for what guidance does to it."""
    learner, source = trajectory_from_log(a_log(made), made.system, TrajectoryConfig(width=8, emb=16, warmup=1))
    for i in range(25):
        learner.update(source.batch(i, 0), torch_rng(0, "update", i))
    tensors, meta = learner.export()
    return str(save_model(tmp_path_factory.mktemp("w") / "t.safetensors", "trajectory", tensors, meta))


def guidance(*chain: str, **energy: float) -> schema.GuidanceConfig:
    return schema.GuidanceConfig(list(chain), energy=schema.EnergyConfig(**energy))


def test_splits_and_seeds_give_other_scenes():
    pairs = (("demo", 0), ("eval", 0), ("demo", 1))
    scenes = [build.task(schema.EnvConfig("hovercraft"), split, seed).scene for split, seed in pairs]
    assert scenes[0] != scenes[1] and scenes[0] != scenes[2]
    assert scenes[0] == build.task(schema.EnvConfig("hovercraft"), "demo", 0).scene


@pytest.mark.parametrize("kind", schema.ENVS)
def test_the_system_table_agrees_with_the_environments(kind):
    system = build.task(schema.EnvConfig(kind), "demo", 0).system
    again = build.system_of({"env": kind})
    assert (again.name, again.states, again.controls, again.params) == (
        system.name,
        system.states,
        system.controls,
        system.params,
    )


def test_system_of_refuses_what_it_does_not_know():
    with pytest.raises(DataError, match="hovercraft"):
        build.system_of({"env": "boat"})


def test_device():
    assert build.device("cpu") == "cpu" and build.device("auto") in ("cpu", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(CapabilityError, match="device=cpu"):
            build.device("cuda")


def test_proposers(made, weights):
    assert isinstance(build.proposer(made.system, 20, "none", "auto", guidance(), "hovercraft"), FanProposer)
    assert isinstance(build.proposer(made.system, 20, "auto", "auto", guidance(), None), FanProposer)
    learned = build.proposer(made.system, 20, weights, "none", guidance("cfg", "energy"), "hovercraft")
    assert isinstance(learned, LearnedProposer)
    out = learned(made.world.x, made.scene, 3, 0)
    assert out.states.shape == (3, 21, 9) and out.controls.shape == (3, 20, 3)
    assert np.isfinite(out.states).all() and np.isfinite(out.controls).all()
    again = learned(made.world.x, made.scene, 3, 0)
    np.testing.assert_array_equal(out.states, again.states)
    other = build.task(schema.EnvConfig("driving"), "demo", 0)
    with pytest.raises(CheckpointError, match="9 states and 3 controls"):
        build.proposer(other.system, 20, weights, "none", guidance(), "driving")


def test_proposals_are_ranked_by_fisor(made, weights, tmp_path):
    path = fisor_file(tmp_path / "f.safetensors", observation_size(made.system), made.system.m)
    ranked = build.proposer(made.system, 20, weights, path, guidance(), "hovercraft")
    out = ranked(made.world.x, made.scene, 3, 0)
    assert out.value is not None and np.isfinite(out.value(out.states[:, -1], made.scene)).all()


def test_the_chain_is_what_the_settings_say(made, weights):
    def states(*chain, **energy):
        proposer = build.proposer(made.system, 20, weights, "none", guidance(*chain, **energy), "hovercraft")
        return proposer(made.world.x, made.scene, 4, 0).states

    plain, off, pushed = states(), states("energy", scale=0.0), states("energy", scale=2.0, margin=3.0)
    np.testing.assert_allclose(off, plain, atol=1e-6)
    assert np.abs(pushed - plain).max() > 1e-3 and np.isfinite(pushed).all()
    assert np.abs(states("cfg") - plain).max() > 1e-6


def test_one_table_serves_vehicles_and_images(made):
    cfg = guidance("cfg", "energy")
    (cfg_method, energy) = build.chain(cfg, build.Place(made.system, torch.zeros(1, observation_size(made.system))))
    assert (cfg_method.w, energy.scale) == (cfg.cfg.w, cfg.energy.scale)
    assert (
        build.chain(guidance("cfg"), build.Place())[0].w == cfg.cfg.w and build.chain(guidance(), build.Place()) == ()
    )
    with pytest.raises(CapabilityError, match="images have none"):
        build.chain(cfg, build.Place())
    with pytest.raises(CapabilityError, match="needs an image classifier"):
        build.Place().critic()
    assert build.Place(classifier=lambda: 3).critic() == 3


def test_rivals_share_all_but_what_they_are(made):
    cfg = schema.PilotConfig(weights="none")
    cfg.planner = PlannerConfig(horizon=8)
    ours = build.planner(made, cfg)
    mpc = build.planner(made, cfg, rival="mpc", changes={"margin": 0.1})
    density = build.planner(made, cfg, rival="density_mpc")
    assert ours.cfg == density.cfg == cfg.planner and ours.proposer is not None and density.proposer is None
    fan = build.planner(made, cfg, rival="fan")
    assert isinstance(fan.proposer, FanProposer) and fan.cfg == ours.cfg
    assert not mpc.cfg.uncertainty and mpc.cfg.margin == 0.1 and mpc.proposer is None
    with pytest.raises(ConfigError, match="fisor"):
        build.planner(made, cfg, rival="fisor")


def fisor_file(path, obs_size: int, act_size: int):
    config = FisorConfig(batch=8, critic_rows=4, actor_steps=1, hidden=8, actor_width=8, actor_blocks=1, candidates=2)
    learner = FisorLearner(Fisor(obs_size, act_size, config, normalizer=Normalizer.identity(obs_size)))
    return str(save_model(path, "fisor", *learner.export()))


def test_an_episode_of_every_planner_is_a_row(made, weights, tmp_path):
    path = fisor_file(tmp_path / "f.safetensors", observation_size(made.system), made.system.m)
    cfg = schema.EvaluateConfig(name="e", env=schema.EnvConfig("hovercraft", max_seconds=0.7), weights=weights)
    cfg.planner, cfg.fisor_weights = PlannerConfig(horizon=8, clock="cpu"), path
    settings = asdict(cfg)
    build.check_study(settings, schema.PLANNERS, "cpu")
    keys = {"reached", "collided", "seconds", "clearance", "statuses", "planning_ms"}
    for rival in schema.PLANNERS:
        row = build.episode(settings, "cpu", rival, 3)
        assert set(row) == keys and not row["reached"] and len(row["planning_ms"]) > 0
        again = build.episode(settings, "cpu", rival, 3)  # whatever ran before it
        assert {**row, "planning_ms": 0} == {**again, "planning_ms": 0}


def test_a_planner_that_breaks_is_no_row_of_a_study(made, monkeypatch):
    cfg = schema.EvaluateConfig(name="e", env=schema.EnvConfig("hovercraft", max_seconds=0.7), weights="none")
    cfg.planner = PlannerConfig(horizon=8, clock="cpu")

    def broken(*_):
        raise RuntimeError("out of luck")

    monkeypatch.setattr("safeplan.planning.candidates.Candidates.rank", broken)
    with pytest.raises(PlanError, match="planner mpc, seed 3: planning failed: RuntimeError: out of luck"):
        build.episode(asdict(cfg), "cpu", "mpc", 3)
    with pytest.raises(ConfigError, match="learned proposals"):
        build.check_study({**asdict(cfg), "fisor_weights": "auto"}, ["fisor"], "cpu")


def test_a_policy_for_another_vehicle_is_refused(made, tmp_path):
    with pytest.raises(CheckpointError, match="expected a FISOR agent with 63 observations"):
        build.policy(made.system, fisor_file(tmp_path / "f.safetensors", 5, 3), "hovercraft")


def test_missing_shipped_weights_say_what_to_do(made, monkeypatch, tmp_path):
    monkeypatch.setattr(build.planners, "shipped_weights", lambda kind, model: tmp_path / f"{model}.safetensors")
    with pytest.raises(CheckpointError, match="weights=none"):
        build.proposer(made.system, 20, "auto", "none", guidance(), "hovercraft")
    with pytest.raises(CheckpointError, match="fisor_weights=none"):
        build.policy(made.system, "auto", "hovercraft")


def test_the_point_robot_has_no_learned_model():
    """What its logs train fits the study of its unsafe set, not its environment: do not send anybody to train."""
    robot = build.task(schema.EnvConfig("point_robot"), "demo", 0).system
    for ask in (
        lambda: build.proposer(robot, 20, "auto", "auto", guidance(), "point_robot"),
        lambda: build.policy(robot, "auto", "point_robot"),
    ):
        with pytest.raises(CheckpointError, match="weights=none fisor_weights=none") as caught:
            ask()
        assert "safeplan train" not in str(caught.value)


def test_shipped_weights_lie_in_the_package():
    path = build.shipped_weights("hovercraft", "trajectory")
    assert path.parts[-4:] == ("safeplan", "weights", "hovercraft", "trajectory.safetensors")


def test_learners(made, tmp_path):
    path = write_log(tmp_path / "log.hdf5", a_log(made))
    data = schema.DataConfig("file", str(path))
    cfg = schema.TrainConfig(name="t", device="cpu", data=data)
    cfg.policy = build.thaw(TrajectoryConfig, kind="trajectory")(width=8, emb=16, batch=4)
    with pytest.raises(ConfigError, match=r"data\.system"):
        build.learner(cfg)
    cfg.data.system = "hovercraft"
    learner, source = build.learner(cfg)
    assert learner.kind == "trajectory" and len(source.batch(0, 0)["obs"]) == 4
    cfg.policy = build.thaw(FisorConfig, kind="fisor")(batch=4, critic_rows=4, actor_steps=1)
    learner, source = build.learner(cfg)
    assert learner.kind == "fisor" and len(source.batch(0, 0)["actions"]) == 4


REFUSED = {"pag": "perturb:pag", "autoguidance": "net:weak", "gfcg": "classifier", "elucd": "classifier"}


@pytest.mark.parametrize("name", schema.GUIDANCE)
def test_every_method_steers_trajectories_or_says_what_it_lacks(made, weights, name):
    chain = ["cfg", "rescale"] if name == "rescale" else [name]
    plain = build.proposer(made.system, 20, weights, "none", guidance(), "hovercraft")
    base = (
        build.proposer(made.system, 20, weights, "none", guidance("cfg"), "hovercraft") if name == "rescale" else plain
    )
    steered = build.proposer(made.system, 20, weights, "none", schema.GuidanceConfig(chain), "hovercraft")
    if name in REFUSED:
        with pytest.raises(CapabilityError, match=REFUSED[name]):
            steered(made.world.x, made.scene, 3, 0)
        return
    states = steered(made.world.x, made.scene, 3, 0).states
    assert np.isfinite(states).all() and np.allclose(states[:, 0], made.world.x, atol=1e-3)
    assert np.abs(states - base(made.world.x, made.scene, 3, 0).states).max() > 1e-6


def test_proposals_know_the_noise_levels_that_cfgpp_refers_to(made, weights):
    """With ref_steps the strength is that of so many steps of the model's own path."""
    states = []
    for ref_steps in (8, 64):
        cfg = schema.GuidanceConfig(["cfgpp"], cfgpp=schema.CfgppConfig(0.6, ref_steps))
        states.append(
            build.proposer(made.system, 20, weights, "none", cfg, "hovercraft")(made.world.x, made.scene, 3, 0)
        )
    assert all(np.isfinite(s.states).all() for s in states)
    assert np.abs(states[0].states - states[1].states).max() > 1e-6
