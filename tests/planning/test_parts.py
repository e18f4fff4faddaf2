"""The parts of the planner: half-planes, tracking gains, the optimiser, evidence."""

import json

import numpy as np
import pytest

from safeplan.dynamics.bicycle import bicycle
from safeplan.dynamics.hovercraft import hovercraft, hovercraft_belief
from safeplan.errors import DataError
from safeplan.planning import FanProposer, Planner, PlannerConfig
from safeplan.planning.evidence import FORMAT, check_plan, load_plans, plan_record, write_json
from safeplan.planning.halfplanes import OFF, nearest, supporting
from safeplan.planning.nlp import Nlp, Weights
from safeplan.planning.tracking import lqr_gains
from safeplan.types import Goal, Obstacle, Scene

SCENE = Scene(
    (Obstacle(1.0, 0.2, hx=0.3, hy=0.1, yaw=0.4), Obstacle(2.0, -0.5, r=0.3)), Goal(3, 0, 0.1), (-1, -2, 4, 2)
)


def test_half_planes_keep_the_distance():
    """Any point that satisfies a half-plane is at least the margin away from its set."""
    system = bicycle()
    rng = np.random.default_rng(0)
    states = np.column_stack([rng.uniform(-0.5, 3, 40), rng.uniform(-1.5, 1.5, 40), np.zeros(40), np.ones(40)])
    centers = SCENE.centers(np.zeros(40))
    margins = np.full((40, 3), 0.05)
    planes = supporting(system, states, centers, SCENE, margins, np.arange(2), slots=3)
    assert planes.shape == (40, 3, 7, 3)
    assert (planes[:, :, 2, 2] == OFF).all(), "an empty slot binds nobody"
    points = rng.uniform(-1, 4, (500, 2))
    from safeplan.dynamics.backends import NUMPY
    from safeplan.dynamics.distance import rounded_box

    for k in range(40):
        for d, (_, _, r) in enumerate(system.footprint):
            for j, o in enumerate(SCENE.obstacles):
                a, b, c = planes[k, d, j]
                ok = points @ [a, b] >= c
                far = rounded_box(points[:, 0], points[:, 1], o.x, o.y, o.yaw, o.hx, o.hy, o.r, NUMPY)
                assert (far[ok] >= r + 0.05 - 1e-6).all()


def test_nearest_obstacles_get_the_slots():
    many = Scene(tuple(Obstacle(float(x), 0, r=0.1) for x in range(12)), Goal(3, 0, 0.1), (-1, -2, 14, 2))
    states = np.zeros((5, 4))
    states[:, 0] = 6.0
    assert list(nearest(bicycle(), states, many.centers(np.zeros(5)), many, 3)) == [5, 6, 7]


def test_gains_solve_the_riccati_equation_and_batches_agree():
    system = hovercraft()
    nlp = Nlp(system, PlannerConfig(horizon=4))
    A, B = nlp.jacobians(np.zeros((30, 9)), np.zeros((30, 3)), system.theta)
    K = lqr_gains(system, A, B)
    from scipy.linalg import solve_discrete_are

    scale = np.maximum(np.abs(system.control_low), np.abs(system.control_high))
    Q, R = np.diag(np.array(system.state_cost) + 1e-12), np.diag(np.array(system.control_cost) / scale**2)
    P = solve_discrete_are(A[0], B[0], Q, R)
    exact = -np.linalg.solve(R + B[0].T @ P @ B[0], B[0].T @ P @ A[0])
    np.testing.assert_allclose(K[0], exact, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(lqr_gains(system, np.stack([A, A]), np.stack([B, B]))[1], K)
    assert np.abs(np.linalg.eigvals(A[0] + B[0] @ K[0])).max() < 1


def test_jacobians_against_finite_differences():
    system = bicycle()
    nlp = Nlp(system, PlannerConfig(horizon=4))
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=(3, 4)), rng.uniform(-0.3, 0.3, (3, 2))
    A, B = nlp.jacobians(x, u, system.theta)
    eps = 1e-6
    for i in range(3):
        for j in range(4):
            d = np.zeros(4)
            d[j] = eps
            col = (nlp.F(x[i] + d, u[i], system.theta) - nlp.F(x[i] - d, u[i], system.theta)) / (2 * eps)
            np.testing.assert_allclose(A[i][:, j], np.asarray(col).ravel(), atol=1e-6)
    assert B.shape == (3, 4, 2)


@pytest.mark.parametrize("second", [True, False])
def test_ipopt_agrees_with_fatrop(second):
    system = hovercraft()
    cfg = PlannerConfig(horizon=10)
    nlp = Nlp(system, cfg)
    x0 = np.zeros(9)
    planes = np.zeros((10, 1, cfg.slots + 4, 3))
    planes[..., 2] = OFF
    args = (x0, system.theta, np.array([0.5, 0.1]), np.zeros((10, 2)), planes, Weights(1.0, 0.0, 0.0))
    guess = (np.zeros((11, 9)), np.zeros((10, 3)))
    first = nlp.solve(*args, guess)
    assert first.solver == "fatrop" and first.converged and first.slack < 1e-3
    np.testing.assert_allclose(nlp.simulate(x0, first.controls, system.theta), first.states, atol=1e-4)
    if second:

        class Fails:
            def __call__(self, **kw):
                return {"x": np.full(1, np.nan)}

            def stats(self):
                return {"success": False, "iter_count": 0}

        nlp._fatrop = Fails()
        other = nlp.solve(*args, guess)
        assert other.solver == "ipopt" and other.converged
        np.testing.assert_allclose(other.states[:, :2], first.states[:, :2], atol=5e-3)


