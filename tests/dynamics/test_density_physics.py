"""What the systems of the density work conserve, and that their controllers do what they claim."""

from dataclasses import replace

import numpy as np
import pytest

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.system import rk4
from safeplan.dynamics.systems import Case, close, system
from safeplan.dynamics.systems.ground_robot import DISC, GOAL
from safeplan.dynamics.systems.pendulum import GAINS, GRAVITY, INERTIA, LENGTH, MASS, pendulum_plant
from safeplan.dynamics.systems.planar_hovercraft import DAMP, DAMP_YAW, STIFF, STIFF_YAW
from safeplan.dynamics.systems.tracked import CAR_GAINS, FACTEST_GAINS, car_plant, hovercraft_plant
from safeplan.dynamics.systems.tracking import climb, errors, lyapunov, lyapunov_rate, speeds
from safeplan.reach import rollout
from safeplan.types import Draw
from tests.density_cases import draw, particles, stated, visited


@pytest.mark.parametrize(
    "eq",
    [system("kop").loop, pendulum_plant(), car_plant(), hovercraft_plant(), system("quad").plant],
    ids=lambda e: e.name,
)
def test_volume_preserving_systems_state_zero(eq):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(eq.n, 100))
    u = tuple(rng.uniform(eq.control_low[:, None], eq.control_high[:, None], (eq.m, 100)))
    assert (stated(eq, x, u, tuple(rng.normal(size=(eq.p, 100)))) == 0).all()


def test_kraichnan_orszag_keeps_its_two_invariants():
    """|x|^2 and x1 x2, to the order of RK4: halving the step divides the drift by about 16 or more."""

    def drift(substeps: int) -> np.ndarray:
        case = system("kop")
        d = draw(case, 500, 0)
        path = rollout(replace(case.loop, substeps=substeps), d, case.reference, case.start.stretch_s).states
        kept = np.stack([(path**2).sum(1), path[:, 0] * path[:, 1]])
        return np.abs(kept - kept[:, :1]).max((1, 2))

    coarse, fine = drift(2), drift(4)
    assert (fine < 1e-2).all() and (coarse / fine > 12).all(), (coarse, fine)
    assert (drift(8) < 1e-4).all()


def test_undamped_pendulum_keeps_its_energy():
    plant = pendulum_plant()
    x = np.random.default_rng(0).uniform([[-2.1], [-5.5]], [[2.1], [5.5]], (2, 200))

    def energy(z):
        return INERTIA * z[1] ** 2 / 2 + MASS * GRAVITY * LENGTH * np.cos(z[0])

    z = x
    for _ in range(400):
        z = rk4(plant, 0.0, z, (0.0,), (0.0,), 0.01, NUMPY)
    assert np.abs(z - x).max() > 1
    np.testing.assert_allclose(energy(z), energy(x), atol=1e-6)


def test_pendulum_stands_only_where_the_gain_beats_gravity():
    """Upright is stable exactly when e^k > m g L / |K1|; there the error falls, below it the pendulum tips over."""
    case = system("pend")
    border = np.log(MASS * GRAVITY * LENGTH / -GAINS[0])
    k = np.array([border - 0.3, border + 0.3])
    d = Draw(np.tile([0.05, 0.0], (2, 1)), np.tile(k[:, None, None], (1, 1, 1)))
    end = rollout(case.loop, d, replace(case, steps=500).reference, case.start.stretch_s).states[-1]
    assert abs(end[0, 0]) > 0.5 and np.abs(end[:, 1]).max() < 1e-3


