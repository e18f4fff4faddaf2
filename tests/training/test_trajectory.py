"""The trajectory learner on logs of a toy vehicle: one that drives straight to its goal."""

import numpy as np
import pytest
import torch

from safeplan.data import Log
from safeplan.dynamics.observe import observe
from safeplan.dynamics.unicycle import unicycle
from safeplan.errors import CheckpointError, ConfigError, DataError, ShapeError
from safeplan.guidance import CFG, Energy
from safeplan.training import load, train
from safeplan.training.ema_learner import learning_rate
from safeplan.training.trajectory import (
    PAD_WEIGHT,
    TrajectoryConfig,
    TrajectoryLearner,
    entry_weights,
    trajectory_from_log,
)
from safeplan.training.trajectory_codec import Layout, leaves, tokens
from safeplan.types import Goal, Obstacle, Scene

SYSTEM = unicycle()
SMALL = TrajectoryConfig(horizon=10, width=16, emb=32, batch=32, lr=3e-3, warmup=20, decay_updates=0, ema_rate=0.02)


def scene(goal, rng):
    return Scene((Obstacle(*rng.uniform(-3, 3, 2), r=0.2),), Goal(*goal, 0.1), (-4.0, -4.0, 4.0, 4.0))


def make_log(episodes=60, seed=0, bad=()):
    """Unicycles at 1.5 m/s straight towards a goal 1 m away; the yaw often lies near the cut at pi."""
    rng, parts = np.random.default_rng(seed), {k: [] for k in ("o", "n", "a", "r", "c", "t")}
    for e in range(episodes):
        yaw = rng.uniform(-np.pi, np.pi) if e % 2 else np.pi + rng.normal() * 0.05
        direction = np.array([np.cos(yaw), np.sin(yaw)])
        p = rng.uniform(-2, 2, 2)
        there = scene(p + 1.0 * direction, rng)
        for k in range(14):
            x, y = (np.array([*(p + 1.5 * SYSTEM.dt * j * direction), 1.5, yaw]) for j in (k, k + 1))
            x[3], y[3] = (np.arctan2(np.sin(v[3] + 0.01 * (-1) ** k), np.cos(v[3] + 0.01 * (-1) ** k)) for v in (x, y))
            parts["o"].append(observe(SYSTEM, x, there))
            parts["n"].append(observe(SYSTEM, y, there))
            parts["a"].append([0.5, -0.5])
            parts["r"].append(0.1)
            parts["c"].append(float(e in bad))
            parts["t"].append(k == 13)
    f = {k: np.asarray(v, np.float32) for k, v in parts.items()}
    return Log(f["o"], f["n"], f["a"], f["r"], f["c"], f["t"].astype(bool), np.zeros(len(f["t"]), bool))


LOG = make_log()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    learner, source = trajectory_from_log(LOG, SYSTEM, SMALL, seed=1)
    run = tmp_path_factory.mktemp("run")
    train(learner, source, run, updates=160, seed=0, checkpoint_every=160, log_every=20)
    return learner, load(run), run


def test_tokens_are_relative_and_decode_gives_the_trajectory_back():
    learner, source = trajectory_from_log(LOG, SYSTEM, SMALL)
    batch, codec = source.batch(0, 0), learner.codec
    x = tokens(codec.layout, batch["states"], batch["actions"])
    assert x.shape == (32, 12, 6) and x[:, 0, [0, 1, 3]].eq(0).all()
    assert x[..., 3].abs().max() < 0.1  # no jump where the yaw passes pi
    states, controls = codec.decode(codec.encode("token", x), batch["obs"])
    got, want = states.numpy(), batch["states"].numpy()
    np.testing.assert_allclose(SYSTEM.difference(got, want), 0, atol=2e-5)
    np.testing.assert_allclose(controls.numpy(), batch["actions"][:, :-1].numpy(), atol=1e-5)
    start = codec.start(batch["obs"])[:, :4]
    torch.testing.assert_close(start, codec.encode("token", x)[:, 0, :4], rtol=1e-5, atol=1e-5)


