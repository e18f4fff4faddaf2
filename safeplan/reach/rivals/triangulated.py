"""Integral of a density that is interpolated linearly between simulated states.

The exact log-density at every simulated state is known; a Delaunay triangulation of the states fills the space between.
It is unusable where the flow folds or contracts. There, neighbours in space come from far apart at the start, or a thin
ridge of high density spans a cell that is mostly empty: the integral over everything, which should be 1, comes out many
times too large. `mass` tells. Dividing by it keeps probabilities below 1, but does not make them right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial
from typing import Any

import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay
from scipy.stats import qmc

from safeplan.errors import CapabilityError
from safeplan.reach.rivals.convex import qhull
from safeplan.reach.rivals.fitted import fits, no_density, points
from safeplan.reach.rivals.runs import Runs
from safeplan.reach.sets import Box, Region
from safeplan.types import Array

MOST = 6  # axes that are triangulated: cells grow exponentially with their number


@dataclass(frozen=True)
class Triangulated:
    """Density over (x, uncertain parameters): `exp(log_scale) * interpolant`, the parameters last.

    Args:
        mass: its integral over everything, before division; 1 if it were right.
        normalised: whether it is divided by `mass`.
        low, high: box of the states and parameters seen.
        unit: quasi-random points `[M, d]` of the unit cube.
    """

    t: float
    n: int
    interpolant: Any
    log_scale: float
    mass: float
    normalised: bool
    low: Array
    high: Array
    unit: Array

    def probability(self, regions: Sequence[Region]) -> Array:
        """By quasi-Monte-Carlo; above 1 where the method fails, unless normalised."""
        return np.array([self._one(fits(r, self.n)) for r in regions])

    def _one(self, region: Region) -> float:
        low, high = self.low.copy(), self.high.copy()
        if isinstance(region, Box) and not region.angles:  # all points into the box instead of few
            axes, shift = list(region.axes), region.velocity * self.t
            low[axes] = np.maximum(low[axes], region.low + shift)
            high[axes] = np.minimum(high[axes], region.high + shift)
        if (low > high).any():
            return 0.0
        z = low + (high - low) * self.unit
        inside = region.level(z[:, : self.n].T, self.t) <= 0
        values = np.where(inside, self.interpolant(z), 0.0)
        total = float(values.mean() * np.prod(high - low) * np.exp(self.log_scale))
        return min(total / self.mass, 1.0) if self.normalised else total

    def log_density(self, x: Array) -> Array:
        if len(self.low) > self.n:
            no_density("delaunay with uncertain parameters, whose density is one of both together,", "kde")
        with np.errstate(divide="ignore"):
            logs = np.log(self.interpolant(points(x, self.n, "delaunay"))) + self.log_scale
        return logs - np.log(self.mass) if self.normalised else logs


def delaunay(runs: Runs, normalise: bool = True, draws: int = 1 << 13, seed: int = 0) -> Triangulated:
    """The density at the simulated states, interpolated linearly on a Delaunay triangulation of them.

    Args:
        runs: with `log_rho`.
        normalise: divide by the integral over everything; False: as the method stands, not bounded by 1.

    Raises:
        CapabilityError: runs without density, more than 6 axes, or states that span no volume.
    """
    if runs.log_rho is None:
        raise CapabilityError("delaunay: the runs carry no density; make them with simulate(..., density=True)")
    z = np.hstack([runs.x, runs.constants])
    d = z.shape[1]
    if d > MOST:
        raise CapabilityError(f"delaunay: {d} axes, states and uncertain parameters together; at most {MOST}")
    cells = qhull("delaunay", Delaunay, z)
    scale = float(runs.log_rho.max())
    rho = np.exp(runs.log_rho - scale)
    corners = z[cells.simplices]
    volume = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1])) / factorial(d)
    mass = float((volume * rho[cells.simplices].mean(1)).sum() * np.exp(scale))
    unit = qmc.Sobol(d, rng=np.random.default_rng(seed)).random_base2(int(np.ceil(np.log2(draws))))
    return Triangulated(
        runs.t,
        runs.x.shape[1],
        LinearNDInterpolator(cells, rho, fill_value=0.0),
        scale,
        mass,
        normalise,
        z.min(0),
        z.max(0),
        unit,
    )
