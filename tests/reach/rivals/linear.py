"""A linear system whose density is known in closed form at every time."""

import numpy as np
from scipy.linalg import expm

from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.start import uniform
from safeplan.dynamics.systems import Case
from safeplan.types import CutNormalBelief

A = np.array([[-0.4, 1.0], [-1.5, 0.1]])
SQUEEZE = np.array([[0.7, 0.0], [0.0, -0.5]])  # axes stay apart, so that boxes stay boxes
NONE = np.zeros(0)
LOW, HIGH = np.array([-1.0, 0.0]), np.array([1.0, 3.0])


def linear(matrix=A, normal=True, drift=0.0) -> Case:
    """xdot = matrix x + (0, d) for 1 s: a normal start (cut at 7 sd, which leaves nothing out), or a uniform one; the
    constant d is uniform on +-`drift`."""
    (a, b), (c, d) = matrix
    params = (Quantity("d"),) if drift else ()
    loop = Equations(
        "linear",
        (Quantity("x", "1"), Quantity("y", "1")),
        (),
        params,
        lambda t, x, u, theta, xp: (a * x[0] + b * x[1], c * x[0] + d * x[1] + sum(theta)),
        dt=0.1,
        substeps=2,
        divergence=lambda t, x, u, theta, xp: a + d + 0.0 * x[0],
    )
    if normal:
        start = CutNormalBelief(
            np.array([1.0, -0.5]), np.array([0.5, 0.8]), NONE, NONE, NONE.astype(bool), np.inf, cut=7.0
        )
    else:
        start = uniform(LOW, HIGH, *(([-drift], [drift]) if drift else ()))
    return Case(loop, start, 10, "linear")


def moments(matrix=A) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance after 1 s from the normal start."""
    F = expm(matrix)
    return F @ [1.0, -0.5], F @ np.diag([0.25, 0.64]) @ F.T
