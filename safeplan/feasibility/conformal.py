"""How far below 0 must V_h be, before "safe" may be trusted? A threshold with a finite-sample promise.

Split conformal prediction on states known to be unsafe [conformal]:
whatever the critic learned, of new unsafe states that are exchangeable with those at hand, at most a share alpha is
called safe. It promises nothing about states of another kind, nor about safe states called unsafe.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from safeplan.errors import CertificateError, DataError

Array = np.ndarray


@dataclass(frozen=True)
class Calibration:
    """A state is called safe where `value < threshold`."""

    threshold: float
    alpha: float  # promised share of unsafe states that are called safe, at most
    delta: float | None  # chance that the draw of calibration states breaks the promise; None: it is on average
    states: int  # unsafe calibration states
    rank: int  # the threshold is the rank-th smallest of their values

    @property
    def at_most(self) -> float:
        """The largest float32 below the threshold: the `threshold` of a policy, which calls its equals feasible."""
        below = np.nextafter(np.float32(self.threshold), np.float32(-np.inf))
        return float(below)

    def safe(self, values: Array) -> Array:
        """`[B]` true where states with these values are called safe."""
        return np.asarray(values) < self.threshold


def calibrate(unsafe: Array, alpha: float, delta: float | None = None) -> Calibration:
    """Threshold from the values `[n]` (V_h or Q_h) of truly unsafe states.

    Without delta the promise holds on average over calibration sets: P(new unsafe value < s_(k)) <= k / (n + 1) with
    k = floor(alpha (n + 1)) [conformal]. With delta it holds for all but a share delta of calibration sets:
    the miss rate of s_(k) is at most Beta(k, n - k + 1) distributed (Vovk 2012). Ties only make it safer.

    Raises:
        DataError: values that are no finite vector. CertificateError: too few states for this alpha (and delta).
    """
    values = np.sort(np.asarray(unsafe, np.float64))
    if values.ndim != 1 or not np.isfinite(values).all():
        raise DataError(f"calibrate: values are {values.shape}, expected a vector of finite numbers")
    if not 0 < alpha < 1 or (delta is not None and not 0 < delta < 1):
        raise CertificateError(f"calibrate: alpha = {alpha}, delta = {delta}; both must lie in (0, 1)")
    n = len(values)
    rank = _rank(n, alpha, delta)
    if rank < 1:
        raise CertificateError(
            f"calibrate: {n} unsafe states are too few for alpha = {alpha}"
            + (f", delta = {delta}" if delta is not None else "")
            + f"; give at least {states_needed(alpha, delta)}"
        )
    return Calibration(float(values[rank - 1]), alpha, delta, n, rank)


def states_needed(alpha: float, delta: float | None = None) -> int:
    """Least number of unsafe states with which `calibrate` gives a threshold (99 for 1 %, 299 with delta = 5 %)."""
    if delta is None:
        return int(np.ceil(1 / alpha - 1 - 1e-9))
    return int(np.ceil(np.log(delta) / np.log1p(-alpha) - 1e-9))


def _rank(n: int, alpha: float, delta: float | None) -> int:
    """The largest rank that keeps the promise; 0 when none does."""
    highest = int(np.floor(alpha * (n + 1) + 1e-9))
    if delta is None:
        return highest
    ranks = np.arange(1, highest + 1)
    return int((beta.sf(alpha, ranks, n - ranks + 1) <= delta).sum())  # it grows with the rank