def test_van_der_pol_ends_on_its_cycle():
    """Known amplitude of the limit cycle at mu = 1: largest |x| is 2.0086."""
    case = replace(system("vdp"), steps=600)
    _, flow = particles(case, 50, 0)
    amplitude = np.abs(flow.states[len(flow.times) // 2 :, 0]).max(0)
    np.testing.assert_allclose(amplitude, 2.0086, atol=2e-3)


# ---------------------------------------------------------------- tracking
def planar(case: Case, x: np.ndarray) -> tuple[tuple, np.ndarray | float]:
    """Errors (ex, ey, eth) and ez of states `[n, ...]`, components first."""
    return ((x[0], x[1], x[3]), x[2]) if case.loop.n == 4 else ((x[0], x[1], x[2]), 0.0)


@pytest.mark.parametrize(
    ("name", "k"), [("car", CAR_GAINS), ("factest_car", FACTEST_GAINS), ("factest_hovercraft", FACTEST_GAINS)]
)
def test_lyapunov_function_falls_as_published(name, k):
    """Its rate along the loop is the formula, never above zero, and V falls at every step, whatever the plan turns."""
    case = system(name)
    x, u, theta = visited(case, 300, 1)
    theta = tuple(0.0 * c for c in theta)  # the ideal loop: no uncertain growth
    eps = 1e-6
    rates = case.loop.f(0.0, tuple(x), u, theta, NUMPY)
    ahead, behind = (x + s * eps * np.array(rates) for s in (1, -1))
    (a, az), (b, bz), (e, ez) = (planar(case, z) for z in (ahead, behind, x))
    slope = (lyapunov(a, k, NUMPY, az) - lyapunov(b, k, NUMPY, bz)) / (2 * eps)
    rate = lyapunov_rate(e, u[0], k, NUMPY, ez)
    np.testing.assert_allclose(slope, rate, rtol=1e-6, atol=1e-7)
    assert (rate <= 0).all() and rate.min() < -0.1
    turn = np.random.default_rng(2).uniform(case.loop.control_low, case.loop.control_high, (case.steps, case.loop.m))
    d = draw(case, 200, 3)
    path = rollout(case.loop, Draw(d.x, 0 * d.theta), case.reference._replace(controls=turn), np.inf).states
    e, ez = planar(case, path.transpose(1, 0, 2))
    V = lyapunov(e, k, NUMPY, ez)
    assert (np.diff(V, axis=0) < 1e-12).all() and V[-1].max() < 0.2 * V[0].max()


def test_uncertain_growth_can_undo_the_tracking():
    """With a = 0.5 the position error along x is no longer damped: V rises for some starts, as the docs say."""
    case = system("car")
    d = draw(case, 300, 4)
    spread = []
    for a in (0.0, 0.5):
        path = rollout(case.loop, Draw(d.x, np.full((300, 1, 1), a)), case.reference, np.inf).states
        spread.append(np.hypot(path[-1, 0], path[-1, 1]).mean())
    assert spread[0] < 1.0 < spread[1]


@pytest.mark.parametrize("name", ["factest_car", "factest_hovercraft"])
def test_error_coordinates_are_the_world_in_disguise(name):
    """The plant in the world under the controller, against the loop in error coordinates, on a turning reference."""
    case, k = system(name), FACTEST_GAINS
    tall = case.loop.n == 4
    v, vz, w, h = 1.3, 0.4, 0.35, 0.01
    command = (v, vz, w) if tall else (v, w)

    def reference(t):  # exact arc of constant speed and turn rate
        return v / w * np.sin(w * t), v / w * (1 - np.cos(w * t)), w * t

    def f(t, x, u, theta, xp):
        pose = (x[0], x[1], x[-1])
        e = errors(pose, reference(t), xp)
        speed, turn = speeds(e, v, w, k, xp)
        up = (climb(vz * t - x[2], vz, k),) if tall else ()
        return case.plant.f(t, x, (speed, *up, turn), theta, xp)

    world = replace(case.plant, f=f)
    x = np.array([[-0.3], [0.4], [0.2], [0.15]])[[0, 1, 2, 3] if tall else [0, 1, 3]]

    def seen(x, t):
        e = errors((x[0], x[1], x[-1]), reference(t), NUMPY)
        return np.array([*e[:2], *((vz * t - x[2],) if tall else ()), e[2]])

    first = e = seen(x, 0.0)
    for i in range(400):
        x = rk4(world, i * h, x, (), (), h, NUMPY)
        e = rk4(case.loop, 0.0, e, command, (), h, NUMPY)
    np.testing.assert_allclose(seen(x, 400 * h), e, atol=1e-9)
    assert np.abs(e).max() < 0.3 * np.abs(first).max()


# ---------------------------------------------------------------- the other controllers
def distance(case: Case, x: np.ndarray) -> np.ndarray:
    """How far states `[n, P]` are from where their controller wants them."""
    match case.name:
        case "robot":
            return np.hypot(x[0] - GOAL[0], x[1] - GOAL[1])
        case "quad":
            return np.linalg.norm(x[:3], axis=0)
        case _:
            return np.hypot(x[0], x[1])


@pytest.mark.parametrize(("name", "share"), [("dint", 0.1), ("robot", 0.2), ("quad", 0.75), ("hovercraft", 0.5)])
def test_controllers_bring_the_error_down(name, share):
    """At the end of the horizon the mean distance is a stated share of that at the start."""
    case = system(name)
    _, flow = particles(case, 500, 5)
    start, end = distance(case, flow.states[0]).mean(), distance(case, flow.states[-1]).mean()
    assert end < share * start, f"{name}: {start:.3g} -> {end:.3g}"


def test_robot_passes_its_disc():
    """The network keeps clear of the disc from nearly every start, on the side that its teacher takes."""
    _, flow = particles(system("robot"), 2000, 6)
    clear = np.hypot(flow.states[:, 0], flow.states[:, 1]).min(0) > DISC
    assert clear.mean() > 0.99
    across = np.argmin(np.abs(flow.states[:, 0] + flow.states[:, 1]), axis=0)  # where it crosses the ray's line
    side = flow.states[across, 0, np.arange(2000)] - flow.states[across, 1, np.arange(2000)]
    assert (side > 0).all()


def test_hovercraft_holds_its_place_without_disturbance():
    case = system("hovercraft")
    mean, theta = case.start.mean()
    calm = theta.copy()
    calm[6:] = 0.0
    flow = rollout(case.loop, Draw(mean[None], calm[None, None]), replace(case, steps=200).reference, 0.2)
    assert np.abs(flow.states[-1, :6]).max() < 1e-2


def test_hovercraft_asks_for_a_spring_and_a_damper_in_the_world():
    """Once the thrusts have settled on the commands, the acceleration is that law's, at every heading."""
    case, n = system("hovercraft"), 100
    x = np.random.default_rng(7).uniform(-0.02, 0.02, (9, n))
    x[2] = np.linspace(-3, 3, n)
    x[5] = -STIFF_YAW * np.sin(x[2]) / DAMP_YAW  # no torque asked for, so that nothing saturates
    theta = case.start.mean()[1].copy()
    theta[4:] = 0.0  # no drag, no disturbance
    u = case.controller(tuple(x), NUMPY)
    rates = case.plant.f(0.0, (*x[:6], *u), u, tuple(theta), NUMPY)
    for axis in (0, 1):
        np.testing.assert_allclose(rates[3 + axis], -STIFF * x[axis] - DAMP * x[3 + axis], atol=1e-12)
    np.testing.assert_allclose(rates[5], 0.0, atol=1e-9)


def test_a_loop_has_no_controls_left():
    plant = pendulum_plant()
    loop = close(plant, lambda x, xp: (0.0 * x[0],), states=plant.states, divergence=None, name="hanging")
    assert (loop.m, loop.p, loop.name, loop.dt) == (0, 1, "hanging", plant.dt)
    free = plant.f(0.0, (0.3, 0.1), (0.0,), (0.0,), NUMPY)
    assert loop.f(0.0, (0.3, 0.1), (), (0.0,), NUMPY) == pytest.approx(free)
