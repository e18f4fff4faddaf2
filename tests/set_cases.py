"""Systems with closed forms for the tests of sets: linear ones, and some that break."""

from dataclasses import dataclass, field

import numpy as np

from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.start import UniformBelief, uniform
from safeplan.reach.motion import Motion, Path, motion
from safeplan.reach.sets import Polytope
from safeplan.types import CutNormalBelief, Draw, Reference

ROTATION = np.array([[0.0, 1.0], [-1.0, 0.0]])
SPIRAL = np.array([[-0.3, 1.0], [-2.0, 0.1]])


def equations(f, n: int = 2, *, p: int = 0, m: int = 0, dt: float = 0.1, substeps: int = 1, divergence=None, **state):
    """Equations with plain names."""
    states = tuple(Quantity(f"x{i}", **state) for i in range(n))
    controls, params = (
        tuple(Quantity(f"u{i}", low=-9.0, high=9.0) for i in range(m)),
        tuple(Quantity(f"p{i}") for i in range(p)),
    )
    return Equations("test", states, controls, params, f, dt=dt, substeps=substeps, divergence=divergence)


def linear(A: np.ndarray, **kw) -> Equations:
    """xdot = A x."""
    A = np.asarray(A, float)

    def f(t, x, u, theta, xp):
        return tuple(sum(float(a) * v for a, v in zip(row, x, strict=True)) for row in A)

    def divergence(t, x, u, theta, xp):
        return float(np.trace(A)) + 0.0 * x[0]

    return equations(f, len(A), divergence=divergence, **kw)


def drift(*speeds: float, **kw) -> Equations:
    """xdot = speeds."""
    return equations(
        lambda t, x, u, theta, xp: tuple(v + 0.0 * c for v, c in zip(speeds, x, strict=True)), len(speeds), **kw
    )


def pushed(**kw) -> Equations:
    """xdot = (theta,): a speed that is uncertain."""
    return equations(lambda t, x, u, theta, xp: (theta[0] + 0.0 * x[0],), 1, p=1, **kw)


def still(eq: Equations, steps: int) -> Reference:
    """Controls and feedback zero."""
    return Reference(np.zeros((steps + 1, eq.n)), np.zeros((steps, eq.m)), np.zeros((steps, eq.m, eq.n)), eq.dt)


def normal(mean, sd, cut: float = 8.0) -> CutNormalBelief:
    """As good as normal at this cut."""
    none = np.zeros(0)
    return CutNormalBelief(np.asarray(mean), np.asarray(sd), none, none, none, float("inf"), cut)


def box(n: int, half: float = 1.0) -> UniformBelief:
    return uniform([-half] * n, [half] * n)


def beyond(c: float, n: int = 1) -> Polytope:
    """x0 >= c, of n states."""
    return Polytope([[-1.0] + [0.0] * (n - 1)], [-c])


@dataclass(frozen=True)
class Bare:
    """A belief of one state that can be sampled and nothing else."""

    p: int
    stretch_s: float = float("inf")
    x_sd: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def mean(self):
        return np.zeros(1), np.zeros(self.p)

    def sample(self, n, stretches, rng):
        return Draw(rng.normal(size=(n, 1)), np.zeros((n, stretches, self.p)))


def moving(eq: Equations, belief, steps: int) -> Motion:
    return motion(eq, belief, still(eq, steps))


def path(eq: Equations, x: np.ndarray, steps: int) -> Path:
    """Paths from start states `[P, n]` of a system without parameters."""
    x = np.asarray(x, float)
    return moving(eq, box(eq.n), steps).path(Draw(x, np.zeros((len(x), 1, 0))))
