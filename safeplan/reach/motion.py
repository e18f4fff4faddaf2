"""What moves: equations, a reference that they track and a belief; and particles' paths, between stored times too.

A path is a cubic Hermite curve over each RK4 step: states and rates at both ends, of fourth order like RK4 itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.equations import Equations
from safeplan.dynamics.systems import Case
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.reach.particles import Flow, duration, feedback, rollout, stretches
from safeplan.types import Array, Belief, Draw, Reference

BLOCK = 4096  # particles that move together


@dataclass(frozen=True, eq=False)
class Path:
    """A flow (times `[T]`, states `[T, n, P]`) and the rates `[2, T-1, n, P]` at the start and the end of each
    interval, both under the controls and parameters of that interval."""

    times: Array
    states: Array
    rates: Array

    @cached_property
    def unknown(self) -> Array:
        """`[T, P]` where a state is no finite number, or the rate that led to it."""
        out = np.asarray(~np.isfinite(self.states).all(axis=1))
        out[1:] |= ~np.isfinite(self.rates).all(axis=(0, 2))
        return out

    def bezier(self, k: Array | slice = slice(None), who: Array | slice = slice(None)) -> Array:
        """Control points `[4, Q, n]` of interval `k [Q]` of particle `who [Q]`, or all `[4, T-1, n, P]`: the path lies
        in their hull and is no longer than their polygon."""
        third = np.diff(self.times)[:, None, None][k] / 3
        third = third if isinstance(k, slice) else third[:, 0]
        a, b = self.states[:-1][k, :, who], self.states[1:][k, :, who]
        with np.errstate(all="ignore"):
            return np.stack([a, a + third * self.rates[0][k, :, who], b - third * self.rates[1][k, :, who], b])

    def length(self, axes: tuple[int, ...]) -> Array:
        """Upper bound `[T-1, P]` of each interval's length over some axes: that of the control polygon."""
        with np.errstate(all="ignore"):
            third = np.diff(self.times)[:, None] / 3
            legs = np.zeros((3, *self.rates[0, :, 0].shape))
            for a in axes:
                first, last = third * self.rates[0, :, a], third * self.rates[1, :, a]
                for leg, d in zip(legs, (first, np.diff(self.states[:, a], axis=0) - first - last, last), strict=True):
                    leg += d * d
            return np.sqrt(legs).sum(axis=0)


@dataclass(frozen=True)
class Motion:
    """A loop under a reference, from a belief. Made by `motion`, which checks that they fit."""

    loop: Equations
    belief: Belief
    reference: Reference

    @property
    def stretches(self) -> int:
        """Slices of parameters that a draw needs."""
        return stretches(duration(self.reference), self.belief.stretch_s)

    @property
    def steps(self) -> int:
        """RK4 steps over the horizon."""
        return len(self.reference.controls) * self.loop.substeps

    @property
    def h(self) -> float:
        """Seconds of an RK4 step."""
        return self.reference.dt / self.loop.substeps

    def path(self, draw: Draw) -> Path:
        """Particles' paths; one that breaks goes on as inf or NaN, without a warning."""
        with np.errstate(all="ignore"):
            flow = rollout(self.loop, draw, self.reference, self.belief.stretch_s)
            return Path(*flow, rates(self.loop, flow, draw, self.reference, self.belief.stretch_s))

    def paths(self, draw: Draw) -> Iterator[Path]:
        """The same in blocks of particles, so that memory does not grow with their number."""
        return (self.path(Draw(*(a[i : i + BLOCK] for a in draw))) for i in range(0, len(draw.x), BLOCK))


def motion(system: Case | Equations, belief: Belief | None, reference: Reference | None) -> Motion:
    """A case brings its own start and its own reference; equations need both.

    Raises:
        ConfigError: equations without a belief or a reference.
        ShapeError: a belief or a reference of another size than the equations.
    """
    loop = system.loop if isinstance(system, Case) else system
    if isinstance(system, Case):
        belief = system.start if belief is None else belief
        reference = system.reference if reference is None else reference
    if belief is None or reference is None:
        missing = "belief" if belief is None else "reference"
        raise ConfigError(f"system {loop.name!r}: no {missing}; equations have none of their own, so give one")
    x, theta = belief.mean()
    if (len(x), len(theta)) != (loop.n, loop.p):
        raise ShapeError(
            f"system {loop.name!r} has {loop.n} states and {loop.p} parameters, its belief {len(x)} and {len(theta)}"
        )
    N = reference.controls.shape[0]
    want = {"states": (N + 1, loop.n), "controls": (N, loop.m), "gains": (N, loop.m, loop.n)}
    for what, shape in want.items():
        if getattr(reference, what).shape != shape:
            got = getattr(reference, what).shape
            raise ShapeError(f"system {loop.name!r}: the reference's {what} are {got}, expected {shape}")
    return Motion(loop, belief, reference)


def rates(
    system: Equations, flow: Flow, draw: Draw, reference: Reference, stretch_s: float, noise: Array | None = None
) -> Array:
    """Rates `[2, T-1, n, P]` of a flow that `rollout` made of the same arguments: see `Path`."""
    s, theta = system.substeps, np.moveaxis(draw.theta, 0, -1)
    out = np.empty((2, len(flow.times) - 1, *flow.states.shape[1:]))
    for k in range((len(flow.times) - 1) // s):
        x = flow.states[k * s : (k + 1) * s + 1]
        u = feedback(system, reference, k, x[0], None if noise is None else noise[k])
        th = tuple(theta[min(int(k * reference.dt / stretch_s + 1e-9), len(theta) - 1)])
        f = np.moveaxis(NUMPY.pack(system.f(0.0, tuple(np.moveaxis(x, 1, 0)), u, th, NUMPY)), 0, 1)
        out[0, k * s : (k + 1) * s], out[1, k * s : (k + 1) * s] = f[:-1], f[1:]
    return out


def densify(path: Path, between: int) -> Flow:
    """The flow at `between` more times in each interval, evenly spaced.

    Raises:
        CapabilityError: `between` below 0.
    """
    if between < 0:
        raise CapabilityError(f"densify: between = {between}; give the number of times to add, at least 0")
    if not between or len(path.times) < 2:
        return Flow(path.times, path.states)
    c, s = path.bezier(), np.arange(between + 1) / (between + 1)
    weights = np.stack([(1 - s) ** 3, 3 * s * (1 - s) ** 2, 3 * s**2 * (1 - s), s**3])  # [4, between + 1]
    with np.errstate(all="ignore"):
        inner = np.concatenate(np.einsum("cs,ctnp->tsnp", weights, c))
    times = (path.times[:-1, None] + np.diff(path.times)[:, None] * s).ravel()
    return Flow(np.append(times, path.times[-1]), np.concatenate([inner, path.states[-1:]]))
