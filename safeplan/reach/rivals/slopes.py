"""Derivatives over intervals: forward mode, so that the equations of a system yield enclosures of their Jacobian.

At kinks (`maximum`, `abs`, `clip`) the slopes from both sides are taken together, as Clarke's generalised derivative
does; the mean value theorem holds with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from safeplan.reach.rivals.intervals import INTERVAL as I
from safeplan.reach.rivals.intervals import Interval, crosses, hull, interval
from safeplan.types import Array


@dataclass(frozen=True, eq=False)
class Slope:
    """A value `[...]` and its derivatives `[k, ...]` in k directions."""

    value: Interval
    tangent: Interval
    __array_ufunc__ = None

    def __add__(self, other: Any) -> "Slope":
        b = slope(other)
        return Slope(self.value + b.value, self.tangent + b.tangent)

    def __neg__(self) -> "Slope":
        return Slope(-self.value, -self.tangent)

    def __sub__(self, other: Any) -> "Slope":
        return self + (-slope(other))

    def __rsub__(self, other: Any) -> "Slope":
        return slope(other) + (-self)

    def __mul__(self, other: Any) -> "Slope":
        b = slope(other)
        return Slope(self.value * b.value, self.tangent * b.value + self.value * b.tangent)

    def __truediv__(self, other: Any) -> "Slope":
        b = slope(other)
        ratio = self.value / b.value
        return Slope(ratio, (self.tangent - ratio * b.tangent) / b.value)

    def __rtruediv__(self, other: Any) -> "Slope":
        return slope(other) / self

    def __pow__(self, k: int) -> "Slope":
        return Slope(self.value**k, k * self.value ** (k - 1) * self.tangent)

    __radd__, __rmul__ = __add__, __mul__

    def __lt__(self, other: Any) -> bool:
        return self.value < other  # refuses

    __le__ = __gt__ = __ge__ = __lt__


def slope(value: Any) -> Slope:
    """A number or an interval as a constant."""
    return value if isinstance(value, Slope) else Slope(interval(value), interval(0.0))


def _smooth(name: str, derivative: Callable[[Interval, Interval], Interval]) -> Callable[[Any], Slope]:
    def call(x: Any) -> Slope:
        x = slope(x)
        y = getattr(I, name)(x.value)
        return Slope(y, derivative(x.value, y) * x.tangent)

    return call


def _maximum(a: Any, b: Any) -> Slope:
    a, b = slope(a), slope(b)
    first, second = a.value.lo >= b.value.hi, b.value.lo >= a.value.hi
    both = hull(a.tangent, b.tangent)
    return Slope(I.maximum(a.value, b.value), I.where(first, a.tangent, I.where(second, b.tangent, both)))


def _minimum(a: Any, b: Any) -> Slope:
    return -_maximum(-slope(a), -slope(b))


def _arctan2(y: Any, x: Any) -> Slope:
    y, x = slope(y), slope(x)
    turn = (x.value * y.tangent - y.value * x.tangent) / (x.value**2 + y.value**2)
    angle = I.arctan2(y.value, x.value)
    return Slope(angle, _torn(angle.hi - angle.lo >= 2 * np.pi, turn))


def _torn(where: Array, tangent: Interval) -> Interval:
    """No slope bounds a jump."""
    return I.where(where, Interval(np.array(-np.inf), np.array(np.inf)), tangent)


def _wrap(x: Any) -> Slope:
    x = slope(x)
    return Slope(I.wrap(x.value), _torn(crosses(x.value), x.tangent))


def _where(condition: Any, a: Any, b: Any) -> Slope:
    a, b = slope(a), slope(b)
    return Slope(I.where(condition, a.value, b.value), I.where(condition, a.tangent, b.tangent))


def _dense(W: Array, b: Array, h: Slope) -> Slope:
    return Slope(I.dense(W, b, h.value), I.dense(W, np.zeros(len(b)), h.tangent))


def _joined(parts: Any) -> Slope:
    """Along the last axis."""
    parts = [slope(p) for p in parts]
    return Slope(I.stack([p.value for p in parts]), I.stack([p.tangent for p in parts]))


def _split(x: Slope) -> tuple[Slope, ...]:
    return tuple(Slope(v, d) for v, d in zip(I.unstack(x.value), I.unstack(x.tangent), strict=True))


SLOPE = SimpleNamespace(
    name="slope",
    pi=np.pi,
    sin=_smooth("sin", lambda x, y: I.cos(x)),
    cos=_smooth("cos", lambda x, y: -I.sin(x)),
    tan=_smooth("tan", lambda x, y: 1.0 + y**2),
    tanh=_smooth("tanh", lambda x, y: 1.0 - y**2),
    exp=_smooth("exp", lambda x, y: y),
    log=_smooth("log", lambda x, y: 1.0 / x),
    sqrt=_smooth("sqrt", lambda x, y: 0.5 / y),
    square=_smooth("square", lambda x, y: 2.0 * x),
    abs=lambda x: _maximum(x, -slope(x)),
    wrap=_wrap,
    arctan2=_arctan2,
    maximum=_maximum,
    minimum=_minimum,
    clip=lambda x, lo, hi: _minimum(_maximum(x, lo), hi),
    where=_where,
    dense=_dense,
    stack=_joined,
    unstack=_split,
    asarray=slope,
)
