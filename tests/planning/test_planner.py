"""The planner: certified where it can be, a status and a safe stop where it cannot, never an exception."""

from dataclasses import replace

import numpy as np
import pytest

from safeplan.dynamics.hovercraft import hovercraft, hovercraft_belief
from safeplan.dynamics.world import World
from safeplan.errors import ConfigError
from safeplan.planning import FanProposer, Planner, PlannerConfig, Proposals, run_mission
from safeplan.planning.checks import reachable
from safeplan.reach import count_collisions
from safeplan.types import Goal, Obstacle, Scene, Status

START = np.array([0.4, 1.0, 0, 0, 0, 0, 0, 0, 0.0])
OPEN = Scene(
    (Obstacle(1.4, 1.06, r=0.15), Obstacle(2.2, 0.5, r=0.1, vy=0.05, sigma_v=0.03)),
    Goal(2.8, 1.0, 0.12),
    (0, 0, 3.2, 2),
)
CONFIG = PlannerConfig(horizon=16, latency=2, replan_every=2, deadline_s=30.0)


@pytest.fixture(scope="module")
def planner():
    return Planner(hovercraft(), CONFIG)


@pytest.fixture(scope="module")
def certified(planner):
    return planner.plan(hovercraft_belief(START), OPEN, generator=np.random.default_rng(0))


def test_a_certified_plan_keeps_its_word(planner, certified):
    assert certified.status is Status.CERTIFIED, certified.message
    c = certified.certificate
    assert c.holds and c.upper <= CONFIG.gamma
    hits = count_collisions(planner.system, certified.reference, certified.belief, OPEN, 3000, 12345)
    assert hits / 3000 <= CONFIG.gamma
    assert certified.clearance > 0
    assert certified.states.shape == (CONFIG.latency + CONFIG.horizon + 1, 9)
    assert (np.abs(certified.reference.states[-1, 3:6]) < [0.02, 0.02, 0.5]).all(), "ends at rest"
    assert (np.abs(certified.controls) <= planner.system.control_high * 0.75 + 1e-6).all()


def test_the_same_call_gives_the_same_plan(planner, certified):
    again = planner.plan(hovercraft_belief(START), OPEN, generator=np.random.default_rng(0))
    assert (again.reference.states == certified.reference.states).all() and again.certificate == certified.certificate


def test_the_committed_steps_are_those_of_the_previous_plan(planner, certified):
    from safeplan.planning.references import advance

    total = CONFIG.latency + CONFIG.horizon + CONFIG.tail
    rest = advance(planner.nlp, certified.reference, 2, total, planner.system.theta)
    previous = replace(certified, reference=rest)
    belief = hovercraft_belief(rest.states[0])
    plan = planner.plan(belief, OPEN.at(0.2), previous=previous, generator=np.random.default_rng(1))
    assert plan.status is Status.CERTIFIED
    assert (plan.reference.controls[: CONFIG.latency] == rest.controls[: CONFIG.latency]).all()


@pytest.mark.parametrize(
    ("scene", "status"),
    [
        (replace(OPEN, obstacles=(Obstacle(0.45, 1.0, r=0.2),)), Status.START_IN_COLLISION),
        (replace(OPEN, bounds=(1.0, 0, 3.2, 2)), Status.START_IN_COLLISION),
        (replace(OPEN, goal=Goal(9.0, 9.0, 0.1)), Status.UNREACHABLE),
        (replace(OPEN, obstacles=(Obstacle(1.5, 1.0, hx=0.1, hy=1.2),)), Status.UNREACHABLE),
        (replace(OPEN, goal=Goal(np.nan, 1.0, 0.1)), Status.BAD_INPUT),
    ],
)
def test_hopeless_scenes_end_in_a_status(planner, scene, status):
    plan = planner.plan(hovercraft_belief(START), scene, generator=np.random.default_rng(0))
    assert plan.status is status
    assert "safe stop" in plan.message
    assert np.isfinite(plan.reference.states).all() and np.isfinite(plan.reference.controls).all()


@pytest.mark.parametrize("where", ["x_mean", "theta_mean"])
def test_nan_in_the_belief_is_named(planner, where):
    belief = hovercraft_belief(START)
    value = getattr(belief, where).copy()
    value[1] = np.nan
    plan = planner.plan(replace(belief, **{where: value}), OPEN)
    assert plan.status is Status.BAD_INPUT and "nan at index 1" in plan.message
    assert (plan.controls == 0).all()


def test_wrong_shape_is_named(planner):
    belief = replace(hovercraft_belief(START), x_mean=np.zeros(4), x_sd=np.zeros(4))
    plan = planner.plan(belief, OPEN)
    assert plan.status is Status.BAD_INPUT and "shape (4,), expected (9,)" in plan.message


