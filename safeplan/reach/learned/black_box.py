"""Trajectories with log-gain from a simulator that nobody has equations for: one step at a time, differences for J."""

from collections.abc import Callable

import numpy as np

from safeplan.errors import DataError, ShapeError
from safeplan.reach.learned.trajectories import Trajectories
from safeplan.types import Array, Draw

Step = Callable[[Array, Array], Array]  # states [P, n], parameters [P, p] -> states one grid step later


def simulate_black_box(
    step: Step,
    draw: Draw,
    step_s: float,
    steps: int,
    stretch_s: float = float("inf"),
    *,
    eps: float | Array | None = 1e-5,
) -> Trajectories:
    """Drive `step` for `steps` times; log-gain falls by log |det J| in each, J by central differences.

    The simulator must be deterministic: noise of its own would pass for motion, and swamp J.

    Args:
        step: the simulator over `step_s` seconds, started anew from any state, each row by itself.
        eps: size of the differences, one or `[n]`; the simulator's own error must be smaller by far. None leaves the
            log-gain out and saves the 2 n simulations a step that it costs.

    Raises:
        ShapeError: the simulator returns another shape.
        DataError: it returns what is not finite, or a step that crushes volume to nothing.
    """
    x = np.asarray(draw.x, float)
    P, n = x.shape
    if eps is not None and not (np.asarray(eps) > 0).all():
        raise ShapeError(f"black box: eps is {eps}, expected sizes above 0, or None")
    if draw.theta.shape[1] > 1 and not np.isfinite(stretch_s):
        raise DataError(f"black box: theta has {draw.theta.shape[1]} slices; say with stretch_s how long each holds")
    states, gains, gain = [x], [np.zeros(P)], np.zeros(P)
    for k in range(steps):
        s = 0 if draw.theta.shape[1] == 1 else min(int(k * step_s / stretch_s + 1e-9), draw.theta.shape[1] - 1)
        theta = draw.theta[:, s]
        if eps is not None:
            d = np.diag(np.broadcast_to(np.asarray(eps, float), n))
            shifted = np.concatenate([x + e for e in (*d, *-d)])
            ends = _checked(step(shifted, np.tile(theta, (2 * n, 1))), (2 * n * P, n), k).reshape(2, n, P, n)
            J = (ends[0] - ends[1]) / (2 * np.diagonal(d)[:, None, None])  # [n (of the start), P, n (of the end)]
            size = np.linalg.slogdet(J.transpose(1, 0, 2))[1]
            if not np.isfinite(size).all():
                raise DataError(
                    f"black box: step {k} maps {int((~np.isfinite(size)).sum())} of {P} starts onto fewer dimensions; "
                    "their density is infinite. Leave the log-gain out with eps=None"
                )
            gain = gain - size
        x = _checked(step(x, theta), (P, n), k)
        states.append(x)
        gains.append(gain)
    times = np.arange(steps + 1) * step_s
    packed = np.stack(states).transpose(0, 2, 1)
    return Trajectories(times, packed, None if eps is None else np.stack(gains), draw.theta, stretch_s)


def _checked(x: Array, shape: tuple[int, int], k: int) -> Array:
    x = np.asarray(x, float)
    if x.shape != shape:
        raise ShapeError(f"black box: step {k} returned {x.shape}, expected {shape} as it was given")
    if not np.isfinite(x).all():
        raise DataError(f"black box: step {k} returned {int((~np.isfinite(x)).sum())} values that are not finite")
    return x
