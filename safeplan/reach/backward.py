"""Density of reachable states at given points, by characteristics traced back to the start [liouville].

rho_t(x) = rho0(Phi_-t(x)) exp(gain), gain = -int div f along the way; with uncertain parameters the mean over them.
The feedback acts continuously, as in `density.characteristics`. No interpolation, no bandwidth: the error is that of
RK4 run backward, and of the parameters' Sobol points. Two things to know: what contracts forward in time spreads
backward, so strongly contracting loops need small steps, and a density that is thin in theta needs many parameters.
"""

from itertools import product

import numpy as np
import torch
from scipy.special import logsumexp

from safeplan.dynamics.equations import Equations
from safeplan.dynamics.systems import Case
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.reach.motion import Motion, motion
from safeplan.reach.particles import sobol_draw
from safeplan.reach.tracked import Tracked
from safeplan.types import Array, Belief, Draw, Reference

BLOCK = 1 << 15  # characteristics traced at once


def log_density(
    system: Case | Equations,
    belief: Belief | None,
    points: Array,
    reference: Reference | None = None,
    *,
    time: float | None = None,
    parameters: int = 256,
    seed: int = 0,
    turns: int = 0,
) -> Array:
    """Log-density `[Q]` (nats, per product of the states' units) of the state at `time`, at `points [Q, n]`; -inf where
    no start leads there under any of the parameters that are tried.

    Args:
        time: s, a multiple of an RK4 step; None: the horizon.
        parameters: Sobol points (a power of two) over uncertain parameters; none where they are known exactly.
        turns: angles are not wrapped: a point turned by 2 pi is another. This many turns either way are added up.
    Raises:
        ShapeError: points of another shape. ConfigError: a time off the grid or beyond the horizon.
        CapabilityError: a belief without the density of its start, or with a state that is known exactly.
    """
    m = motion(system, belief, reference)
    points = np.asarray(points, float)
    if points.ndim != 2 or points.shape[1] != m.loop.n:
        raise ShapeError(f"log_density: points are {points.shape}, expected [Q, {m.loop.n}]")
    check_density(m)
    steps, theta = step_at(m, time), thetas(m, parameters, seed)
    out, size = np.empty(len(points)), max(BLOCK // len(theta), 1)
    for i in range(0, len(points), size):
        x = np.repeat(points[i : i + size], len(theta), axis=0)
        th = np.tile(theta, (len(x) // len(theta), 1, 1))
        x0, gain = carry(m, x, th, steps, backward=True)
        logs = gained(x0, start_log_prob(m, x0, th, turns), gain).reshape(-1, len(theta))
        out[i : i + size] = logsumexp(logs, axis=1) - np.log(len(theta))
    return out


def carry(m: Motion, x: Array, theta: Array, steps: int, *, backward: bool = False) -> tuple[Array, Array]:
    """States `[P, n]` moved over `steps` RK4 steps from time 0, or back to it, and their log-gain `[P]`: the
    log-density at the later time less that at the start, either way."""
    z = torch.as_tensor(np.ascontiguousarray(x.T), dtype=torch.float64)
    loop, h, s = tracked(m, theta, z), m.h, m.loop.substeps
    gain, own = torch.zeros(len(x), dtype=torch.float64), not m.reference.gains.any()
    for j in reversed(range(steps)) if backward else range(steps):
        t = (j + backward) * h
        z, gain = loop.advance(j // s, t, z, gain, -h if backward else h, own)
    return z.detach().numpy().T, (-gain if backward else gain).detach().numpy()


def tracked(m: Motion, theta: Array, like: torch.Tensor) -> Tracked:
    """The loop on float64 tensors, its controls within their bounds where there is no feedback either."""
    ref = m.reference
    ref = ref._replace(controls=np.clip(ref.controls, m.loop.control_low, m.loop.control_high))
    return Tracked(
        m.loop, ref if not ref.gains.any() else m.reference, torch.as_tensor(theta), m.belief.stretch_s, like
    )


def thetas(m: Motion, parameters: int, seed: int) -> Array:
    """Sobol points `[M, S, p]` over the parameters; one where nothing is uncertain."""
    if not m.loop.p:
        return np.zeros((1, m.stretches, 0))
    theta = sobol_draw(m.belief, parameters, m.stretches, seed).theta
    return theta[:1] if (theta == theta[0]).all() else theta


def step_at(m: Motion, time: float | None) -> int:
    """RK4 steps up to `time`.

    Raises:
        ConfigError: no multiple of an RK4 step, or not from 0 to the horizon.
    """
    steps = m.steps if time is None else round(time / m.h)
    if time is not None and (abs(steps * m.h - time) > 1e-9 * max(1.0, time) or not 0 <= steps <= m.steps):
        raise ConfigError(f"time = {time} s; give a multiple of the RK4 step {m.h:g} s from 0 to {m.steps * m.h:g} s")
    return steps


def check_density(m: Motion) -> None:
    """Refuse a start without a density over all states.

    Raises:
        CapabilityError: a state that is known exactly, or a belief that does not say.
    """
    need = "log_prob_x" if m.loop.p else "log_prob"
    if not hasattr(m.belief, need):
        raise CapabilityError(
            f"belief {type(m.belief).__name__} has no `{need}`, the log-density [P] of a draw's start state"
            + (" given its parameters: add it" if m.loop.p else ": add it")
        )
    x = m.belief.sample(64, m.stretches, np.random.default_rng(0)).x
    exact = [q.name for q, spread in zip(m.loop.states, np.ptp(x, axis=0), strict=True) if not spread > 0]
    if exact:
        raise CapabilityError(
            f"system {m.loop.name!r}: the start of {', '.join(exact)} is known exactly, so there is no density over "
            "all states; give it a spread, or ask for probabilities"
        )


def start_log_prob(m: Motion, x0: Array, theta: Array, turns: int = 0) -> Array:
    """Log-density `[P]` of start states `[P, n]` given parameters `[P, S, p]`, added up over turns of the angles."""
    log_prob = getattr(m.belief, "log_prob_x" if m.loop.p else "log_prob")
    images = []
    for shift in product(range(-turns, turns + 1), repeat=int(m.loop.angles.sum())):
        x = np.array(x0)
        x[:, m.loop.angles] += 2 * np.pi * np.array(shift)
        with np.errstate(all="ignore"):
            images.append(log_prob(Draw(x, theta)))
    return np.asarray(logsumexp(images, axis=0))


def gained(x: Array, start: Array, gain: Array) -> Array:
    """Log-density `[P]` from that at the start; -inf where there was none, or where the path to `x [P, n]` broke."""
    sound = np.isfinite(x).all(axis=1) & (start > -np.inf)
    return np.where(sound, np.where(sound, start, 0.0) + np.where(sound, gain, 0.0), -np.inf)
