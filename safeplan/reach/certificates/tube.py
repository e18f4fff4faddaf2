"""Tubes around predicted trajectories from how far recorded ones went astray, with finite-sample coverage [conformal].

The largest error over the horizon is one score a trajectory, so a ball of its quantile around every step holds a whole
new trajectory: the k-th smallest of n scores, k = ceil((n+1)(1-alpha)), is exceeded with probability at most alpha. No
assumption on predictor or noise, but the new trajectory must be exchangeable with the recorded ones: errors along a
plan that an optimiser made are not, unless those were recorded along such plans.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from safeplan.errors import CertificateError, DataError
from safeplan.reach.certificates.binomial import clopper_pearson, samples_needed
from safeplan.types import Array

ASSUMES = (
    "the new trajectory is exchangeable with the calibration ones: same task, same kind of plan",
    "predictor and scale were fixed before the calibration trajectories were seen",
)


@dataclass(frozen=True)
class Tube:
    """Radii around a prediction. `radius [T]` holds all steps of a new trajectory at once with probability
    `1 - alpha`, `per_step [T]` one step at a time."""

    radius: Array
    per_step: Array
    alpha: float
    delta: float | None  # chance that the calibration set breaks the promise; None: the promise is on average
    n: int
    rank: int  # the rank-th smallest score is taken
    assumes: tuple[str, ...] = ASSUMES

    def holds(self, errors: Array) -> Array:
        """`[B]`: whether trajectories with `errors [B, T]` stay inside at every step; NaN is outside."""
        return np.all(np.asarray(errors) <= self.radius, axis=1)


def deviation(predicted: Array, actual: Array) -> Array:
    """Euclidean errors `[n, T]` of `predicted` against `actual [n, T, d]`, in their unit."""
    predicted, actual = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if predicted.shape != actual.shape or predicted.ndim != 3:
        raise DataError(
            f"deviation: predicted is {predicted.shape}, actual {actual.shape}; expected the same [n, T, d]"
        )
    return np.linalg.norm(predicted - actual, axis=-1)


def tube(errors: Array, alpha: float, *, delta: float | None = None, scale: Array | None = None) -> Tube:
    """Calibrate on errors `[n, T]` >= 0 of n trajectories; infinite for one that broke.

    Args:
        alpha: share of new trajectories that may leave the tube.
        delta: None: at most alpha on average over calibration sets; else for all but a share delta of them.
        scale: `[T]` > 0, how errors grow over the horizon, from other trajectories; None: the same radius at each step.

    Raises:
        DataError: errors that are NaN, negative or no matrix; a scale of another length.
        CertificateError: too few trajectories for this alpha (and delta).
    """
    errors = np.asarray(errors, np.float64)
    if errors.ndim != 2 or not errors.size or not (errors >= 0).all():
        raise DataError(
            f"tube: errors are {errors.shape}; expected [n, T] of numbers >= 0, and infinity for a trajectory that "
            "broke: leaving those out would make the tube too narrow"
        )
    scale = np.ones(errors.shape[1]) if scale is None else np.asarray(scale, np.float64)
    if scale.shape != errors.shape[1:] or not ((scale > 0) & np.isfinite(scale)).all():
        raise DataError(f"tube: scale is {scale.shape}, expected [{errors.shape[1]}] finite numbers above 0")
    n = len(errors)
    rank = rank_of(n, alpha, delta)
    if rank > n:
        raise CertificateError(
            f"tube: {n} trajectories are too few for alpha = {alpha}"
            + (f", delta = {delta}" if delta is not None else "")
            + f"; give at least {trajectories_needed(alpha, delta)}"
        )
    worst = np.sort((errors / scale).max(axis=1))[rank - 1]
    return Tube(worst * scale, np.sort(errors, axis=0)[rank - 1], alpha, delta, n, rank)


def trajectories_needed(alpha: float, delta: float | None = None) -> int:
    """Least number of trajectories with which `tube` gives a radius (99 for 1 %, 299 with delta = 5 %)."""
    return int(np.ceil(1 / alpha - 1 - 1e-9)) if delta is None else samples_needed(alpha, delta)


@lru_cache(maxsize=64)
def rank_of(n: int, alpha: float, delta: float | None) -> int:
    """The smallest rank that keeps the promise; n + 1 when none does.

    With delta: the share of new scores above the rank-th is at most Beta(n - rank + 1, rank) distributed (Vovk 2012),
    so it is the largest number of hits n - rank whose Clopper-Pearson bound stays below alpha.
    """
    if not 0 < alpha < 1 or (delta is not None and not 0 < delta < 1):
        raise CertificateError(f"tube: alpha = {alpha}, delta = {delta}; both must lie in (0, 1)")
    if delta is None:
        return int(np.ceil((n + 1) * (1 - alpha) - 1e-9))
    above = 0
    while above < n and clopper_pearson(above, n, delta)[1] <= alpha:
        above += 1
    return n + 1 - above
