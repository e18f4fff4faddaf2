"""Inverted pendulum under a linear controller whose gain is uncertain by a factor e^k."""

from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.start import uniform
from safeplan.dynamics.systems.case import Case, close

GRAVITY, LENGTH, MASS, FRICTION = 9.81, 0.5, 0.15, 0.0  # m/s^2, m, kg, N m s
INERTIA = MASS * LENGTH**2  # kg m^2
GAINS = (-23.58639732 / 50, -5.31421063 / 50)  # N m/rad and N m s/rad


def pendulum_plant() -> Equations:
    """States th (rad, 0 upright) and w; control: commanded torque, of which e^log_gain arrives."""

    def f(t, x, u, theta, xp):
        th, w = x
        (torque,) = u
        (log_gain,) = theta
        return w, (MASS * GRAVITY * LENGTH * xp.sin(th) - FRICTION * w + torque * xp.exp(log_gain)) / INERTIA

    return Equations(
        name="pend",
        states=(Quantity("th", "rad", angle=True), Quantity("w", "rad/s")),
        controls=(Quantity("torque", "N m", -10.0, 10.0),),
        params=(Quantity("log_gain", "1", -2.0, 2.0),),
        f=f,
        dt=0.02,
        substeps=2,
        divergence=lambda t, x, u, theta, xp: -FRICTION / INERTIA + 0.0 * x[1],
    )


def pendulum() -> Case:
    """Case `pend` [density_corl]: th +- 2.1, w +- 5.5, log-gain +- 2, all uniform, for 0.98 s.

    The divergence is K2 e^log_gain / (m L^2). The published code takes the exponential of another of its states there,
    one that the motion does not depend on (a second k, left out here), which is wrong by several 1/s. The loop is not
    periodic in th, since its controller is not: th is no `angle` here.
    """
    plant = pendulum_plant()

    def controller(x, xp):
        th, w = x
        return (GAINS[0] * th + GAINS[1] * w,)

    def divergence(t, x, u, theta, xp):
        (log_gain,) = theta
        return (GAINS[1] * xp.exp(log_gain) - FRICTION) / INERTIA

    states = (Quantity("th", "rad", -6.0, 6.0), Quantity("w", "rad/s", -12.0, 12.0))
    return Case(
        close(plant, controller, states=states, divergence=divergence),
        uniform([-2.1, -5.5], [2.1, 5.5], [-2.0], [2.0]),
        49,
        "density_corl",
        plant=plant,
        controller=controller,
        chosen=("the second published parameter k2 is left out: the motion does not depend on it",),
    )
