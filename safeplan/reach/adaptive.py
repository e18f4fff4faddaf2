"""Particles by an adaptive integrator of SciPy, where a fixed RK4 step is in doubt: stiff or violent systems."""

from typing import Literal, NamedTuple

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.equations import Equations
from safeplan.errors import ConfigError
from safeplan.reach.particles import Flow, feedback
from safeplan.types import Array, Draw, Reference

Solver = Literal["DOP853", "LSODA", "Radau", "BDF"]
SOLVERS = ("DOP853", "LSODA", "Radau", "BDF")
MOST_CALLS = 20_000  # of f in one control step: beyond, a particle runs away and is given up


class RanAway(Exception):
    """A particle took too many evaluations or left the finite numbers."""


class Adaptive(NamedTuple):
    """Flow at the control times; `failed [P]` particles that were given up (NaN from then on); `calls` of f in all."""

    flow: Flow
    failed: Array
    calls: int


def adaptive_rollout(
    system: Equations,
    draw: Draw,
    reference: Reference,
    stretch_s: float,
    *,
    solver: Solver = "DOP853",
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> Adaptive:
    """What `particles.rollout` does, to a tolerance instead of a step; one particle at a time, so for hundreds of them.

    The control is held over each step of the reference, and the solver starts anew there, since the rates jump.

    Args:
        solver: "DOP853" for smooth motion, "LSODA", "Radau" or "BDF" for stiff one.
        rtol, atol: of the local error.
    Raises:
        ConfigError: an unknown solver, or tolerances that are not above 0.
    """
    from scipy.integrate import solve_ivp

    if solver not in SOLVERS or not (rtol > 0 and atol > 0):
        raise ConfigError(
            f"adaptive_rollout: solver = {solver!r}, rtol = {rtol}, atol = {atol}; choose one of "
            f"{', '.join(SOLVERS)} and tolerances above 0"
        )
    steps, (P, n) = len(reference.controls), draw.x.shape
    states, calls = np.full((steps + 1, n, P), np.nan), 0
    states[0] = draw.x.T
    for i in range(P):
        x = np.array(draw.x[i], float)
        for k in range(steps):
            u = tuple(float(c[0]) for c in feedback(system, reference, k, x[:, None], None))
            theta = tuple(draw.theta[i, min(int(k * reference.dt / stretch_s + 1e-9), draw.theta.shape[1] - 1)])

            begun = calls

            def rate(t: float, z: Array, u: tuple = u, theta: tuple = theta, begun: int = begun) -> Array:
                nonlocal calls
                calls += 1
                out = np.asarray(NUMPY.pack(system.f(0.0, tuple(z), u, theta, NUMPY)), float)
                if calls - begun > MOST_CALLS or not np.isfinite(out).all():
                    raise RanAway
                return out

            with np.errstate(all="ignore"):
                try:
                    done = solve_ivp(rate, (0.0, reference.dt), x, method=solver, rtol=rtol, atol=atol)
                except RanAway:
                    break
            x = done.y[:, -1]
            if not done.success or not np.isfinite(x).all():
                break
            states[k + 1, :, i] = x
    flow = Flow(np.arange(steps + 1) * reference.dt, states)
    return Adaptive(flow, np.asarray(np.isnan(states).any(axis=(0, 1))), calls)


def step_error(system: Equations, draw: Draw, reference: Reference, stretch_s: float, **settings) -> Array:
    """How far RK4 at the system's own step is off, `[T, n]`: largest over the particles, by `adaptive_rollout`.

    NaN at times that some particle does not reach.
    """
    from safeplan.reach.particles import rollout

    with np.errstate(all="ignore"):
        fixed = rollout(system, draw, reference, stretch_s).states[:: system.substeps]
    return np.abs(fixed - adaptive_rollout(system, draw, reference, stretch_s, **settings).flow.states).max(axis=2)