def test_out_of_time_goes_on_along_the_previous_plan(planner, certified):
    late = planner.plan(hovercraft_belief(START), OPEN, previous=certified, deadline_s=1e-6)
    assert late.status is Status.LATE and "previous plan" in late.message
    n = len(certified.reference.controls)
    assert (late.reference.controls[:n] == certified.reference.controls).all()
    assert late.certificate is None, "there was no time for one; the previous plan has its own"


def test_solver_that_cannot_finish_ends_in_a_safe_stop():
    hasty = Planner(hovercraft(), replace(CONFIG, max_iter=1))
    plan = hasty.plan(hovercraft_belief(START), OPEN, generator=np.random.default_rng(0))
    assert plan.status is Status.INFEASIBLE and "safe stop: back to where it is" in plan.message
    assert plan.certificate.holds


def strange(x, scene, n, seed):
    return Proposals(np.tile(x, (n, CONFIG.horizon + 1, 1)), np.zeros((n, CONFIG.horizon, 3)), supported=False)


def test_unlike_the_logs_is_a_status_and_lines_are_planned_on():
    """No learned proposal is trusted, none is needed for a certificate: the plan moves, and says what it rests on."""
    pilot = Planner(hovercraft(), CONFIG, strange)
    plan = pilot.plan(hovercraft_belief(START), OPEN, generator=np.random.default_rng(0))
    assert plan.status is Status.OUT_OF_SUPPORT and "unlike their logs" in plan.message and "attempt" in plan.message
    assert plan.certificate.holds and np.ptp(plan.reference.states[:, 0]) > 0.3 and not plan.stops
    blocked = replace(OPEN, obstacles=(Obstacle(0.95, 1.0, hx=0.02, hy=0.4),))
    stop = Planner(hovercraft(), replace(CONFIG, max_iter=1), strange).plan(hovercraft_belief(START), blocked)
    assert stop.status is Status.OUT_OF_SUPPORT and "safe stop" in stop.message and stop.stops


def test_a_late_plan_brakes_where_the_previous_one_has_become_dangerous(planner, certified):
    """What is flown when planning comes late is looked at first: something new in the way makes braking safer."""
    x = certified.reference.states[4]
    ahead = certified.reference.states[-1]
    new = replace(OPEN, obstacles=(*OPEN.obstacles, Obstacle(float(ahead[0]), float(ahead[1]), r=0.12)))
    previous = replace(certified, reference=rest_of(planner, certified, 4))
    plan = planner.plan(hovercraft_belief(x), new, previous=previous, deadline_s=1e-6)
    assert plan.status is Status.LATE and "braking now" in plan.message
    calm = planner.plan(hovercraft_belief(x), OPEN, previous=previous, deadline_s=1e-6)
    assert calm.status is Status.LATE and "previous plan" in calm.message

    def risk(p):
        return count_collisions(planner.system, p.reference, p.belief, new, 300, 7)

    assert risk(plan) < risk(calm)


def test_a_plan_does_not_end_where_it_would_be_run_into():
    """A stop in the way of what comes is safe only as long as its tail; `stand_s` asks for more."""
    comes = Obstacle(1.5, 3.6, r=0.15, vy=-0.6)  # crosses the middle after the plan has ended
    scene = Scene((comes,), Goal(1.5, 1.0, 0.12), (0, 0, 3.2, 4))
    blind = Planner(hovercraft(), CONFIG).plan(hovercraft_belief(START), scene, generator=np.random.default_rng(0))
    wary = Planner(hovercraft(), replace(CONFIG, stand_s=4.0))
    plan = wary.plan(hovercraft_belief(START), scene, generator=np.random.default_rng(0))
    end = (CONFIG.latency + CONFIG.horizon) * hovercraft().dt

    def run_into(p):
        later = scene.centers(end + np.arange(0, 4, 0.05))[:, 0]
        return np.hypot(*(p.reference.states[-1, :2] - later).T).min() < 0.15 + hovercraft().footprint[0][2]

    assert blind.status is Status.CERTIFIED and run_into(blind)
    assert plan.status is Status.INFEASIBLE and "would be run into within 4 s" in plan.message
    assert not run_into(plan), "it waits for what comes to pass"
    gone = replace(scene, obstacles=(replace(comes, y=-1.0),))
    assert wary.plan(hovercraft_belief(START), gone, generator=np.random.default_rng(0)).status is Status.CERTIFIED