def test_fan_reaches_to_both_sides():
    system = bicycle()
    fan = FanProposer(system, 10, 5.0)(np.array([0.0, 0, 0, 5.0]), SCENE, 5, 0)
    assert fan.states.shape == (5, 11, 4) and fan.controls.shape == (5, 10, 2) and not fan.dynamic
    y = fan.states[:, 5, 1]
    assert y[0] == 0 and y.min() < 0 < y.max()
    np.testing.assert_allclose(fan.states[:, 0], [[0, 0, 0, 5.0]] * 5)


@pytest.fixture(scope="module")
def made():
    planner = Planner(hovercraft(), PlannerConfig(horizon=12, latency=1, replan_every=1, deadline_s=30.0))
    x = np.zeros(9)
    x[:2] = 0.4, 1.0
    scene = Scene((Obstacle(1.0, 1.3, r=0.1, vy=0.05, sigma_v=0.02),), Goal(2, 1, 0.1), (0, 0, 3, 2))
    plan = planner.plan(hovercraft_belief(x), scene, generator=np.random.default_rng(0))
    return planner.system, plan_record(0.0, plan)


def test_evidence_survives_json_and_agrees(made, tmp_path):
    system, record = made
    write_json(tmp_path / "plan.json", {"format": FORMAT, "plans": [record]})
    back = load_plans(tmp_path / "plan.json")["plans"][0]
    check = check_plan(system, back, fresh_seed=9, fresh_n=500)
    assert check.agrees and check.k == check.k_again and check.claimed == check.recomputed
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"], "no temporary file is left"


@pytest.mark.parametrize("what", ["states", "k", "upper", "scene"])
def test_tampering_is_found(made, what):
    system, record = made
    bad = json.loads(json.dumps(record))
    if what == "states":
        bad["states"][5][1] += 0.3
    elif what == "scene":
        bad["scene"]["obstacles"][0]["y"] = 1.0
    else:
        bad["certificate"][what] = {"k": 1, "upper": 1e-4}[what]
    check = check_plan(system, bad, fresh_seed=9, fresh_n=500)
    assert not check.agrees and check.faults


def test_unreadable_plan_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_plans(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"format": 1, "pl')
    with pytest.raises(DataError, match="not readable as JSON"):
        load_plans(tmp_path / "cut.json")
    (tmp_path / "other.json").write_text('{"format": 99, "plans": []}')
    with pytest.raises(DataError, match="format 99, expected"):
        load_plans(tmp_path / "other.json")


class Critic:
    """Stands for a FISOR policy: worth falls with x, V_h as given."""

    reward_scale = 2.0

    def __init__(self, violation, v_h):
        from types import SimpleNamespace

        self.config, self._v_h = SimpleNamespace(violation=violation, violating=25.0), v_h

    def v(self, obs):
        return 10.0 - obs[:, 0]

    def v_h(self, obs):
        return np.full(len(obs), self._v_h)


class Model:
    """Stands for a trajectory model that covers fewer steps than are asked for."""

    def supported(self, obs):
        return np.array([True])

    def sample(self, obs, n, seed):
        return np.tile(obs[0, :4], (n, 6, 1)), np.ones((n, 5, 2))


@pytest.mark.parametrize(
    ("violation", "v_h", "price"),
    [
        ("relabel", -1.0, 0.0),
        ("relabel", 25.0, 2.0),
        ("column", -0.2, 0.0),
        ("column", -0.05, 1.0),
        ("column", 0.1, 2.0),
    ],
)
def test_the_critic_values_ends(violation, v_h, price):
    from safeplan.planning import LearnedProposer

    system = bicycle()
    x = np.array([1.0, 0.0, 0.0, 2.0])
    made = LearnedProposer(system, Model(), 8, Critic(violation, v_h), margin=0.1)(x, SCENE, 3, 0)
    assert made.states.shape == (3, 9, 4) and made.controls.shape == (3, 8, 2)
    assert (made.controls[:, 5:] == 0).all(), "a shorter model stays at its end"
    assert made.value is not None
    np.testing.assert_allclose(made.value(made.states[:, -1], SCENE), (10.0 - 1.0) / 2.0 - price)
    assert LearnedProposer(system, Model(), 8)(x, SCENE, 3, 0).value is None


def test_star_points_away_from_the_straight_line():
    from safeplan.planning.propose import star

    made = star(bicycle(), np.array([0.0, 0, 0, 0]), np.array([5.0, 0.0]), 10, 6, 1.0)
    ends = made.states[:, -1, :2]
    assert made.states.shape == (6, 11, 4)
    np.testing.assert_allclose(np.hypot(*ends.T), 1.0 * 0.2 * 10)
    angles = np.sort(np.abs(np.arctan2(ends[:, 1], ends[:, 0])))
    np.testing.assert_allclose(angles, np.pi / 4 * np.array([1, 1, 2, 2, 3, 3]), atol=1e-9)
