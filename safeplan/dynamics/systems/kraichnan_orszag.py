"""Kraichnan-Orszag three-mode problem: volume preserving, sensitive to its start."""

import numpy as np

from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.systems.case import Case
from safeplan.types import CutNormalBelief


def kraichnan_orszag() -> Case:
    """Case `kop` [density_corl]: x1' = x1 x3, x2' = -x2 x3, x3' = -x1^2 + x2^2; no units.

    Keeps x1 x2 and |x|^2. Starts from N([1, 0, 0], diag(1/16, 1/4, 1/4)), cut where the published box ends (4 sd).
    """

    def f(t, x, u, theta, xp):
        a, b, c = x
        return a * c, -b * c, xp.square(b) - xp.square(a)

    def divergence(t, x, u, theta, xp):
        a, _, _ = x
        return 0.0 * a

    top = float(np.sqrt(12.0))  # of |x| at the corners of the start box, and |x| is kept
    states = tuple(Quantity(k, "1", -top, top) for k in ("x1", "x2", "x3"))
    loop = Equations("kop", states, (), (), f, dt=0.125, substeps=8, divergence=divergence)
    none = np.zeros(0)
    start = CutNormalBelief(
        np.array([1.0, 0.0, 0.0]), np.array([0.25, 0.5, 0.5]), none, none, none.astype(bool), float("inf"), cut=4.0
    )
    return Case(loop, start, 79, "density_corl", chosen=("the normal is cut at 4 sd: it has no mass outside the box",))
