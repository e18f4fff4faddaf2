"""Convex hull of the states seen: the reachable set of those who leave the density out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.stats import qmc

from safeplan.errors import CapabilityError
from safeplan.reach.rivals.fitted import points, shares
from safeplan.reach.rivals.runs import Runs
from safeplan.reach.sets import Region
from safeplan.types import Array

FEWEST = 200  # quasi-random points that must fall into the hull


@dataclass(frozen=True)
class Hull:
    """The uniform density on the hull: `{x: normals [F, n] @ x <= offsets [F]}` of `volume`, `inside [M, n]` in it."""

    t: float
    normals: Array
    offsets: Array
    volume: float
    inside: Array

    def probability(self, regions: Sequence[Region]) -> Array:
        """Share of the hull's volume, by quasi-Monte-Carlo."""
        return shares(self.inside, regions, self.t)

    def log_density(self, x: Array) -> Array:
        x = points(x, self.inside.shape[1], "hull")
        return np.where(_within(x, self.normals, self.offsets), -np.log(self.volume), -np.inf)


def _within(x: Array, normals: Array, offsets: Array) -> Array:
    slack = 1e-12 * (1 + np.abs(offsets))
    groups = np.array_split(x, max(1, len(x) * len(normals) >> 22))
    return np.concatenate([(g @ normals.T <= offsets + slack).all(1) for g in groups])


def qhull(who: str, make, x: Array):
    """`make(x)`, a structure of scipy.spatial.

    Raises:
        CapabilityError: states on a line or a plane, or too few of them.
    """
    try:
        return make(x)
    except (QhullError, ValueError) as e:
        spread = np.ptp(x, axis=0).tolist()
        raise CapabilityError(
            f"{who}: {len(x)} states of {x.shape[1]} components span no volume (their extents are {spread}); choose a "
            "later time, more trajectories, or `count`"
        ) from e


def hull(runs: Runs, draws: int = 1 << 15, seed: int = 0) -> Hull:
    """Convex hull by Qhull; `draws` quasi-random points of its bounding box measure overlaps.

    Raises:
        CapabilityError: the states span no volume, or fill too little of their box (many axes) to be measured.
    """
    found = qhull("hull", ConvexHull, runs.x)
    normals, offsets = found.equations[:, :-1], -found.equations[:, -1]
    low, high = runs.x.min(0), runs.x.max(0)
    sobol = qmc.Sobol(runs.x.shape[1], rng=np.random.default_rng(seed))
    cloud = low + (high - low) * sobol.random_base2(int(np.ceil(np.log2(draws))))
    inside = cloud[_within(cloud, normals, offsets)]
    if len(inside) < FEWEST:
        raise CapabilityError(
            f"hull: {len(inside)} of {len(cloud)} points fall inside, fewer than {FEWEST}: it fills too little of its "
            "box; give more draws"
        )
    return Hull(runs.t, normals, offsets, float(found.volume), inside)
