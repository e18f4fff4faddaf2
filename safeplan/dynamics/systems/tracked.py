"""Vehicles that follow a reference, in error coordinates: what a plan chooses is the speeds of the reference.

In error coordinates the motion does not depend on where the reference is, so one loop serves every plan, and time
enters only through the controls. The world position is p = p_ref - R(th) e with th = th_ref - eth.
"""

from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.start import uniform
from safeplan.dynamics.systems.case import Case
from safeplan.dynamics.systems.tracking import Gains, climb, error_divergence, error_rates

CAR_GAINS = Gains(0.5, 0.5, 1.0)
FACTEST_GAINS = Gains(2.0, 2.0, 1.0, 1.0)
SPEED = Quantity("v_ref", "m/s", 0.5, 3.0, nominal=1.0)
TURN = Quantity("w_ref", "rad/s", -1.0, 1.0)
HEADING = Quantity("eth", "rad", angle=True)


def _reach(name: str, reach: float) -> Quantity:
    return Quantity(name, "m", -reach, reach)


def car_plant() -> Equations:
    """Unicycle in the world: states px, py, yaw; controls v and w."""

    def f(t, x, u, theta, xp):
        _, _, yaw = x
        v, w = u
        return v * xp.cos(yaw), v * xp.sin(yaw), w

    return Equations(
        "car",
        (Quantity("px", "m"), Quantity("py", "m"), Quantity("yaw", "rad", angle=True)),
        (Quantity("v", "m/s", -10.0, 10.0), Quantity("w", "rad/s", -20.0, 20.0)),
        (),
        f,
        substeps=4,
        divergence=lambda t, x, u, theta, xp: 0.0 * x[2],
    )


def hovercraft_plant() -> Equations:
    """The unicycle with a height: states px, py, pz, yaw; controls v, vz and w."""
    car = car_plant()

    def f(t, x, u, theta, xp):
        px, py, _, yaw = x
        v, vz, w = u
        dx, dy, dyaw = car.f(t, (px, py, yaw), (v, w), theta, xp)
        return dx, dy, vz, dyaw

    px, py, yaw = car.states
    v, w = car.controls
    states, controls = (px, py, Quantity("pz", "m"), yaw), (v, Quantity("vz", "m/s", -10.0, 10.0), w)
    return Equations(
        "factest_hovercraft", states, controls, (), f, substeps=4, divergence=lambda t, x, u, theta, xp: 0.0 * x[3]
    )


def _error_car(name: str, k: Gains, growth: tuple[Quantity, ...], reach: float) -> Equations:
    """(ex, ey, eth) under controls v_ref, w_ref; `growth` is empty or one uncertain parameter."""

    def f(t, x, u, theta, xp):
        v_ref, w_ref = u
        return error_rates(x, v_ref, w_ref, k, theta[0] if len(theta) else 0.0, xp)

    def divergence(t, x, u, theta, xp):
        v_ref, _ = u
        return error_divergence(x, v_ref, k, theta[0] if len(theta) else 0.0, xp)

    states = (_reach("ex", reach), _reach("ey", reach), HEADING)
    return Equations(name, states, (SPEED, TURN), growth, f, dt=0.1, substeps=4, divergence=divergence)


def uncertain_car() -> Case:
    """Case `car` [density_corl]: errors +- 2.1 m and +- 0.1 rad, growth a in [0, 0.5] 1/s, v_ref = 1 m/s, for 4.9 s.

    `a` adds a ex and a ey to the rates of the position errors, so V need not fall where a > 0.
    """
    loop = _error_car("car", CAR_GAINS, (Quantity("a", "1/s", 0.0, 0.5, nominal=0.25),), 4.0)
    start = uniform([-2.1, -2.1, -0.1], [2.1, 2.1, 0.1], [0.0], [0.5])
    return Case(
        loop,
        start,
        49,
        "density_corl",
        (1.0, 0.0),
        plant=car_plant(),
        chosen=("the range of the reference's speeds",),
    )


def factest_car() -> Case:
    """Case `factest_car`: the car of [factest] without the uncertain growth, followed for 10 s."""
    loop = _error_car("factest_car", FACTEST_GAINS, (), 1.0)
    start = uniform([-0.5, -0.5, -0.2], [0.5, 0.5, 0.2])
    chosen = ("gains: those of the hovercraft", "start box", "horizon and step", "reference speeds and their range")
    return Case(loop, start, 100, "factest", (1.0, 0.0), plant=car_plant(), chosen=chosen)


def factest_hovercraft() -> Case:
    """Case `factest_hovercraft`: errors (ex, ey, ez, eth) of the vehicle with a height of [factest], for 10 s.

    The half width of the start box is that of its arenas, 0.5 m.
    """
    k = FACTEST_GAINS

    def f(t, x, u, theta, xp):
        ex, ey, ez, eth = x
        v_ref, vz_ref, w_ref = u
        dx, dy, dth = error_rates((ex, ey, eth), v_ref, w_ref, k, 0.0, xp)
        return dx, dy, vz_ref - climb(ez, vz_ref, k), dth

    def divergence(t, x, u, theta, xp):
        ex, ey, _, eth = x
        v_ref, _, _ = u
        return error_divergence((ex, ey, eth), v_ref, k, 0.0, xp) - k.k4

    states = (_reach("ex", 1.0), _reach("ey", 1.0), _reach("ez", 1.0), HEADING)
    controls = (SPEED, Quantity("vz_ref", "m/s", -1.0, 1.0), TURN)
    loop = Equations("factest_hovercraft", states, controls, (), f, dt=0.1, substeps=4, divergence=divergence)
    start = uniform([-0.5, -0.5, -0.5, -0.2], [0.5, 0.5, 0.5, 0.2])
    chosen = ("heading error at the start", "horizon and step", "reference speeds and their range")
    return Case(loop, start, 100, "factest", (1.0, 0.0, 0.0), plant=hovercraft_plant(), chosen=chosen)
