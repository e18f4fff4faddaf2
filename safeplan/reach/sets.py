"""Sets of states that may move: balls, boxes, polytopes and their unions, each by a level that is negative inside.

A level never exceeds the Euclidean distance to the set (over the set's own axes), so a state whose level is l cannot
enter before it and the set have come l closer: what is decided between two stored times rests on that alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Protocol

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.errors import ShapeError
from safeplan.types import Array

Axes = tuple[int, ...]


class Region(Protocol):
    """A closed set in some coordinates of the state, at time t."""

    @property
    def axes(self) -> Axes:
        """Indices of the states that matter."""
        ...

    @property
    def speed(self) -> float:
        """Largest speed of any of its points, in units of the axes per second."""
        ...

    def level(self, x: Any, t: Any = 0.0, xp: Any = NUMPY) -> Any:
        """Components `x [n, ...]`, an array or a tuple (take `x[i]` one by one), at times `t` (broadcast) -> `[...]`:
        at most the distance outside, negative inside, 1-Lipschitz in the position relative to the set; NaN where a
        component is NaN."""
        ...


class _Moving:
    axes: Axes
    angles: Axes
    velocity: Array
    _drift: tuple[float, ...]  # the velocity, and
    _numbers: tuple[Any, ...]  # the rest that `level` reads, as plain numbers: compilers take arrays for inputs

    def _offsets(self, x: Any, t: Any, center: Iterable[float], xp: Any) -> list[Any]:
        """Components less the moving centre, angles wrapped to [-pi, pi]."""
        out = [x[a] - (c + v * t) for a, c, v in zip(self.axes, center, self._drift, strict=True)]
        return [xp.wrap(d) if a in self.angles else d for a, d in zip(self.axes, out, strict=True)]

    def _check(self, d: int, **sized: Array) -> None:
        """Fill in the defaults and refuse what does not fit `d` axes."""
        name = type(self).__name__
        axes = tuple(self.axes) or tuple(range(d))
        velocity = np.zeros(d) if self.velocity is None else np.asarray(self.velocity, float)
        for what, value in {"axes": np.array(axes), "velocity": velocity, **sized}.items():
            if value.shape != (d,):
                raise ShapeError(f"{name}: {what} has shape {value.shape}, expected ({d},), one entry an axis")
            if np.isnan(value).any():
                raise ShapeError(f"{name}: {what} is {value.tolist()}; give numbers, not NaN")
        if len(set(axes)) != d or min(axes) < 0:
            raise ShapeError(f"{name}: axes are {axes}, expected different indices of states")
        if not np.isfinite(velocity).all():
            raise ShapeError(f"{name}: velocity is {velocity.tolist()}, expected finite numbers")
        self._set(axes=axes, velocity=velocity, _drift=tuple(velocity.tolist()), **sized)

    def _set(self, **values: Any) -> None:
        for key, value in values.items():
            if isinstance(value, np.ndarray):  # what `level` reads was taken from it: nobody may write to it
                value = value.copy()
                value.setflags(write=False)
            object.__setattr__(self, key, value)

    @property
    def speed(self) -> float:
        return float(np.linalg.norm(self.velocity))


@dataclass(frozen=True, eq=False)
class Ball(_Moving):
    """All states within `radius` of `center [d]`, which moves with `velocity [d]`; in the plane a disc.

    Args:
        axes: `d` indices of states; none: the first d.
        angles: those axes that are angles (rad): differences are wrapped.
    """

    center: Array
    radius: float
    axes: Axes = ()
    velocity: Array = field(default=None)  # type: ignore[assignment]
    angles: Axes = ()

    def __post_init__(self) -> None:
        center = np.asarray(self.center, float)
        self._check(center.size, center=center)
        if not self.radius >= 0:
            raise ShapeError(f"Ball: radius is {self.radius}, expected at least 0")
        self._set(radius=float(self.radius), _numbers=tuple(center.tolist()))

    def level(self, x: Any, t: Any = 0.0, xp: Any = NUMPY) -> Any:
        d = self._offsets(x, t, self._numbers, xp)
        return xp.sqrt(sum(v * v for v in d) + 1e-18) - 1e-9 - self.radius  # the offset keeps the gradient finite


@dataclass(frozen=True, eq=False)
class Box(_Moving):
    """low <= x - velocity t <= high along each axis; ends may be infinite, and equal."""

    low: Array
    high: Array
    axes: Axes = ()
    velocity: Array = field(default=None)  # type: ignore[assignment]
    angles: Axes = ()

    def __post_init__(self) -> None:
        low, high = np.asarray(self.low, float), np.asarray(self.high, float)
        self._check(low.size, low=low, high=high)
        if not (low <= high).all():
            raise ShapeError(f"Box: low {low.tolist()} is above high {high.tolist()}")
        for a, lo, hi in zip(self.axes, low, high, strict=True):
            if a in self.angles and not np.isfinite(hi - lo):
                raise ShapeError(f"Box: axis {a} is an angle with ends {lo}, {hi}; give finite ends or leave it out")
        self._set(_numbers=tuple(zip(low.tolist(), high.tolist(), strict=True)))

    def level(self, x: Any, t: Any = 0.0, xp: Any = NUMPY) -> Any:
        ends = zip(self.axes, self._numbers, strict=True)
        center = [(lo + hi) / 2 if a in self.angles else 0.0 for a, (lo, hi) in ends]
        q = []
        for d, (lo, hi), c in zip(self._offsets(x, t, center, xp), self._numbers, center, strict=True):
            q.append(xp.maximum(lo - c - d, d - (hi - c)))
        outside = xp.sqrt(sum(xp.square(xp.maximum(v, 0.0)) for v in q) + 1e-18) - 1e-9
        return xp.maximum(outside, 0.0) + xp.minimum(reduce(xp.maximum, q), 0.0)


@dataclass(frozen=True, eq=False)
class Polytope(_Moving):
    """All x with `normals [k, d] @ (x - velocity t) <= offsets [k]`; normals are scaled to length 1."""

    normals: Array
    offsets: Array
    axes: Axes = ()
    velocity: Array = field(default=None)  # type: ignore[assignment]
    angles: Axes = field(default=(), init=False)

    def __post_init__(self) -> None:
        A, b = np.atleast_2d(np.asarray(self.normals, float)), np.atleast_1d(np.asarray(self.offsets, float))
        length = np.linalg.norm(A, axis=1)
        if b.shape != (len(A),) or not np.isfinite(A).all() or np.isnan(b).any() or not (length > 0).all():
            raise ShapeError(
                f"Polytope: normals {A.shape} and offsets {b.shape}; expected [k, d], none of them zero, and [k]"
            )
        self._check(A.shape[1])
        A, b = A / length[:, None], b / length
        self._set(normals=A, offsets=b, _numbers=tuple(zip(A.tolist(), b.tolist(), strict=True)))

    def level(self, x: Any, t: Any = 0.0, xp: Any = NUMPY) -> Any:
        d = self._offsets(x, t, (0.0,) * len(self.axes), xp)
        faces = [sum(a * v for a, v in zip(n, d, strict=True)) - b for n, b in self._numbers]
        return reduce(xp.maximum, faces)


@dataclass(frozen=True)
class Union:
    """States that lie in any of `parts`, which may have different axes."""

    parts: Sequence[Region]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ShapeError("Union: no parts; give at least one set")
        object.__setattr__(self, "parts", tuple(self.parts))

    @property
    def axes(self) -> Axes:
        return tuple(sorted({a for p in self.parts for a in p.axes}))

    @property
    def speed(self) -> float:
        return max(p.speed for p in self.parts)

    def level(self, x: Any, t: Any = 0.0, xp: Any = NUMPY) -> Any:
        return reduce(xp.minimum, [p.level(x, t, xp) for p in self.parts])


def levels(region: Region, times: Array, states: Array) -> Array:
    """Levels `[T, P]` of a flow's states `[T, n, P]` at `times [T]`.

    Raises:
        ShapeError: the region has an axis that the states lack.
    """
    n = states.shape[1]
    if max(region.axes) >= n:
        raise ShapeError(f"{type(region).__name__}: axes are {region.axes}, but the states have {n} components")
    return region.level(np.moveaxis(states, 1, 0), np.asarray(times)[:, None])