def test_windows_run_past_the_end_with_little_weight():
    _, source = trajectory_from_log(LOG, SYSTEM, SMALL)
    assert len(source.starts) == len(LOG)
    last = source.starts[13] + source.offsets  # starts at the last transition of episode 0
    states, alive = source.columns["states"][last], source.columns["alive"][last]
    assert alive.tolist() == [1.0, 1.0] + [0.0] * 9
    np.testing.assert_array_equal(states[0], LOG.observations[13, :4])
    for row in states[1:]:
        np.testing.assert_array_equal(row, LOG.next_observations[13, :4])
    layout = Layout.of(SYSTEM, 10, LOG.observations.shape[1])
    w = entry_weights(layout, alive[None])
    assert w[0, :2, 0].eq(1).all() and w[0, 2:, 0].eq(PAD_WEIGHT).all()
    assert w[0, 0, 4] == 1 and w[0, 1:, 4].eq(PAD_WEIGHT).all()  # only the first action has an outcome


def test_windows_with_a_cost_are_left_out_and_better_ones_weigh_more():
    log = make_log(10, bad=(0, 1, 2))
    _, source = trajectory_from_log(log, SYSTEM, SMALL)
    assert len(source.starts) == 7 * 14
    full, late = source.labels["weights"][0], source.labels["weights"][13]
    assert full > late  # ten rewards against one
    assert source.labels["weights"].mean().item() == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(DataError, match="every window"):
        trajectory_from_log(make_log(2, bad=(0, 1)), SYSTEM, SMALL)
    _, both = trajectory_from_log(log, SYSTEM, TrajectoryConfig(safe_only=False))
    assert len(both.starts) == len(log)


def test_it_learns_to_drive_to_the_goal(trained):
    _, model, run = trained
    rng = np.random.default_rng(5)
    x = np.array([0.5, -0.5, 1.5, 0.3])
    goal = x[:2] + np.array([np.cos(0.3), np.sin(0.3)])
    obs = observe(SYSTEM, x, scene(goal, rng)).astype(np.float32)
    states, controls = model.sample(obs, 8, steps=6, seed=3)
    assert states.shape == (8, 11, 4) and controls.shape == (8, 10, 2)
    np.testing.assert_allclose(states[:, 0], np.tile(x, (8, 1)), atol=1e-5)  # pinned
    end = x[:2] + 1.5 * SYSTEM.dt * 10 * np.array([np.cos(0.3), np.sin(0.3)])
    assert np.linalg.norm(states[:, -1, :2] - end, axis=1).mean() < 0.25
    np.testing.assert_allclose(controls.mean((0, 1)), [0.5, -0.5], atol=0.15)
    rows = (run / "metrics.csv").read_text().splitlines()[1:]
    assert float(rows[-1].split(",")[1]) < 0.5 * float(rows[0].split(",")[1])


def test_samples_depend_on_seed_and_row_not_on_the_batch(trained):
    _, model, _ = trained
    obs = LOG.observations[[0, 30]]
    a, _ = model.sample(obs, 3, seed=1, steps=4)
    b, _ = model.sample(obs[:1], 3, seed=1, steps=4)
    np.testing.assert_allclose(a[:3], b, atol=1e-4)
    c, _ = model.sample(obs[:1], 3, seed=2, steps=4)
    assert np.abs(c - b).max() > 1e-3
    d, _ = model.sample(obs, 3, seed=1, steps=4, max_rows=4)
    np.testing.assert_allclose(a, d, atol=1e-4)


def test_chains_steer_samples_in_physical_units(trained):
    """An energy that asks for another end moves the end there, in metres; the start stays."""
    _, model, _ = trained
    obs = LOG.observations[[40]]
    seen = []

    def pull(rows):
        target = rows[:, :2] + torch.tensor([0.0, 0.4])

        def energy(y):
            seen.append(tuple(y.shape))
            return 200.0 * (y[:, -1, :2] - target).square().sum(1)

        return (CFG(1.2), Energy(energy, metric="scalar"))

    plain, _ = model.sample(obs, 4, seed=0, steps=6)
    moved, controls = model.sample(obs, 4, pull, seed=0, steps=6)
    want = obs[0, :2] + np.array([0.0, 0.4])
    before, after = (np.linalg.norm(v[:, -1, :2] - want, axis=1).mean() for v in (plain, moved))
    assert after < 0.7 * before
    assert seen[0] == (4, 11, 6)
    np.testing.assert_allclose(moved[:, 0, :2], plain[:, 0, :2], atol=1e-6)
    assert (np.abs(controls) <= 1).all()


