"""Entries of particles into any set, counted: their expected number bounds the probability of ever being inside."""

from typing import NamedTuple

import numpy as np

from safeplan.dynamics.equations import Equations
from safeplan.dynamics.systems import Case
from safeplan.reach.events.occupancy import occupancy
from safeplan.reach.events.replicates import scrambles, student_interval
from safeplan.reach.motion import Path, densify, motion
from safeplan.reach.sets import Region, levels
from safeplan.types import Array, Belief, Reference


def entries(region: Region, path: Path, *, between: int = 3, depth: int = 12) -> Array:
    """Number of entries `[P]` of each particle, a start inside among them, seen at `between` times more in each step;
    at least 1 where `occupancy` finds one. An unknown state (NaN, inf) counts as inside.

    Raises:
        ShapeError: the region has an axis that the states lack.
    """
    flow = densify(path, between)
    with np.errstate(all="ignore"):
        inside = ~(levels(region, *flow) > 0) | ~np.isfinite(flow.states).all(axis=1)
    seen = inside[0].astype(int) + (inside[1:] & ~inside[:-1]).sum(axis=0)
    return np.maximum(seen, occupancy(region, path, depth=depth).entered)


class ExpectedEntries(NamedTuple):
    """Mean number of entries, with a Student-t interval over replicates."""

    estimate: float
    low: float
    high: float


def expected_entries(
    system: Case | Equations,
    belief: Belief | None,
    region: Region,
    reference: Reference | None = None,
    *,
    n: int = 8192,
    seed: int = 0,
    replicates: int = 8,
    confidence: float = 0.95,
    between: int = 3,
) -> ExpectedEntries:
    """Mean number of entries into any set, over the same particles as `probability`: an upper bound of it.

    Raises:
        CapabilityError, ShapeError, ConfigError: as `probability`.
    """
    m = motion(system, belief, reference)
    draws = scrambles(m.belief, n, m.stretches, seed, replicates)
    means = np.array(
        [np.concatenate([entries(region, path, between=between) for path in m.paths(draw)]).mean() for draw in draws]
    )
    mean, low, high = student_interval(means, confidence)
    return ExpectedEntries(float(mean), max(float(low), 0.0), float(high))
