"""Intervals and paired tests for closed-loop studies, all on SciPy; every published number goes through here."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from safeplan.errors import ConfigError, DataError
from safeplan.types import Array

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate and its two-sided interval."""

    estimate: float
    low: float
    high: float


class Paired(NamedTuple):
    """Two methods on the same seeds: `difference` of success rates (a - b), discordant counts, exact McNemar p."""

    difference: Interval
    only_a: int
    only_b: int
    p: float


def _proportion(k: int, n: int, confidence: float, method: str) -> Interval:
    if n < 1 or not 0 <= k <= n:
        raise DataError(f"proportion of {k} in {n}: give 0 <= k <= n and n >= 1")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence = {confidence}: give a number strictly between 0 and 1")
    ci = stats.binomtest(k, n).proportion_ci(confidence, method=method)
    return Interval(k / n, float(ci.low), float(ci.high))


def clopper_pearson(k: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Exact interval of a binomial proportion, k successes in n [ClopperPearson1934]; never covers too little."""
    return _proportion(k, n, confidence, "exact")


def wilson(k: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Score interval of a binomial proportion [Wilson1927]; covers right on average, for plots."""
    return _proportion(k, n, confidence, "wilson")


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar p-value from the discordant pairs [McNemar1947]: sign test on `only_a + only_b`."""
    n = only_a + only_b
    return 1.0 if n == 0 else float(stats.binomtest(only_a, n, 0.5).pvalue)


def paired(a: Sequence[bool] | Array, b: Sequence[bool] | Array, confidence: float = CONFIDENCE) -> Paired:
    """Compare successes `a [n]` and `b [n]` of the same episodes: difference with the adjusted Wald interval of
    [BonettPrice2012] (which does not collapse when no pair differs), and the exact McNemar p-value."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise DataError(f"paired: a is {a.shape} and b is {b.shape}; give two vectors of the same episodes")
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    pa, pb = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = stats.norm.ppf(0.5 + confidence / 2) * np.sqrt((pa + pb - (pa - pb) ** 2) / (n + 2))
    low, high = max(-1.0, pa - pb - half), min(1.0, pa - pb + half)
    return Paired(Interval((only_a - only_b) / n, float(low), float(high)), only_a, only_b, mcnemar(only_a, only_b))


def percentile(values: Array, q: float, confidence: float = CONFIDENCE, reps: int = 1000, seed: int = 0) -> Interval:
    """Percentile `q` in [0, 100] of `values [n]` with its percentile-bootstrap interval."""
    v = np.asarray(values, float)
    if v.ndim != 1 or not len(v) or not np.isfinite(v).all():
        raise DataError(f"percentile: values of shape {v.shape} must be a vector, not empty, without NaN")
    rng = np.random.default_rng(seed)
    n = len(v)
    draws = np.array([np.percentile(v[rng.integers(0, n, n)], q) for _ in range(reps)])
    return _bounds(float(np.percentile(v, q)), draws, confidence)


def jackknife(n: int, statistic: Callable[[Array], Array], blocks: int = 10) -> tuple[Array, Array]:
    """`statistic(rows [m]) -> [K]` of all n rows, and its values `[blocks, K]` when one run of neighbours is left out.

    For rows that are independent of each other; `jackknife_error` makes a standard error of the values.
    """
    if not 2 <= blocks <= n:
        raise DataError(f"jackknife: {n} rows in {blocks} blocks; give 2 blocks or more, and a row for each")
    rows = np.arange(n)
    left = [statistic(np.delete(rows, part)) for part in np.array_split(rows, blocks)]
    return np.asarray(statistic(rows)), np.array(left)


def jackknife_error(left: Array) -> Array:
    """Standard errors `[K]` from values `[blocks, K]`, each without one block (delete-a-group jackknife)."""
    return np.sqrt((len(left) - 1) * np.var(left, axis=0))


def mean_of_runs(values: Array, confidence: float = CONFIDENCE, least: float = -np.inf) -> Interval:
    """Mean of independent runs `[n]` and Student's interval; a single run has none, its ends are the value itself.

    A bootstrap of so few runs covers too little: about half the time with two, three quarters with three.

    Args:
        least: what no mean can be below; the interval ends there.
    """
    v = np.asarray(values, float)
    if v.ndim != 1 or not len(v) or not np.isfinite(v).all():
        raise DataError(f"mean_of_runs: values of shape {v.shape} must be a vector, not empty, without NaN")
    mean = float(v.mean())
    if len(v) == 1:
        return Interval(mean, mean, mean)
    half = float(stats.t.ppf(0.5 + confidence / 2, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v)))
    return Interval(mean, max(mean - half, least), mean + half)


def iqm(scores: Array, axis: int | None = None) -> Array:
    """Interquartile mean: the mean of the middle half of the scores along `axis`, None: of all [Agarwal2021].

    Of fewer than four it is the mean.
    """
    x = np.asarray(scores, float)
    return stats.trim_mean(x.ravel() if axis is None else x, 0.25, axis=-1 if axis is None else axis)


def stratified_bootstrap(
    scores: Array,
    statistic: Callable[..., Array] = iqm,
    confidence: float = CONFIDENCE,
    reps: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile-bootstrap interval of `statistic` of `scores [runs, tasks]`: runs are redrawn within each task
    [Agarwal2021]. `statistic(x, axis=-1)` of `x [reps, runs * tasks]` gives `[reps]`, as `np.mean` does."""
    x = np.asarray(scores, float)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise DataError(f"stratified_bootstrap: scores of shape {x.shape} must be [runs, tasks] without NaN")
    drawn = np.random.default_rng(seed).integers(0, len(x), (reps, *x.shape))
    draws = statistic(x[drawn, np.arange(x.shape[1])].reshape(reps, -1), axis=-1)
    return _bounds(float(statistic(x.ravel(), axis=-1)), draws, confidence)


def _bounds(estimate: float, draws: Array, confidence: float) -> Interval:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high))
