"""Exact binomial bounds (Clopper & Pearson 1934) and the sample sizes that they need."""

from functools import lru_cache
from typing import NamedTuple

from scipy.stats import beta, binom

from safeplan.errors import CertificateError


def clopper_pearson(k: int, n: int, delta: float, two_sided: bool = False) -> tuple[float, float]:
    """Exact binomial interval for k hits of n at confidence 1 - delta; one-sided: (0, upper).

    Raises:
        CertificateError: when not 0 <= k <= n, n >= 1, 0 < delta < 1.
    """
    if n < 1 or not 0 <= k <= n or not 0 < delta < 1:
        raise CertificateError(
            f"clopper_pearson: k = {k}, n = {n}, delta = {delta}; need 0 <= k <= n, n >= 1, 0 < delta < 1"
        )
    tail = delta / 2 if two_sided else delta
    low = float(beta.ppf(tail, k, n - k + 1)) if two_sided and k > 0 else 0.0
    return low, 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))


@lru_cache(maxsize=256)
def samples_needed(gamma: float, delta: float, k: int = 0) -> int:
    """Smallest n for which k hits still prove risk <= gamma at confidence 1 - delta (299 for 1 % at 95 %, k = 0)."""
    if not 0 < gamma < 1:
        raise CertificateError(f"samples_needed: gamma = {gamma} is not in (0, 1)")
    low, high = k + 1, k + 2
    while clopper_pearson(k, high, delta)[1] > gamma:
        low, high = high, 2 * high
    while high - low > 1:
        mid = (low + high) // 2
        low, high = (low, mid) if clopper_pearson(k, mid, delta)[1] <= gamma else (mid, high)
    return high


MOST_ALLOWED = 10_000  # hits that `plan_samples` looks through


class SampleSize(NamedTuple):
    """Draws `n`, hits `allow` that may be seen and still prove the bound, and the chance `power` that no more are."""

    n: int
    allow: int
    power: float


def plan_samples(gamma: float, delta: float, risk: float, miss: float = 0.1) -> SampleSize:
    """The fewest draws that certify gamma at confidence 1 - delta with probability at least 1 - miss, if the true risk
    is `risk`: among the sizes at which one more hit becomes allowed, since between them more draws only cost power.

    Raises:
        CertificateError: gamma, delta, miss or risk out of range, or a risk too near to gamma to be told from it.
    """
    if not 0 <= risk < gamma or not 0 < miss < 1:
        raise CertificateError(
            f"plan_samples: risk = {risk}, gamma = {gamma}, miss = {miss}; need 0 <= risk < gamma and 0 < miss < 1"
        )
    for allow in range(MOST_ALLOWED):
        n = samples_needed(gamma, delta, allow)
        power = float(binom.cdf(allow, n, risk))
        if power >= 1 - miss:
            return SampleSize(n, allow, power)
    raise CertificateError(
        f"plan_samples: a risk of {risk:g} cannot be told from gamma = {gamma:g} with {n:,} draws; raise gamma or miss"
    )
