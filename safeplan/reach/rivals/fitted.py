"""The one interface of all estimators of the density of reachable states, and what they share."""

from collections.abc import Iterable, Sequence
from typing import NoReturn, Protocol

import numpy as np

from safeplan.errors import CapabilityError, ShapeError
from safeplan.reach.sets import Box, Region
from safeplan.types import Array


class Fitted(Protocol):
    """An estimate of where a system is at one time; immutable."""

    @property
    def t(self) -> float:
        """Time that it speaks of, s."""
        ...

    def probability(self, regions: Sequence[Region]) -> Array:
        """`[K]` estimates of P(state at `t` in region), in [0, 1].

        Raises:
            CapabilityError: a kind of region that it cannot integrate over.
        """
        ...

    def log_density(self, x: Array) -> Array:
        """Log-density `[P]` (nats; per unit of every state) at states `x [P, n]`; -inf where it sees no mass.

        Raises:
            CapabilityError: it has none.
        """
        ...


def no_density(who: str, instead: str) -> NoReturn:
    """Refuse `log_density`."""
    raise CapabilityError(f"{who} has no density at a point; use {instead}")


def points(x: Array, n: int, who: str) -> Array:
    """`x` as `[P, n]`.

    Raises:
        ShapeError: it is not.
    """
    x = np.asarray(x, float)
    if x.ndim != 2 or x.shape[1] != n:
        raise ShapeError(f"{who}.log_density: x is {x.shape}, expected [P, {n}], one row a state")
    return x


def fits(region: Region, n: int) -> Region:
    """The region, if states of `n` components have its axes.

    Raises:
        ShapeError: they have not.
    """
    if max(region.axes) >= n:
        raise ShapeError(f"{type(region).__name__}: axes are {region.axes}, but the states have {n} components")
    return region


def shares(x: Array, regions: Iterable[Region], t: float) -> Array:
    """Share `[K]` of the states `x [N, n]` that lie in each region; one that is NaN lies in none."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array([np.mean(fits(r, x.shape[1]).level(x.T, t) <= 0) for r in regions], float)


def ends_of(region: Region, n: int, t: float, who: str) -> tuple[Array, Array]:
    """Low and high ends `[n]` of a box at time `t`, infinite along axes that it leaves free.

    Raises:
        CapabilityError: not a box, or one along an angle that wraps.
    """
    if not isinstance(region, Box) or region.angles:
        what = "a box along a wrapped angle" if isinstance(region, Box) else f"a {type(region).__name__}"
        raise CapabilityError(f"{who} integrates over boxes without angles, not over {what}; use `count`")
    axes = list(fits(region, n).axes)
    low, high = np.full(n, -np.inf), np.full(n, np.inf)
    low[axes], high[axes] = region.low + region.velocity * t, region.high + region.velocity * t
    return low, high
