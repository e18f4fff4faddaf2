"""How exact a box's probability is for a number of particles: independent ones against Sobol points."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from safeplan.dynamics.systems import Case
from safeplan.reach.rivals.fitted import shares
from safeplan.reach.rivals.runs import draw, ends
from safeplan.reach.sets import Box
from safeplan.types import Array

FEWEST = 32  # particles
LIKELY = (0.02, 0.6)  # probabilities of the boxes that are kept
TRIES = 50  # boxes looked at for each one kept


@dataclass(frozen=True)
class BoxError:
    """Root mean square of (estimate - p) / p over boxes and repeats, for `n [S]` particles.

    Args:
        boxes: their probabilities are `p [K]`, from a cloud that took no part in the estimates.
        iid, sobol: errors `[S]` that were measured.
    """

    boxes: tuple[Box, ...]
    p: Array
    n: Array
    iid: Array
    sobol: Array

    @property
    def theory(self) -> Array:
        """What independent draws must give, `[S]`: the root of the mean of (1 - p) / (p n)."""
        return np.sqrt(np.mean((1 - self.p) / self.p) / self.n)

    @property
    def equals(self) -> Array:
        """Number `[S]` of independent draws that have the error of n Sobol points."""
        return np.mean((1 - self.p) / self.p) / self.sobol**2


def pick_boxes(points: Array, axes: tuple[int, int], count: int, seed: int) -> tuple[tuple[Box, ...], Array]:
    """Up to `count` boxes in the plane around points of `points [2, N]`, and their probabilities by counting.

    Sides are 0.3 to 1.5 standard deviations; kept when the probability is 0.02 to 0.6. None when the points span no
    area.
    """
    rng, seen = np.random.default_rng(seed), points[:, np.isfinite(points).all(0)]
    if seen.shape[1] < 2:
        return (), np.zeros(0)
    sd, kept, mass = seen.std(1), [], []
    for _ in range(TRIES * count if (sd > 0).all() else 0):
        half = 0.5 * sd * 0.3 * 5.0 ** rng.random(2)
        middle = seen[:, rng.integers(seen.shape[1])]
        p = float(np.mean((np.abs(points - middle[:, None]) <= half[:, None]).all(0)))
        if LIKELY[0] <= p <= LIKELY[1]:
            kept.append(Box(middle - half, middle + half, axes=axes))
            mass.append(p)
        if len(kept) == count:
            break
    return tuple(kept), np.array(mass)


def box_error(
    case: Case,
    cloud: Array,
    axes: tuple[int, int],
    *,
    boxes: int,
    most: int,
    repeats: int,
    seed: int,
    progress: Callable[[int], Any] = lambda n: None,
) -> BoxError | None:
    """Estimate boxes at the end of the horizon from 32 to `most` particles, `repeats` times; None: no box to be found.

    The first 2^k Sobol points are Sobol points too, so one run of `most` gives all sizes.

    Args:
        cloud: states along `axes` `[2, N]` at that time, N well above `most`, which stand for the truth.
        seed: seeds seed .. seed + repeats - 1 are used.
    """
    chosen, p = pick_boxes(cloud, axes, boxes, seed)
    if not chosen:
        progress(2 * repeats)
        return None
    sizes = FEWEST << np.arange(int(np.log2(most // FEWEST)) + 1)
    errors = {}
    for sampler in ("iid", "sobol"):
        rows = []
        for r in range(repeats):
            x = ends(case, draw(case, most, seed + r, sampler))
            rows.append([shares(x[:n], chosen, case.horizon_s) for n in sizes])
            progress(1)
        errors[sampler] = np.sqrt(np.mean(((np.array(rows) - p) / p) ** 2, axis=(0, 2)))
    return BoxError(chosen, p, sizes, errors["iid"], errors["sobol"])
