"""Van der Pol oscillator, unforced."""

from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.start import uniform
from safeplan.dynamics.systems.case import Case

DAMPING = 1.0


def van_der_pol() -> Case:
    """Case `vdp` [density_corl]: x' = y, y' = (1 - x^2) y - x from the box [-2.5, 2.5]^2; no units, 2.45 in all."""

    def f(t, x, u, theta, xp):
        a, b = x
        return b, DAMPING * (1.0 - xp.square(a)) * b - a

    def divergence(t, x, u, theta, xp):
        a, _ = x
        return DAMPING * (1.0 - xp.square(a))

    states = (Quantity("x", "1", -3.5, 3.5), Quantity("y", "1", -5.0, 5.0))
    loop = Equations("vdp", states, (), (), f, dt=0.05, substeps=4, divergence=divergence)
    start = uniform([-2.5, -2.5], [2.5, 2.5])
    return Case(loop, start, 49, "density_corl")
