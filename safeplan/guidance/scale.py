"""Scales and intervals: what nearly every method is set by."""

from collections.abc import Callable

from torch import Tensor

from safeplan.diffusion.convert import like
from safeplan.errors import ConfigError

Scale = float | Tensor | Callable[[float], float]
Interval = tuple[float, float]
ALWAYS: Interval = (0.0, float("inf"))


def scale_at(scale: Scale, sigma: float) -> float | Tensor:
    """A number, a per-sample tensor `[B]`, or a function of sigma, at `sigma`."""
    return scale(sigma) if callable(scale) and not isinstance(scale, Tensor) else scale


def gain(w: float | Tensor, x: Tensor) -> float | Tensor:
    """`w` (number, or `[B]`) shaped and typed to multiply `x [B, ...]`."""
    return like(w, x).to(x.dtype) if isinstance(w, Tensor) else w


def equals(scale: float | Tensor, value: float) -> bool:
    """Whether a scale is known to be `value` in all rows without looking at tensors."""
    return isinstance(scale, (int, float)) and scale == value


def check_interval(interval: Interval) -> None:
    """ConfigError unless 0 <= low <= high."""
    if not 0 <= interval[0] <= interval[1]:
        raise ConfigError(f"guidance interval {interval}: give (low, high) in sigma with 0 <= low <= high")
