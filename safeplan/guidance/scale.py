"""Scales and intervals: what nearly every method is set by."""

import math
from collections.abc import Callable
from numbers import Real

from torch import Tensor

from safeplan.diffusion.convert import like
from safeplan.errors import ConfigError, ShapeError
from safeplan.guidance.papers import INTERVAL

Scale = float | Tensor | Callable[[float], float]
Interval = tuple[float, float]
ALWAYS: Interval = (0.0, float("inf"))


def scale_at(scale: Scale, sigma: float) -> float | Tensor:
    """A number, a per-sample tensor `[B]`, or a function of sigma, at `sigma`."""
    return scale(sigma) if callable(scale) and not isinstance(scale, Tensor) else scale


def gain(w: float | Tensor, x: Tensor) -> float | Tensor:
    """`w` (number, or `[B]`) shaped and typed to multiply `x [B, ...]`.

    Raises:
        ShapeError: another number of weights than rows; one weight alone is no exception.
    """
    if not isinstance(w, Tensor):
        return w
    if w.ndim > 1 or (w.ndim == 1 and len(w) != len(x)):
        raise ShapeError(f"scale: weights {tuple(w.shape)} for {len(x)} rows; give a number, or one weight per row [B]")
    return like(w, x).to(x.dtype)


def equals(scale: Scale, value: float) -> bool:
    """Whether a scale is known to be `value` in all rows without looking at tensors or asking functions."""
    return isinstance(scale, (int, float)) and scale == value


def check_scale(owner: str, /, **scales: Scale) -> None:
    """ConfigError unless each is finite: a number, a tensor `[B]` or `[]`; a function of sigma counts as that."""
    for name, v in scales.items():
        if isinstance(v, Tensor):
            fine, shown = v.ndim <= 1 and bool(v.isfinite().all()), f"a tensor {list(v.shape)}: {v.flatten().tolist()}"
        else:
            fine, shown = callable(v) or (isinstance(v, Real) and math.isfinite(v)), repr(v)
        if not fine:
            raise ConfigError(
                f"{owner}: {name} is {shown}; give a finite number, a tensor [B] of such, or a function of sigma"
            )


def cite_interval(own: str, interval: Interval) -> str:
    """A citation, with that of the interval where there is one [interval]."""
    return own if interval == ALWAYS else f"{own} {INTERVAL.cite('guidance between two noise levels')}"


def check_interval(interval: Interval) -> None:
    """ConfigError unless 0 <= low <= high."""
    if not 0 <= interval[0] <= interval[1]:
        raise ConfigError(f"guidance interval {interval}: give (low, high) in sigma with 0 <= low <= high")