def test_near_the_goal_the_straight_line_comes_first_whatever_was_learned():
    """A critic cannot tell apart what differs by a hand's breadth, so the plan does not wait for it."""

    def lost(x, scene, n, seed):
        rng = np.random.default_rng(seed)
        states = np.tile(x, (n, CONFIG.horizon + 1, 1))
        states[..., :2] += 0.05 * rng.standard_normal((n, 1, 2)) * np.linspace(0, 1, CONFIG.horizon + 1)[:, None]
        return Proposals(states, np.zeros((n, CONFIG.horizon, 3)), value=lambda x, scene: rng.standard_normal(len(x)))

    scene = replace(OPEN, obstacles=())
    near = START + np.eye(9)[0] * 2.1
    plan = Planner(hovercraft(), CONFIG, lost).plan(hovercraft_belief(near), scene, generator=np.random.default_rng(0))
    assert plan.status is Status.CERTIFIED and plan.chosen == len(plan.proposals) - 1
    assert np.hypot(*(plan.reference.states[-1, :2] - [2.8, 1.0])) < 0.06


def rest_of(planner, plan, steps):
    from safeplan.planning.references import advance

    return advance(
        planner.nlp, plan.reference, steps, CONFIG.latency + CONFIG.horizon + CONFIG.tail, planner.system.theta
    )


def test_a_proposer_that_breaks_does_not_stop_the_loop():
    def broken(x, scene, n, seed):
        raise RuntimeError("no weights")

    plan = Planner(hovercraft(), CONFIG, broken).plan(hovercraft_belief(START), OPEN)
    assert plan.status is Status.FAILED and "no weights" in plan.message


def test_a_belief_that_does_not_say_how_the_state_is_measured_gets_no_certificate(planner):
    class Bare:
        stretch_s = 0.25

        def mean(self):
            return hovercraft_belief(START).mean()

        def sample(self, n, stretches, rng):
            return hovercraft_belief(START).sample(n, stretches, rng)

    plan = planner.plan(Bare(), OPEN)
    assert plan.status is Status.BAD_INPUT and "x_sd" in plan.message and plan.certificate is None


def test_a_first_plan_has_no_deadline_and_a_late_stop_is_dropped(planner, certified, monkeypatch):
    hasty = Planner(hovercraft(), replace(CONFIG, deadline_s=1e-6))
    assert hasty.plan(hovercraft_belief(START), OPEN, generator=np.random.default_rng(0)).status is Status.CERTIFIED
    nowhere = replace(OPEN, goal=Goal(9.0, 9.0, 0.1))
    patient = Planner(hovercraft(), replace(CONFIG, deadline_s=0.5))
    slow = patient._brake

    def brake(s):
        import time

        time.sleep(0.6)
        return slow(s)

    monkeypatch.setattr(patient, "_brake", brake)
    plan = patient.plan(hovercraft_belief(START), nowhere, previous=certified)
    assert plan.status is Status.LATE and "previous plan" in plan.message and plan.certificate is None


def test_braking_from_speed_stops_and_is_certified():
    moving = START.copy()
    moving[3] = 0.6
    wall = replace(OPEN, obstacles=(Obstacle(0.45, 1.5, r=0.2),), goal=Goal(9, 9, 0.1))
    plan = Planner(hovercraft(), CONFIG).plan(hovercraft_belief(moving), wall)
    assert plan.status is Status.UNREACHABLE
    assert (np.abs(plan.reference.states[-1, 3:6]) < [0.02, 0.02, 0.5]).all()
    assert plan.certificate.holds


def test_a_long_stop_stays_where_it_is(planner, certified):
    """A held stop is stable however long it lasts, in spite of disturbances with a mean."""
    from safeplan.planning.references import advance
    from safeplan.reach import rollout, stretches

    r = advance(planner.nlp, certified.reference, 0, 120, planner.system.theta)
    draw = certified.belief.sample(100, stretches(12.0, certified.belief.stretch_s), np.random.default_rng(0))
    flow = rollout(planner.system, draw, r, certified.belief.stretch_s)
    off = flow.states[:: planner.system.substeps, :2] - r.states[:, :2, None]
    assert np.hypot(off[:, 0], off[:, 1]).max() < 0.1


def test_a_plan_that_does_not_come_to_rest_is_refused():
    from safeplan.dynamics.bicycle import bicycle, bicycle_belief

    car = bicycle()
    short = Planner(car, PlannerConfig(horizon=4, tail=3, latency=1, replan_every=1, deadline_s=30.0, w_slack=50.0))
    wall = Scene((Obstacle(60.0, 0.0, hx=1.0, hy=5.0),), Goal(50.0, 0.0, 2.0), (-10, -6, 90, 6))
    plan = short.plan(bicycle_belief(np.array([0.0, 0.0, 0.0, 8.0])), wall, generator=np.random.default_rng(0))
    assert plan.status is Status.INFEASIBLE and "does not end at rest" in plan.message


