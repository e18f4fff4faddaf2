"""Trajectories with their log-gain: what a learned flow is taught with, from equations or from a simulator alone."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from safeplan.dynamics.equations import Equations, Quantity
from safeplan.errors import DataError, ShapeError
from safeplan.types import Array, Draw, Reference


class Trajectories(NamedTuple):
    """N runs on one grid of times: times `[T]` (s, even, from 0), states `[T, n, N]`, log-gain `[T, N]` (nats) or None
    where nobody knows the divergence, parameters `[N, S, p]`, each slice of which holds for `stretch_s` seconds."""

    times: Array
    states: Array
    gain: Array | None
    theta: Array
    stretch_s: float

    @property
    def stride(self) -> int:
        """Grid steps for which the parameters hold; those of the whole grid when they never change."""
        step, last = self.times[1] - self.times[0], len(self.times) - 1
        return last if self.theta.shape[1] == 1 else round(self.stretch_s / step)

    def check(self) -> None:
        """Raise what is wrong with the arrays.

        Raises:
            ShapeError: shapes that do not belong together, fewer than two times.
            DataError: times uneven or not from 0; a value that is not finite; stretches that do not fall on the grid.
        """
        T, _, N = self.states.shape if self.states.ndim == 3 else (0, 0, 0)
        shapes = f"times {self.times.shape}, states {self.states.shape}, theta {self.theta.shape}"
        gain = (T, N) if self.gain is None else self.gain.shape
        if T < 2 or N < 1 or self.times.shape != (T,) or self.theta.shape[:1] != (N,) or self.theta.ndim != 3:
            raise ShapeError(f"trajectories: {shapes}; expected [T], [T, n, N] and [N, S, p] with T of at least 2")
        if gain != (T, N):
            raise ShapeError(f"trajectories: gain {gain}, expected {(T, N)} as the states")
        step = self.times[1] - self.times[0]
        if not (step > 0 and abs(self.times[0]) < 1e-9 and np.allclose(np.diff(self.times), step, rtol=1e-6)):
            raise DataError(f"trajectories: times {self.times[:3].tolist()}... are not an even grid that starts at 0")
        for what, value in (("states", self.states), ("theta", self.theta), ("gain", self.gain)):
            if value is not None and not np.isfinite(value).all():
                bad = int((~np.isfinite(value)).sum())
                raise DataError(f"trajectories: {bad} values of {what} are not finite; drop the runs that diverge")
        held = self.stretch_s / step if np.isfinite(self.stretch_s) else 0.0
        if self.theta.shape[1] > 1 and (round(held) < 1 or abs(held - round(held)) > 1e-6):
            raise DataError(
                f"trajectories: parameters hold for {self.stretch_s:g} s, which is not a multiple of the grid's step "
                f"{step:g} s; record at a finer step"
            )


def simulate(loop: Equations, draw: Draw, reference: Reference, stretch_s: float, points: int = 50) -> Trajectories:
    """Trajectories of the equations (RK4, float64) with exact log-gain, on about `points` stored times.

    The controls of `reference` are flown open loop: a feedback is part of the equations, or becomes a parameter by
    `controls_as_parameters`.

    Raises:
        DataError: parameters that change within a control step, which the equations cannot follow.
    """
    import torch

    from safeplan.reach.density import characteristics

    held = stretch_s / loop.dt
    if draw.theta.shape[1] > 1 and not abs(held - np.round(held)) < 1e-6:
        raise DataError(
            f"system {loop.name!r}: parameters hold for {stretch_s:g} s, no multiple of its step {loop.dt:g} s"
        )
    x, theta = (torch.as_tensor(a, dtype=torch.float64) for a in draw)
    flow = characteristics(loop, x, theta, reference, stretch_s, open_loop=True)
    every = _stride(len(flow.times) - 1, points, loop, stretch_s, draw.theta.shape[1])
    return Trajectories(
        flow.times[::every].numpy(),
        flow.states[::every].detach().numpy(),
        flow.gain[::every].detach().numpy(),
        draw.theta,
        stretch_s,
    )


def _stride(steps: int, points: int, loop: Equations, stretch_s: float, slices: int) -> int:
    """RK4 steps between stored times: about `points` of them, the last step and the ends of all stretches included."""
    held = steps if slices == 1 else round(stretch_s / (loop.dt / loop.substeps))
    fits = [k for k in range(1, steps + 1) if steps % k == 0 and held % k == 0]
    return min(fits, key=lambda k: abs(steps / k - points))


def controls_as_parameters(loop: Equations) -> Equations:
    """The same equations with the controls appended to the parameters, so that one flow serves every plan."""
    p = loop.p

    def f(t, x, u, theta, xp):
        return loop.f(t, x, theta[p:], theta[:p], xp)

    own = loop.divergence

    def divergence(t, x, u, theta, xp):
        assert own is not None
        return own(t, x, theta[p:], theta[:p], xp)

    params: tuple[Quantity, ...] = (*loop.params, *loop.controls)
    flown = Equations(loop.name, loop.states, (), params, f, dt=loop.dt, substeps=loop.substeps)
    return replace(flown, divergence=divergence if own is not None else None)