def test_support_tells_logs_from_strangers(trained):
    _, model, _ = trained
    assert model.supported(LOG.observations).all() and model.support(LOG.observations).max() <= 1 + 1e-4
    fast = LOG.observations[:1].copy()
    fast[0, 2] = 9.0
    far = LOG.observations[:1].copy()
    far[0, :2] += 100.0  # place alone does not matter
    lost = LOG.observations[:1].copy()
    lost[0, 4:6] = 50.0
    nan = LOG.observations[:1].copy()
    nan[0, 7] = np.nan
    assert model.supported(np.concatenate([fast, far, lost, nan])).tolist() == [False, True, False, False]


def test_resume_is_bit_exact(tmp_path):
    def run(folder, *stops):
        for updates in stops:
            learner, source = trajectory_from_log(LOG, SYSTEM, SMALL, seed=1)
            train(learner, source, tmp_path / folder, updates=updates, seed=0, checkpoint_every=3, log_every=3)
        return learner

    whole, parts = run("a", 6), run("b", 3, 6)
    for (k, v), w in zip(whole.ema.state_dict().items(), parts.ema.state_dict().values(), strict=True):
        assert torch.equal(v, w), k
    assert whole.updates == parts.updates == 6


def test_errors_are_clear(trained):
    learner, model, _ = trained
    with pytest.raises(ShapeError, match="8 per slot"):
        Layout.of(SYSTEM, 10, 20)
    with pytest.raises(ShapeError, match="observations are"):
        leaves(learner.codec.layout, torch.zeros(2, 9))
    with pytest.raises(ConfigError, match="sampler"):
        model.sample(LOG.observations[0], 2, sampler="magic")
    with pytest.raises(ConfigError, match="n is 0"):
        model.sample(LOG.observations[0], 0)
    with pytest.raises(ConfigError, match=r"trajectory\.predict is 'score', expected one of x0, v, eps"):
        TrajectoryConfig(predict="score")
    with pytest.raises(DataError, match="actions"):
        short = Log(**{**LOG.columns, "actions": LOG.actions[:, :1]})
        trajectory_from_log(short, SYSTEM, SMALL)
    tensors, meta = learner.export()
    with pytest.raises(CheckpointError, match="Train again"):
        TrajectoryLearner.restore({k: v for k, v in tensors.items() if k != "net.inp.weight"}, meta)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("horizon", 0, "at least 1"),
        ("batch", 1.5, "a whole number"),
        ("width", 12, "a multiple of 8"),
        ("warmup", -1, "at least 0"),
        ("decay_updates", -5, "at least 0"),
        ("lr", 0.0, "above 0"),
        ("lr", float("nan"), "above 0"),
        ("lr", float("inf"), "finite"),
        ("clip_grad", 0.0, "above 0"),
        ("weight_decay", -1.0, "at least 0"),
        ("temperature", float("inf"), "finite"),
        ("ema_rate", 0.0, "above 0 and at most 1"),
        ("drop", 1.0, "below 1"),
        ("weight_clip", 0.5, "at least 1"),
    ],
)
def test_settings_out_of_range_are_named(name, value, expected):
    with pytest.raises(ConfigError, match=rf"trajectory\.{name} is {value}, expected .*{expected}"):
        TrajectoryConfig(**{name: value})


def test_learning_rate_warms_up_and_decays():
    c = TrajectoryConfig(lr=1.0, warmup=10, decay_updates=100)
    assert learning_rate(c, 0) == pytest.approx(0.1) and learning_rate(c, 100) == pytest.approx(0.1)
    assert learning_rate(c, 10) > 0.9 and learning_rate(TrajectoryConfig(decay_updates=0), 10**6) == 1e-3
