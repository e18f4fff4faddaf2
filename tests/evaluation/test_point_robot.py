"""The point robot's log is what it says, and its true infeasible set has the properties that physics gives it."""

import json

import numpy as np
import pytest

from safeplan.data import load_log, read_log
from safeplan.evaluation import feasible_set as fs
from safeplan.evaluation import point_robot as pr
from safeplan.rng import numpy_rng


@pytest.fixture(scope="module")
def log():
    return pr.make_log(0, transitions=20_000, parallel=100)


@pytest.fixture(scope="module")
def grid():
    return fs.make_grid(41, (0.0, 0.5, 1.0, 1.5, 2.0), 4)


def test_log_is_consistent(log):
    o, n = log.observations, log.next_observations
    assert o.shape == (len(log), 11) and log.actions.shape == (len(log), 2)
    a, b = log.episodes.T
    inside = np.setdiff1d(np.arange(len(log) - 1), b - 1)
    np.testing.assert_array_equal(o[inside + 1], n[inside])  # the next row goes on where this one ended
    assert (b - a).max() <= pr.STEPS
    np.testing.assert_allclose(log.extra["h"], pr.RADIUS - np.minimum(o[:, 5], o[:, 8]), atol=1e-5)
    assert ((log.extra["h"] > 0) == (log.costs > 0)).all()
    assert np.abs(log.actions).max() <= 1 and o[:, 2].min() >= 0 and o[:, 2].max() <= 2
    gone = np.hypot(*(o[:, :2] - pr.GOAL).T) - np.hypot(*(n[:, :2] - pr.GOAL).T)
    np.testing.assert_allclose(log.rewards, gone + log.terminals, atol=1e-5)
    assert (np.hypot(*(n[log.terminals, :2] - pr.GOAL).T) <= pr.GOAL_RADIUS + 1e-5).all()


def test_log_covers_what_decides(log):
    """Fast and close to a disc, braking and turning hard, safe and unsafe; the same seed gives the same log."""
    h, v = log.extra["h"], log.observations[:, 2]
    near = (h > -0.5) & (h < 0) & (v > 1.5)
    assert near.sum() > 200
    assert (log.actions[near, 0] < -0.5).mean() > 0.1
    assert (log.actions[near, 1] > 0.7).mean() > 0.05 and (log.actions[near, 1] < -0.7).mean() > 0.05
    assert 0.05 < log.costs.mean() < 0.4
    assert pr.make_log(3, 1000, 50).digest() == pr.make_log(3, 1000, 50).digest() != pr.make_log(4, 1000, 50).digest()


def test_generated_on_demand(tmp_path, monkeypatch):
    monkeypatch.setattr(pr, "make_log", lambda seed, f=pr.make_log: f(seed, 500, 50))
    made = load_log("point_robot", root=tmp_path, seed=5, makers={"point_robot": pr.write_point_robot})
    assert made.attrs["seed"] == 5 and made.digest() == read_log(tmp_path / "point_robot_seed5.hdf5").digest()


def test_truth_contains_the_discs_and_is_the_discs_at_rest(grid):
    inside = pr.violation(grid.x) > 0
    assert grid.truth[inside].all()
    np.testing.assert_array_equal(grid.truth[0], inside[0])  # speed 0
    assert grid.truth[-1].sum() > 1.3 * inside[-1].sum()


def test_truth_grows_with_speed(grid):
    for slow, fast in zip(grid.truth, grid.truth[1:], strict=False):
        assert not (slow & ~fast).any()


def test_states_beyond_a_disc_or_out_of_reach_are_feasible(grid):
    px, py, v, yaw = grid.x
    outside = pr.violation(grid.x) <= 0
    away = np.ones(px.shape, bool)
    for cx, cy in pr.HAZARDS:  # moving away from both centres
        away &= (px - cx) * np.cos(yaw) + (py - cy) * np.sin(yaw) > 0
    assert not grid.truth[outside & away & (v <= 1.0)].any()
    far = pr.violation(grid.x) < -(v**2 / 2 + 0.1)  # braking distance at 1 m/s^2
    assert not grid.truth[far].any()


def test_truth_by_hand():
    """Head on to the first disc: 2 m of braking distance at full speed, and turning away helps when off the axis."""
    cx, cy = pr.HAZARDS[0]
    head_on = lambda gap, side=0.0: np.array([[cx - 0.8 - gap], [cy + side], [2.0], [0.0]])  # noqa: E731
    assert fs.infeasible(head_on(0.3)).all()
    assert not fs.infeasible(head_on(2.1)).any()
    assert not fs.infeasible(head_on(0.9, side=-0.79)).any()
    assert fs.infeasible(np.array([[cx], [cy], [0.0], [0.0]])).all()


def test_no_random_control_escapes(grid):
    flat, rng = grid.x.reshape(4, -1), numpy_rng(0, "test")
    suspects = flat[:, grid.truth.reshape(-1) & (pr.violation(flat) <= 0)]
    assert suspects.shape[1] > 500
    assert fs.falsify(suspects, 10, rng) == 0
    feasible = flat[:, ~grid.truth.reshape(-1)][:, ::50]
    assert fs.falsify(feasible, 10, rng) > 0.8 * feasible.shape[1]  # the search does find escapes where they exist


def test_scores():
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert fs.iou(a, b) == pytest.approx(1 / 3) and fs.iou(a & ~a, a & ~a) == 1.0
    assert fs.false_safe(a, b) == 0.5


def test_random_states_are_none_of_the_grid_and_labelled_alike(grid):
    x, truth = fs.draw_states(2000, numpy_rng(0, "test"))
    low, high = x.min(axis=1), x.max(axis=1)
    ends = np.array([pr.BOX, pr.BOX, fs.SPEEDS[-1], np.pi])
    assert (high <= ends).all() and (high > 0.98 * ends).all() and (low < [-2.9, -2.9, 0.55, -3.1]).all()
    assert (low >= [-pr.BOX, -pr.BOX, fs.SPEEDS[0], -np.pi]).all()
    assert not np.isin(x[2], grid.speeds).any()
    np.testing.assert_array_equal(truth, fs.infeasible(x))
    assert truth.mean() == pytest.approx(grid.truth[1:].mean(), abs=0.03)  # at rest it is the discs


def test_score_and_picture(grid, tmp_path):
    def disc_now(obs):
        return pr.RADIUS - np.minimum(obs[:, 5], obs[:, 8])

    v = fs.values(disc_now, grid.x)
    assert v.shape == grid.truth.shape
    result = fs.score(v > 0, grid)
    assert result["iou"] == pytest.approx(result["iou_disc_now"], abs=1e-3)
    assert 0.7 < result["iou_disc_now"] < 0.85
    assert result["iou_by_speed"]["0"] == pytest.approx(1.0, abs=0.01)
    assert result["false_safe_outside_discs"] > 0.99  # it knows nothing of what lies ahead
    cautious = fs.score(v > -0.5, grid)
    assert cautious["false_safe"] < result["false_safe"] and cautious["false_unsafe"] > 0
    assert cautious["false_safe_outside_discs"] > cautious["false_safe"] > 0
    assert list(fs.rates(grid.truth, grid.x, grid.truth).values()) == [1, 0, 0, 0]
    json.dumps(result)
    path = fs.picture(disc_now, fs.make_grid(21, (0.0, 2.0), 4), tmp_path / "p.png")
    assert path.stat().st_size > 5000 and [p.name for p in tmp_path.iterdir()] == ["p.png"]
