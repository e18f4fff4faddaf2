"""Counting particles: Monte Carlo, with independent draws or Sobol points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from safeplan.reach.rivals.fitted import no_density, shares
from safeplan.reach.rivals.runs import Runs
from safeplan.reach.sets import Region
from safeplan.types import Array


@dataclass(frozen=True)
class Count:
    """Share of trajectories that end in a region: unbiased, with variance p (1 - p) / N for independent draws."""

    runs: Runs

    @property
    def t(self) -> float:
        return self.runs.t

    def probability(self, regions: Sequence[Region]) -> Array:
        return shares(self.runs.x, regions, self.t)

    def log_density(self, x: Array) -> NoReturn:
        no_density("count", "kde or histogram on the same runs, or the exact density along characteristics")


def count(runs: Runs) -> Count:
    """The rival that any other must beat at the same number of trajectories."""
    return Count(runs)
