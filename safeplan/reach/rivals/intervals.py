"""Interval arithmetic as a namespace, so that the equations of a system run on sets of states [interval_analysis].

Ends are ordinary floating-point numbers that are not rounded outward: an enclosure is one up to rounding, about 1e-15
of the numbers in an operation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from safeplan.errors import CapabilityError
from safeplan.types import Array

TURN = 2 * np.pi


@dataclass(frozen=True, eq=False)
class Interval:
    """All numbers from `lo` to `hi`, arrays of one shape; NaN or infinite where nothing is known."""

    lo: Array
    hi: Array
    __array_ufunc__ = None  # NumPy leaves `array * interval` to us

    @property
    def mid(self) -> Array:
        return (self.lo + self.hi) / 2

    @property
    def rad(self) -> Array:
        return (self.hi - self.lo) / 2

    def __add__(self, other: Any) -> "Interval":
        b = interval(other)
        return Interval(self.lo + b.lo, self.hi + b.hi)

    def __neg__(self) -> "Interval":
        return Interval(-self.hi, -self.lo)

    def __sub__(self, other: Any) -> "Interval":
        return self + (-interval(other))

    def __rsub__(self, other: Any) -> "Interval":
        return interval(other) + (-self)

    def __mul__(self, other: Any) -> "Interval":
        b = interval(other)
        ends = self.lo * b.lo, self.lo * b.hi, self.hi * b.lo, self.hi * b.hi
        return Interval(_least(ends), _most(ends))

    def __truediv__(self, other: Any) -> "Interval":
        b = interval(other)
        through = (b.lo <= 0) & (b.hi >= 0)
        safe = np.where(through, 1.0, b.hi), np.where(through, 1.0, b.lo)
        return self * Interval(np.where(through, -np.inf, 1 / safe[0]), np.where(through, np.inf, 1 / safe[1]))

    def __rtruediv__(self, other: Any) -> "Interval":
        return interval(other) / self

    def __pow__(self, k: int) -> "Interval":
        if not isinstance(k, int):
            raise CapabilityError(f"an interval to the power {k!r}: give a whole number, or write exp(k * log(x))")
        if k < 0:
            return 1.0 / self**-k
        if k % 2:
            return Interval(self.lo**k, self.hi**k)
        size = absolute(self)
        return Interval(size.lo**k, size.hi**k)

    __radd__, __rmul__ = __add__, __mul__

    def _compared(self, other: Any) -> bool:
        raise CapabilityError(
            "a comparison of intervals has no single answer; write the equations with xp.maximum, xp.minimum or xp.clip"
        )

    __lt__ = __le__ = __gt__ = __ge__ = _compared


def interval(value: Any) -> Interval:
    """A number as the interval that holds it alone."""
    if isinstance(value, Interval):
        return value
    value = np.asarray(value, float)
    return Interval(value, value)


def hull(a: Any, b: Any) -> Interval:
    """The smallest interval that holds both."""
    a, b = interval(a), interval(b)
    return Interval(np.minimum(a.lo, b.lo), np.maximum(a.hi, b.hi))


def _least(ends: tuple) -> Array:
    return np.minimum(np.minimum(ends[0], ends[1]), np.minimum(ends[2], ends[3]))


def _most(ends: tuple) -> Array:
    return np.maximum(np.maximum(ends[0], ends[1]), np.maximum(ends[2], ends[3]))


def absolute(x: Interval) -> Interval:
    a, b = np.abs(x.lo), np.abs(x.hi)
    return Interval(np.where((x.lo <= 0) & (x.hi >= 0), 0.0, np.minimum(a, b)), np.maximum(a, b))


def _rising(fn: Callable, low: float = -np.inf) -> Callable[[Interval], Interval]:
    """A function that rises on its domain from `low` on."""
    return lambda x: Interval(fn(np.maximum(x.lo, low)), fn(np.maximum(x.hi, low)))


def _holds(x: Interval, at: float, period: float) -> Array:
    """Whether `at` + some whole multiple of `period` lies inside."""
    return np.ceil((x.lo - at) / period) <= np.floor((x.hi - at) / period)


def _sin(x: Interval) -> Interval:
    a, b = np.sin(x.lo), np.sin(x.hi)
    low = np.where(_holds(x, -np.pi / 2, TURN), -1.0, np.minimum(a, b))
    return Interval(low, np.where(_holds(x, np.pi / 2, TURN), 1.0, np.maximum(a, b)))


def _tan(x: Interval) -> Interval:
    pole = _holds(x, np.pi / 2, np.pi)
    return Interval(np.where(pole, -np.inf, np.tan(x.lo)), np.where(pole, np.inf, np.tan(x.hi)))


def crosses(x: Interval) -> Array:
    """Whether wrapping to (-pi, pi] tears the interval apart."""
    return _holds(x, np.pi, TURN)


def _wrap(x: Interval) -> Interval:
    torn, turns = crosses(x), TURN * np.round(x.mid / TURN)
    return Interval(np.where(torn, -np.pi, x.lo - turns), np.where(torn, np.pi, x.hi - turns))


def _arctan2(y: Any, x: Any) -> Interval:
    y, x = interval(y), interval(x)
    ends = tuple(np.arctan2(a, b) for a in (y.lo, y.hi) for b in (x.lo, x.hi))
    torn = (x.lo <= 0) & (y.lo <= 0) & (y.hi >= 0)  # the origin or the cut along the negative axis is inside
    return Interval(np.where(torn, -np.pi, _least(ends)), np.where(torn, np.pi, _most(ends)))


def _pairwise(fn: Callable) -> Callable[[Any, Any], Interval]:
    def call(a: Any, b: Any) -> Interval:
        a, b = interval(a), interval(b)
        return Interval(fn(a.lo, b.lo), fn(a.hi, b.hi))

    return call


def _where(condition: Any, a: Any, b: Any) -> Interval:
    a, b = interval(a), interval(b)
    return Interval(np.where(condition, a.lo, b.lo), np.where(condition, a.hi, b.hi))


def _dense(W: Array, b: Array, h: Interval) -> Interval:
    W = np.asarray(W, float)
    up, down = np.maximum(W, 0.0).T, np.minimum(W, 0.0).T
    return Interval(h.lo @ up + h.hi @ down + b, h.hi @ up + h.lo @ down + b)


def _joined(axis: int) -> Callable[[Any], Interval]:
    def call(parts: Any) -> Interval:
        parts = [interval(p) for p in parts]
        ends = ([getattr(p, k) for p in parts] for k in ("lo", "hi"))
        return Interval(*(np.stack(np.broadcast_arrays(*e), axis=axis) for e in ends))

    return call


def _split(axis: int) -> Callable[[Interval], tuple[Interval, ...]]:
    def call(x: Interval) -> tuple[Interval, ...]:
        ends = (np.moveaxis(e, axis, 0) for e in (x.lo, x.hi))
        return tuple(Interval(lo, hi) for lo, hi in zip(*ends, strict=True))

    return call


_maximum, _minimum = _pairwise(np.maximum), _pairwise(np.minimum)

INTERVAL = SimpleNamespace(
    name="interval",
    pi=np.pi,
    sin=lambda x: _sin(interval(x)),
    cos=lambda x: _sin(interval(x) + np.pi / 2),
    tan=lambda x: _tan(interval(x)),
    tanh=lambda x: _rising(np.tanh)(interval(x)),
    exp=lambda x: _rising(np.exp)(interval(x)),
    log=lambda x: _rising(np.log, 0.0)(interval(x)),
    sqrt=lambda x: _rising(np.sqrt, 0.0)(interval(x)),
    square=lambda x: interval(x) ** 2,
    abs=lambda x: absolute(interval(x)),
    wrap=lambda x: _wrap(interval(x)),
    arctan2=_arctan2,
    maximum=_maximum,
    minimum=_minimum,
    clip=lambda x, lo, hi: _minimum(_maximum(x, lo), hi),
    where=_where,
    dense=_dense,
    stack=_joined(-1),
    unstack=_split(-1),
    pack=_joined(0),
    unpack=_split(0),
    asarray=interval,
)
