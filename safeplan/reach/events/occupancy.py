"""Which particles are in a set, at stored times and between them, and when they first enter.

A level is 1-Lipschitz in the position relative to the set, so a stretch of path is surely free where the levels at its
ends add up to more than its length: the level along it is at least half of what is left. A stretch that is not is
halved (de Casteljau), until it is free, its middle lies inside, or `depth` halvings are spent.
"""

from typing import NamedTuple

import numpy as np

from safeplan.reach.motion import Path
from safeplan.reach.sets import Region, levels
from safeplan.types import Array

MOST_PIECES = 1 << 20  # stretches in hand at once; beyond it those left stay undecided


class Occupancy(NamedTuple):
    """What became of each particle. An unknown state (NaN, inf) counts as inside.

    inside `[T, P]` at stored times. entry `[P]`, a time inside: of first entry when refined, else at most as late as
    the first stored time inside; inf: none found. undecided `[P]`: no entry found, and none ruled out. known `[P]`:
    inside for sure at some time. lost `[P]`: unknown at some time.
    """

    inside: Array
    entry: Array
    undecided: Array
    known: Array
    lost: Array

    @property
    def entered(self) -> Array:
        """`[P]` inside at some time, also between stored ones, or unknown."""
        return np.isfinite(self.entry)


def occupancy(
    region: Region, path: Path, *, depth: int = 12, refine: bool = False, length: Array | None = None
) -> Occupancy:
    """Decide for each particle whether its path meets `region`, up to pieces of a step / 2^depth.

    Args:
        depth: halvings of a step at most; 0: stored times only, and what is not surely free in between is undecided.
        refine: follow also particles that are known to enter, so that `entry` is the first one to step / 2^depth.
        length: `path.length(region.axes)`, where it is there already.
    Raises:
        ShapeError: the region has an axis that the states lack.
    """
    with np.errstate(all="ignore"):
        return _occupancy(region, path, depth, refine, length)


def _length(points: Array, axes: tuple[int, ...]) -> Array:
    """Length of the control polygons `[4, ..., n, Q]` over some axes: at least that of the curve."""
    d = np.diff(points, axis=0)
    return np.sqrt(sum(d[..., a, :] ** 2 for a in axes)).sum(axis=0)


def _occupancy(region: Region, path: Path, depth: int, refine: bool, length: Array | None) -> Occupancy:
    times, unknown = path.times, path.unknown
    level = levels(region, times, path.states)
    level = np.broadcast_to(level, unknown.shape)
    inside = ~(level > 0) | unknown
    known = np.asarray(((level <= 0) & ~unknown).any(axis=0))
    first = np.where(inside.any(axis=0), inside.argmax(axis=0), len(times))
    entry = np.append(times, np.inf)[first]
    length = path.length(region.axes) if length is None else length
    free = level[:-1] + level[1:] > length + region.speed * np.diff(times)[:, None]
    open_ = ~free & (np.arange(len(times) - 1)[:, None] < first)
    k, who = np.nonzero(open_ if refine else open_ & (first == len(times)))
    c, ends = np.moveaxis(path.bezier(k, who), 1, -1), np.stack([times[k], times[k + 1]])  # [4, n, Q], [2, Q]
    at = np.stack([level[k, who], level[k + 1, who]])
    for _ in range(depth):
        if not len(who) or len(who) > MOST_PIECES:
            break
        left, right = _halves(c)
        t = ends.mean(axis=0)
        middle = region.level(left[3], t)
        hit = ~(middle > 0)
        known[who[middle <= 0]] = True
        np.minimum.at(entry, who[hit], t[hit])
        c, who = np.concatenate([left, right], axis=-1), np.tile(who, 2)
        ends = np.concatenate([[ends[0], t], [t, ends[1]]], axis=-1)
        at = np.concatenate([[at[0], middle], [middle, at[1]]], axis=-1)
        keep = ~(at.sum(axis=0) > _length(c, region.axes) + region.speed * (ends[1] - ends[0]))
        keep &= ends[0] < entry[who] if refine else np.isinf(entry[who])
        c, ends, at, who = c[..., keep], ends[:, keep], at[:, keep], who[keep]
    undecided = np.zeros(len(entry), bool)
    undecided[who] = True
    return Occupancy(inside, entry, undecided & np.isinf(entry), known, np.asarray(unknown.any(axis=0)))


def _halves(c: Array) -> tuple[Array, Array]:
    """Control points of the two halves of cubic curves `[4, ...]`."""
    ab, bc, cd = (c[:-1] + c[1:]) / 2
    abc, bcd = (ab + bc) / 2, (bc + cd) / 2
    middle = (abc + bcd) / 2
    return np.stack([c[0], ab, abc, middle]), np.stack([middle, bcd, cd, c[3]])
