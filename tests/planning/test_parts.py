"""The parts of the planner: half-planes, tracking gains, the optimiser, evidence."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from safeplan.dynamics.bicycle import bicycle
from safeplan.dynamics.hovercraft import hovercraft, hovercraft_belief
from safeplan.errors import DataError
from safeplan.planning import FanProposer, Planner, PlannerConfig
from safeplan.planning.evidence import FORMAT, _hash, check_plan, load_plans, plan_record
from safeplan.planning.halfplanes import OFF, nearest, supporting
from safeplan.planning.nlp import Nlp, Weights
from safeplan.planning.tracking import lqr_gains
from safeplan.reach import clopper_pearson
from safeplan.strict_json import write
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
    record = plan_record(0.0, plan)
    return planner.system, {"format": FORMAT, "system": {}, "planner": asdict(planner.cfg), "plans": [record]}


def test_evidence_survives_json_and_agrees(made, tmp_path):
    system, data = made
    write(tmp_path / "plan.json", data)
    check = check_plan(system, load_plans(tmp_path / "plan.json"), 0, fresh_seed=9, fresh_n=500)
    assert check.agrees and check.k == check.k_again and check.claimed == check.recomputed
    assert check.confidence == 1 - 0.05 / 2 ** data["plans"][0]["certificate"]["attempt"]
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"], "no temporary file is left"


@pytest.mark.parametrize("what", ["states", "k", "upper", "scene"])
def test_tampering_is_found(made, what):
    system, data = made
    data = json.loads(json.dumps(data))
    bad = data["plans"][0]
    if what == "states":
        bad["states"][5][1] += 0.3
    elif what == "scene":
        bad["scene"]["obstacles"][0]["y"] = 1.0
    else:
        bad["certificate"][what] = {"k": 1, "upper": 1e-4}[what]
    check = check_plan(system, data, 0, fresh_seed=9, fresh_n=500)
    assert not check.agrees and check.faults


def test_a_certificate_on_the_particles_that_chose_the_plan_is_a_fault(made):
    system, data = made
    data = json.loads(json.dumps(data))
    record = data["plans"][0]
    record["certificate"]["seed"] = data["planner"]["particles"]
    record["hash"] = _hash(record)
    faults = check_plan(system, data, 0, fresh_seed=9, fresh_n=500).faults
    assert any("its seed 128 drew particles that took part in choosing the plan" in f for f in faults)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"delta": 0.9}, "confidence is 10.0000%, the settings ask for 97.5000%"),
        ({"gamma": 0.5}, "gamma is 0.5, the settings ask for planner.gamma = 0.01"),
        ({"attempt": 2}, "the settings ask for 98.7500%"),
    ],
)
def test_a_certificate_of_another_confidence_or_gamma_is_a_fault(made, changes, words):
    """Even when everything else is forged to fit: the bound and the hash."""
    system, data = made
    data = json.loads(json.dumps(data))
    record = data["plans"][0]
    c = record["certificate"]
    c.update(changes)
    c["upper"] = clopper_pearson(c["k"], c["n"], c["delta"])[1]
    record["hash"] = _hash(record)
    (fault,) = check_plan(system, data, 0, fresh_seed=9, fresh_n=500).faults
    assert words in fault


DAMAGE = {
    "no gains": (lambda p: p.pop("gains"), "plans[0]: gains is missing"),
    "no states": (lambda p: p.pop("states"), "plans[0]: states is missing"),
    "ragged": (lambda p: p["states"][3].pop(), "plans[0]: states has rows of unequal length"),
    "short": (lambda p: p["gains"].pop(), "plans[0]: gains has shape"),
    "flat": (lambda p: p.update(controls=[1.0]), "plans[0]: controls has shape [1]"),
    "text": (lambda p: p["controls"][0].__setitem__(0, "1"), "plans[0]: controls is not all finite numbers"),
    "nan": (lambda p: p["states"][0].__setitem__(0, "NaN"), "plans[0]: states is not all finite numbers"),
    "null": (lambda p: p["states"][0].__setitem__(0, None), "plans[0]: states is not all finite numbers"),
    "dt": (lambda p: p.update(dt=0), "plans[0]: dt is 0"),
    "status": (lambda p: p.update(status="fine"), "plans[0]: status is 'fine'"),
    "time": (lambda p: p.update(time_s="now"), "plans[0]: time_s is 'now'"),
    "list": (lambda p: p.update(certificate=[1]), "plans[0]: certificate is [1]"),
    "extra": (lambda p: p["certificate"].update(x=1), "plans[0].certificate: unknown key 'x'"),
    "missing": (lambda p: p["certificate"].pop("seed"), "plans[0].certificate: seed is missing"),
    "n": (lambda p: p["certificate"].update(n=0), "plans[0].certificate: n is 0"),
    "huge n": (lambda p: p["certificate"].update(n=10**15), "plans[0].certificate: n is 1000000000000000"),
    "seed": (lambda p: p["certificate"].update(seed=-1), "plans[0].certificate: seed is -1"),
    "delta": (lambda p: p["certificate"].update(delta=2), "plans[0].certificate: delta is 2"),
    "assumes": (lambda p: p["certificate"].update(assumes=3), "plans[0].certificate: assumes is 3"),
    "belief": (lambda p: p["belief"].pop("x_sd"), "plans[0].belief: x_sd is missing"),
    "no belief": (lambda p: p.update(belief=None), "plans[0]: its belief is of a kind"),
    "flags": (lambda p: p["belief"].update(per_stretch=[1]), "plans[0].belief: per_stretch is [1]"),
    "sd": (lambda p: p["belief"]["x_sd"].__setitem__(0, -1.0), "plans[0].belief: x_sd is not all finite numbers of"),
    "scene": (lambda p: p["scene"].update(wind=1), "plans[0].scene: unknown key 'wind'"),
    "goal": (lambda p: p["scene"].update(goal=3), "plans[0].scene.goal is 3"),
    "radius": (lambda p: p["scene"]["goal"].pop("radius"), "plans[0].scene.goal: radius is missing"),
    "obstacles": (lambda p: p["scene"].update(obstacles=[4]), "plans[0].scene.obstacles[0] is 4"),
    "bounds": (lambda p: p["scene"].update(bounds=[1, 2]), "plans[0].scene: bounds has shape [2]"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_plans_are_named(made, tmp_path, how):
    damage, words = DAMAGE[how]
    data = json.loads(json.dumps(made[1]))
    damage(data["plans"][0])
    (tmp_path / "plan.json").write_text(json.dumps(data))
    with pytest.raises(DataError) as caught:
        load_plans(tmp_path / "plan.json")
    assert words in str(caught.value) and "plan.json: " in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plans": [1, 2]}, "plans[0] is 1"),
        ({"plans": 3}, "a list `plans`"),
        ({"system": "x"}, "system is 'x'"),
        ({"planner": None}, "planner is None"),
        ({"planner": {"gamma": 0.01}}, "planner: delta is missing"),
    ],
)
def test_damaged_files_are_named(made, tmp_path, change, words):
    (tmp_path / "plan.json").write_text(json.dumps({**made[1], **change}))
    with pytest.raises(DataError) as caught:
        load_plans(tmp_path / "plan.json")
    assert words in str(caught.value)


def test_a_plan_of_another_system_is_refused(made):
    with pytest.raises(DataError, match=r"plans\[0\]: it has 9 states, system 'bicycle' has 4"):
        check_plan(bicycle(), made[1], 0, fresh_seed=9)


def test_numbers_that_are_not_finite_are_strings(tmp_path):
    """Also in a plan: its hash must come out again from the file."""
    scene = Scene((), Goal(np.nan, 1.0, 0.1), (0, 0, 3, 2))
    plan = Planner(hovercraft(), PlannerConfig(horizon=8)).plan(hovercraft_belief(np.zeros(9)), scene)
    record = plan_record(0.0, plan)
    write(tmp_path / "x.json", {"a": [float("inf"), -float("inf")], "plan": record})

    def refuse(token):
        raise AssertionError(token)

    back = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)
    assert back["a"] == ["Infinity", "-Infinity"] and back["plan"]["scene"]["goal"]["x"] == "NaN"
    assert _hash(back["plan"]) == record["hash"]


def test_unreadable_plan_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_plans(tmp_path / "none.json")
    with pytest.raises(DataError, match=r"a folder; give the plan\.json"):
        load_plans(tmp_path)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deeply"):
        load_plans(tmp_path / "deep.json")
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


def test_ways_out_of_what_moves_sideways_lead_to_both_sides_and_back():
    from safeplan.planning.propose import ways_out

    made = ways_out(hovercraft(), np.zeros(9), Scene((), Goal(5.0, 0.0, 0.1), (-9, -9, 9, 9)), 10, 6, 1.0)
    ends = made.states[:, -1, :2]
    assert made.states.shape == (6, 11, 9)
    np.testing.assert_allclose(np.hypot(*ends.T), 0.5 * hovercraft().dt * 10)
    angles = np.sort(np.abs(np.arctan2(ends[:, 1], ends[:, 0])))
    np.testing.assert_allclose(angles, np.pi / 4 * np.array([1, 1, 2, 2, 3, 3]), atol=1e-9)


def test_ways_out_of_what_steers_are_detours_and_a_straight_way_back():
    from safeplan.planning.propose import FanProposer, ways_out

    car, x = bicycle(), np.array([1.0, 2.0, 0.3, 0.0])
    scene = Scene((), Goal(30.0, 2.0, 0.1), (-9, -9, 99, 9))
    made, fan = ways_out(car, x, scene, 10, 4, 3.0), FanProposer(car, 10, 3.0)(x, scene, 4, 0)
    assert (made.states[:-1] == fan.states[:-1]).all()
    moved = made.states[-1] - x
    np.testing.assert_allclose(moved[-1, :2], -0.5 * 3.0 * car.dt * 10 * np.array([np.cos(0.3), np.sin(0.3)]))
    assert (moved[:, 2] == 0).all(), "it keeps its heading"


def test_the_line_home_is_there_when_it_can_be_flown_in_time():
    from safeplan.planning.propose import home

    x = np.zeros(9)
    line = home(hovercraft(), x, Scene((), Goal(0.3, 0.4, 0.1), (-9, -9, 9, 9)), 20, 0.6)
    assert line is not None and not line.dynamic
    steps = np.linalg.norm(np.diff(line.states[0, :, :2], axis=0), axis=1)
    np.testing.assert_allclose(line.states[0, -1, :2], [0.3, 0.4])
    assert steps.max() <= 0.3 * hovercraft().dt + 1e-12 and (steps[-2:] == 0).all(), "at half speed, then it waits"
    assert home(hovercraft(), x, Scene((), Goal(3.0, 4.0, 0.1), (-9, -9, 9, 9)), 20, 0.6) is None


def test_a_plan_that_stands_still_is_no_candidate():
    from types import SimpleNamespace

    from safeplan.planning.candidates import Candidates
    from safeplan.planning.references import coast, hold

    system, cfg = hovercraft(), PlannerConfig(horizon=8, tail=2)
    nlp = Nlp(system, cfg)
    candidates = Candidates(system, cfg, nlp, None, 0.6)  # pyright: ignore[reportArgumentType]
    start, moving = np.zeros(9), np.array([0.0, 0, 0, 0.4, 0, 0, 0, 0, 0])
    setting = SimpleNamespace(theta=system.theta, start=start)
    assert candidates.warm(setting, SimpleNamespace(reference=hold(nlp, start, 13, system.theta))) is None  # pyright: ignore
    kept = candidates.warm(setting, SimpleNamespace(reference=coast(nlp, moving, system.theta, 13)))  # pyright: ignore
    assert kept is not None and kept.states.shape == (1, 9, 9)
