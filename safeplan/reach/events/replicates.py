"""Intervals from independent replicates, such as scrambles of one Sobol sequence [scrambled_net]."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy.stats import t as student

from safeplan.errors import CapabilityError, CertificateError
from safeplan.reach.certificates.binomial import clopper_pearson
from safeplan.reach.particles import sobol_draw
from safeplan.types import Array, Belief, Draw

FEW = 16  # hits or misses in all below which the spread of replicates says too little

_binomial = lru_cache(maxsize=1 << 16)(clopper_pearson)


def scrambles(belief: Belief, n: int, count: int, seed: int, replicates: int) -> Iterator[Draw]:
    """`replicates` draws of `n / replicates` particles each, from independent scrambles.

    Raises:
        CapabilityError: fewer than 2 replicates, n / replicates not a power of two, or a belief without `push`.
    """
    m = n // replicates if replicates >= 2 else 0
    if replicates < 2 or m * replicates != n or m < 1 or m & (m - 1):
        size = 1 << max(round(np.log2(max(m, 1))), 0)
        raise CapabilityError(
            f"scrambles: n = {n} in {replicates} replicates; give at least 2 replicates of a power of two each, "
            f"such as n = {size * max(replicates, 2)}"
        )
    seeds = np.random.SeedSequence(seed).generate_state(replicates, np.uint64)
    return (sobol_draw(belief, m, count, int(s)) for s in seeds)


def student_interval(values: Array, confidence: float) -> tuple[Array, Array, Array]:
    """Mean and two-sided Student-t interval over the first axis of `values [R, ...]`, R >= 2.

    Raises:
        CertificateError: fewer than two replicates, or a confidence outside (0, 1).
    """
    values = np.asarray(values, float)
    if len(values) < 2 or not 0 < confidence < 1:
        raise CertificateError(f"student_interval: {len(values)} replicates at confidence {confidence}; give 2 or more")
    mean = values.mean(axis=0)
    half = student.ppf((1 + confidence) / 2, len(values) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return mean, mean - half, mean + half


def binomial_interval(hits: Array, n: int, confidence: float) -> tuple[Array, Array]:
    """Two-sided Clopper-Pearson ends for counts `hits [...]` of n independent draws."""
    flat = [_binomial(int(k), n, 1 - confidence, True) for k in np.ravel(hits)]
    low, high = np.array(flat).reshape(*np.shape(hits), 2).transpose(-1, *range(np.ndim(hits)))
    return low, high


def share_interval(hits: Array, m: int, confidence: float) -> tuple[Array, Array]:
    """Interval of a probability from counts `hits [R, ...]` of m Sobol points in each of R scrambles.

    Student-t over replicates, but at least as wide as one point more or less in one replicate would make credible:
    equal counts do not show an error of zero. With fewer than 16 hits or misses in all it is Clopper-Pearson's, as if
    the points were independent, which is conservative in practice but not proven.
    """
    R = len(hits)
    total = hits.sum(axis=0)
    mean, low, high = student_interval(hits / m, confidence)
    grain = (1 - ((1 - confidence) / 2) ** (1 / R)) / m
    low, high = np.minimum(low, mean - grain), np.maximum(high, mean + grain)
    few = np.minimum(total, R * m - total) < FEW
    low[few], high[few] = binomial_interval(total[few], R * m, confidence)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)
