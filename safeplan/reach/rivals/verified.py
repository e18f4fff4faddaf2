"""Interval reachability: bounds on a probability that are certain, from cells of the start that are followed whole.

Every cell of the start has known probability and an enclosure of where its states end. A region's probability is at
least that of the cells surely inside, at most that of the cells that may touch it. Guaranteed: for the exact flow of
the equations, and for any belief that maps the unit cube to start states coordinate by coordinate, rising, as those
here do. Ignored: floating-point rounding (see `intervals`).

Bounds are useful while cells stay small: Van der Pol to its horizon needs about 16,000 of them. Slopes of a neural
controller are enclosed loosely, layer by layer, so those loops are followed for a few tenths of a second only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from safeplan.dynamics.systems import Case
from safeplan.errors import ConfigError
from safeplan.reach.rivals.enclosure import Tube, advance, begin
from safeplan.reach.rivals.fitted import fits, no_density
from safeplan.reach.rivals.intervals import INTERVAL, Interval
from safeplan.reach.rivals.runs import corners, until
from safeplan.reach.sets import Region
from safeplan.types import Array

MOST = 1 << 16  # cells


@dataclass(frozen=True)
class Verified:
    """`C` cells of the same probability, each with the box `low, high [n, C]` that holds its states at `t`.

    Args:
        lost: cells `[C]` whose enclosure blew up; they may be anywhere.
    """

    t: float
    low: Array
    high: Array
    lost: Array

    @property
    def reason(self) -> str:
        """Why bounds are wider than they should be; empty when no enclosure blew up."""
        k, n = int(self.lost.sum()), len(self.lost)
        return f"the enclosures of {k} of {n} cells blew up before t = {self.t:g} s: they may be anywhere" if k else ""

    def bounds(self, regions: Sequence[Region]) -> tuple[Array, Array]:
        """`[K]` and `[K]`: P(state at `t` in region) lies between them; 0 and 1 where every enclosure blew up."""
        with np.errstate(invalid="ignore"):
            found = [self._one(fits(r, len(self.low))) for r in regions]
        return np.array([f[0] for f in found], float), np.array([f[1] for f in found], float)

    def _one(self, region: Region) -> tuple[float, float]:
        level = region.level(INTERVAL.unpack(Interval(self.low, self.high)), self.t, INTERVAL)
        sure = ~self.lost & (level.hi <= 0)
        return float(np.mean(sure)), float(np.mean(self.lost | ~(level.lo > 0)))

    def probability(self, regions: Sequence[Region]) -> Array:
        """The middle of the bounds: off by at most half their distance."""
        low, high = self.bounds(regions)
        return (low + high) / 2

    def log_density(self, x: Array) -> NoReturn:
        no_density("interval reachability", "the exact density along characteristics")


def interval_reach(case: Case, steps: int | None = None, cells: int = 4096, substeps: int | None = None) -> Verified:
    """Follow about `cells` cells of the start, of the same probability each, for `steps` steps.

    Args:
        cells: at most 2^16; spread evenly over the start states and parameters that are uncertain.
        substeps: Taylor steps in one step of the case; None: those of its RK4.

    Raises:
        ConfigError: cells or substeps out of range, steps beyond the horizon.
        CapabilityError: a belief without `push`, or parameters that are drawn anew on the way.
    """
    if not 1 <= cells <= MOST or (substeps is not None and substeps < 1):
        raise ConfigError(f"interval_reach: cells = {cells}, substeps = {substeps}; give 1 to {MOST} cells, 1 substep")
    case = until(case, steps)
    loop = case.loop
    x, theta = _cells(case, cells)
    substeps = substeps or loop.substeps
    tube = begin(*x, params=loop.p)
    u = tuple(float(v) for v in case.command)
    for _ in range(case.steps * substeps):
        tube = advance(loop, tube, u, theta, loop.dt / substeps)
    return _seen(case, tube)


def _seen(case: Case, tube: Tube) -> Verified:
    box = tube.box
    low, high = (np.where(tube.lost, s * np.inf, e) for s, e in ((-1, box.lo), (1, box.hi)))
    return Verified(case.horizon_s, low, high, tube.lost)


def _cells(case: Case, most: int) -> tuple[tuple[Array, Array], Interval]:
    """Start states, ends `[n, C]` each, and parameters `[p, C]` of cells of equal probability."""
    start: Any = case.start
    ends, d = corners(case, "interval reachability"), start.dim(1)
    uncertain = np.hstack([np.ptp(ends.x, axis=0), np.ptp(ends.theta[:, 0], axis=0)]) > 0
    counts = np.ones(d, int)
    while uncertain.any():
        axis = np.flatnonzero(uncertain)[np.argmin(counts[uncertain])]
        if counts.prod() // counts[axis] * (counts[axis] + 1) > most:
            break
        counts[axis] += 1
    index = np.stack(np.unravel_index(np.arange(counts.prod()), counts), axis=1)
    low, high = (start.push((index + k) / counts, 1) for k in (0, 1))
    return (low.x.T, high.x.T), Interval(low.theta[:, 0].T, high.theta[:, 0].T)
