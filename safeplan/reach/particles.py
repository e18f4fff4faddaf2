"""Forward particles under a tracked reference: RK4, weights constant along the flow (mass is conserved)."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.stats import qmc

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.system import Equations, rk4
from safeplan.errors import CapabilityError
from safeplan.types import CUT, Array, Belief, Draw, Reference, cut_normal


class Flow(NamedTuple):
    """Particles over time: times `[T]` (s, every RK4 step from 0) and states `[T, n, P]`."""

    times: Array
    states: Array


def stretches(duration: float, stretch_s: float) -> int:
    """Number of stretches of constant disturbance that cover `duration` seconds."""
    return max(1, int(np.ceil(duration / stretch_s - 1e-9)))


def duration(reference: Reference) -> float:
    """Seconds that a reference lasts, its tail included."""
    return len(reference.controls) * reference.dt


def sobol_draw(belief: Belief, n: int, count: int, seed: int) -> Draw:
    """`n` particles (a power of two) from scrambled Sobol points; needs a belief with `push` and `dim`.

    Lower error than independent draws at the same n (Owen 1997); gives no Clopper-Pearson bound.
    """
    push, dim = getattr(belief, "push", None), getattr(belief, "dim", None)
    if push is None or dim is None:
        raise CapabilityError(
            f"belief {type(belief).__name__} has no `push` from the unit cube, so Sobol particles cannot be made: "
            "give it `push(u, stretches)` and `dim(stretches)`, or use sample()"
        )
    if n & (n - 1):
        raise CapabilityError(f"sobol_draw: n = {n} is not a power of two; use {1 << n.bit_length()}")
    return push(_sobol(dim(count), n, seed), count)


@lru_cache(maxsize=32)
def _sobol(dim: int, n: int, seed: int) -> Array:
    """Scrambled Sobol points `[n, dim]`; a control loop asks for the same ones again and again."""
    points = qmc.Sobol(dim, scramble=True, rng=np.random.default_rng(seed)).random(n)
    points.setflags(write=False)
    return points


def draw_particles(belief: Belief, n: int, count: int, seed: int) -> Draw:
    """Sobol particles where the belief allows them, else independent ones."""
    if hasattr(belief, "push") and hasattr(belief, "dim"):
        return sobol_draw(belief, n, count, seed)
    return belief.sample(n, count, np.random.default_rng(seed))


def measurement_noise(belief: Belief, draw: Draw, steps: int, rng: np.random.Generator) -> Array:
    """Noise `[N, n, P]` on the states that the feedback sees.

    At step 0 it sees the belief's centre, whatever the true state is; after that, fresh noise of the same spread.

    Raises:
        CapabilityError: the belief does not say how well the state is measured.
    """
    sd = getattr(belief, "x_sd", None)
    if sd is None:
        raise CapabilityError(
            f"belief {type(belief).__name__} has no `x_sd` [n], the spread of a measurement, so what the feedback sees "
            "is unknown: add it (zeros where the state is measured exactly)"
        )
    cut = getattr(belief, "cut", CUT)
    noise = cut_normal(rng.random((steps, draw.x.shape[1], len(draw.x))), cut) * np.asarray(sd)[:, None]
    noise[0] = (belief.mean()[0] - draw.x).T
    return noise


def feedback(
    system: Equations, reference: Reference, k: int, x: Array, noise: Array | None = None
) -> tuple[Array, ...]:
    """Controls of step k, `m` times `[P]`, at states `x [n, P]` that the feedback sees with `noise`; see `rollout`."""
    states, controls, gains = reference.states, reference.controls, reference.gains
    each = states.ndim == 3
    error = x - (states[:, k].T if each else states[k][:, None])
    if noise is not None:
        error = error + noise
    for a in np.flatnonzero(system.angles):
        error[a] = np.arctan2(np.sin(error[a]), np.cos(error[a]))
    if each:
        u = np.einsum("pmn,np->mp", gains[:, k], error) + controls[:, k].T
    else:
        u = gains[k] @ error + controls[k][:, None]
    return tuple(np.minimum(np.maximum(u, system.control_low[:, None]), system.control_high[:, None]))


def rollout(system: Equations, draw: Draw, reference: Reference, stretch_s: float, noise: Array | None = None) -> Flow:
    """Propagate particles under `u = clip(controls[k] + gains[k] (x - states[k]))`, control held over each step.

    Args:
        draw: start states `[P, n]` and parameters `[P, S, p]`.
        reference: one reference, or one per particle when its arrays carry a leading axis `[P, N+1, n]`.
        stretch_s: seconds for which a slice of `draw.theta` holds.
        noise: on the state that the feedback sees, `[N, n, P]`.
    Returns:
        Flow with `T = N * substeps + 1` times.
    """
    h = reference.dt / system.substeps
    steps = reference.controls.shape[-2]
    theta = np.ascontiguousarray(np.moveaxis(draw.theta, 0, -1))  # [S, p, P]
    x = np.ascontiguousarray(draw.x.T)
    out = np.empty((steps * system.substeps + 1, system.n, x.shape[1]))
    out[0] = x
    for k in range(steps):
        u = feedback(system, reference, k, x, None if noise is None else noise[k])
        th = tuple(theta[min(int(k * reference.dt / stretch_s + 1e-9), len(theta) - 1)])
        for i in range(system.substeps):
            x = rk4(system, 0.0, x, u, th, h, NUMPY)
            out[k * system.substeps + i + 1] = x
    return Flow(np.arange(len(out)) * h, out)