def test_yaw_is_unwound_without_a_turn(planner):
    turned = START.copy()
    turned[2] = 2 * np.pi
    plan = planner.plan(hovercraft_belief(turned), OPEN, generator=np.random.default_rng(0))
    assert plan.status is Status.CERTIFIED
    assert np.abs(plan.states[:, 5]).max() < 1.0, "no full circle back"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"theta_sd": np.full(9, np.nan)}, "theta_sd is"),
        ({"x_sd": np.full(9, -1.0)}, "x_sd is"),
        ({"stretch_s": 0.0}, "belief: stretch_s is 0.0"),
    ],
)
def test_bad_spreads_are_named(planner, change, words):
    plan = planner.plan(replace(hovercraft_belief(START), **change), OPEN)
    assert plan.status is Status.BAD_INPUT and words in plan.message


def test_bad_obstacles_are_named(planner):
    for scene, words in (
        (replace(OPEN, obstacles=(Obstacle(1, 1, r=-1.0),)), "r = -1"),
        (replace(OPEN, stretch_s=float("nan")), "scene: stretch_s is nan"),
    ):
        plan = planner.plan(hovercraft_belief(START), scene)
        assert plan.status is Status.BAD_INPUT and words in plan.message


def test_every_call_certifies_on_samples_of_its_own(planner):
    seeds = {planner.plan(hovercraft_belief(START), OPEN).certificate.seed for _ in range(2)}
    assert len(seeds) == 2


def test_a_short_previous_plan_is_filled_up(planner, certified):
    from safeplan.planning.references import advance

    stub = replace(certified, reference=advance(planner.nlp, certified.reference, 22, 1, planner.system.theta))
    x = stub.reference.states[0]
    plan = planner.plan(hovercraft_belief(x), OPEN, previous=stub, generator=np.random.default_rng(0))
    assert len(plan.reference.controls) == CONFIG.latency + CONFIG.horizon + CONFIG.tail


def test_tighter_bounds_keep_more_clearance():
    gap = Scene((Obstacle(1.3, 0.55, r=0.25), Obstacle(1.3, 1.5, r=0.25)), Goal(2.2, 1.0, 0.12), (0, 0, 3.2, 2))
    near = Scene((Obstacle(1.2, 0.85, r=0.2),), Goal(2.2, 1.0, 0.12), (0, 0, 3.2, 2))
    loud = replace(hovercraft_belief(START), theta_sd=2 * hovercraft_belief(START).theta_sd)
    p = Planner(hovercraft(), CONFIG, FanProposer(hovercraft(), CONFIG.horizon, 0.5))
    kept = [p.plan(b, near, generator=np.random.default_rng(0)).clearance for b in (hovercraft_belief(START), loud)]
    assert kept[1] > kept[0] > 0
    assert p.plan(hovercraft_belief(START), gap, generator=np.random.default_rng(0)).status is Status.CERTIFIED


def test_mission_reaches_the_goal_and_is_deterministic():
    p = Planner(hovercraft(), CONFIG)
    missions = []
    for _ in range(2):
        world = World(hovercraft(), OPEN, hovercraft_belief(START), np.random.default_rng(5), 30.0)
        missions.append(run_mission(world, p, seed=5, max_seconds=15.0))
    a, b = missions
    assert a.safe and a.clearance > 0 and a.share(Status.CERTIFIED) > 0.5
    assert (a.path == b.path).all()
    assert a.path.shape[0] == a.centers.shape[0]


def test_reachability_of_the_goal():
    system = hovercraft()
    assert reachable(system, START, OPEN)
    assert not reachable(system, START, replace(OPEN, obstacles=(Obstacle(1.5, 1.0, hx=0.05, hy=2.0),)))
    moving = Obstacle(1.5, 1.0, hx=0.05, hy=2.0, vx=0.1)
    assert reachable(system, START, replace(OPEN, obstacles=(moving,))), "a moving wall may go away"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gamma": 0.0}, "gamma = 0.0"),
        ({"particles": 100}, "power of two"),
        ({"horizon": 0}, "horizon = 0"),
        ({"latency": 5, "replan_every": 2}, "latency = 5 exceeds"),
        ({"clock": "sundial"}, "choose 'wall' or 'cpu'"),
        ({"latency": 0}, "no deadline"),
        ({"margin": "abc"}, "margin = 'abc'"),
        ({"horizon": 3.5}, "horizon = 3.5"),
        ({"inflate": float("nan")}, "inflate = nan"),
        ({"explore": -1}, "explore = -1"),
        ({"proposals": 0}, "proposals = 0"),
        ({"authority": 0.0}, "authority = 0.0"),
        ({"deadline_s": -1.0}, "deadline_s = -1"),
    ],
)
def test_settings_are_checked(change, words):
    with pytest.raises(ConfigError, match=words):
        replace(PlannerConfig(), **change)
