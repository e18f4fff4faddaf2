"""Does a calibrated threshold keep its promise? Its misses counted over many splits of states known to be unsafe.

Splits of one pool, drawn at random, are independent given the pool, and each leaves out states that are exchangeable
with those that calibrate: the setting of the promise, for whatever score and whatever pool. The misses among the m
states left out are then BetaBinomial(m, k, n - k + 1) distributed for the rank k of `calibrate` [conformal].
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import betabinom, binomtest, norm

from safeplan.errors import CertificateError, ConfigError
from safeplan.feasibility import calibrate, states_needed

Array = np.ndarray

LEVEL = 0.01  # a promise counts as broken when chance alone would do as badly less often than this


@dataclass(frozen=True)
class Promise:
    """What was promised and what was missed. Miss rate of a split: share of the unsafe states left out called safe."""

    alpha: float
    delta: float | None  # as of `calibrate`
    splits: int
    calibrated_on: int  # unsafe states of each split
    measured_on: int  # the rest
    mean: float  # miss rate, over the splits
    standard_error: float  # of the mean
    expected: float  # mean by theory, k / (n + 1), when no values tie
    above: int  # splits whose miss rate is above alpha
    p: float  # chance of no better result where the promise just holds
    kept: bool  # p >= LEVEL


def count_misses(
    unsafe: Array,
    alpha: float,
    delta: float | None = None,
    *,
    rng: np.random.Generator,
    splits: int = 100,
    share: float = 0.1,
) -> Promise:
    """Calibrate on a random `share` of the values `unsafe [N]`, count those of the rest called safe; `splits` times.

    Without delta the mean miss rate is held against alpha, with the spread that splits have where the promise just
    holds. With delta the number of splits above alpha is held against it: an exact binomial test, a little too strict,
    since the rest is finite too and its chance adds to the splits above. A small share keeps that little.

    Raises:
        ConfigError: fewer than 2 splits, a share outside (0, 1). CertificateError: too few states to calibrate on.
        DataError: values that are no finite vector.
    """
    if splits < 2 or not 0 < share < 1:
        raise ConfigError(f"count_misses: splits = {splits}, share = {share}; give 2 splits or more, 0 < share < 1")
    values = np.asarray(unsafe)
    n = int(share * len(values) + 1e-9)
    m = len(values) - n
    if 0 < alpha < 1 and (delta is None or 0 < delta < 1) and n < (least := states_needed(alpha, delta)):
        raise CertificateError(
            f"count_misses: {share:g} of {len(values)} unsafe states are {n}, and alpha = {alpha}, delta = {delta} "
            f"needs {least} to calibrate on; give {int(np.ceil(least / share))} or more, or a larger share"
        )
    orders = [rng.permutation(len(values)) for _ in range(splits)]
    found = [calibrate(values[o[:n]], alpha, delta) for o in orders]
    missed = np.array([c.safe(values[o[n:]]).mean() for c, o in zip(found, orders, strict=True)])
    mean, above = float(missed.mean()), int((missed > alpha).sum())
    if delta is None:
        spread = betabinom.std(m, alpha * (n + 1), (1 - alpha) * (n + 1)) / m
        p = float(norm.sf((mean - alpha) / (spread / np.sqrt(splits))))
    else:
        p = float(binomtest(above, splits, delta, "greater").pvalue)
    error = float(missed.std(ddof=1) / np.sqrt(splits))
    return Promise(alpha, delta, splits, n, m, mean, error, found[0].rank / (n + 1), above, p, p >= LEVEL)
