"""Planned looks: a certificate that is looked at after n_1 < n_2 < ... draws, each look spending a share of delta.

Alpha spending [alpha_spending], exact for a binomial: the hits allowed at a look are the most for which the chance of
having certified by then, at a risk of gamma, stays within what is spent so far. More hits only make certifying less
likely, so at any risk above gamma the chance is lower still. Cheaper than a bound for all times, but the looks are
fixed beforehand.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.stats import binom

from safeplan.errors import CertificateError
from safeplan.reach.certificates.fresh import ASSUMES_FRESH, Counts, Draws, Ledger, Stream
from safeplan.reach.certificates.sequential import Verdict
from safeplan.types import Array


def _after(alive: Array, draws: int, p: float) -> Array:
    """Distribution of the hits after `draws` more draws; `alive[k]` is the chance of still going with k hits."""
    return np.convolve(alive, binom.pmf(np.arange(draws + 1), draws, p))


def crossing(looks: Sequence[int], allowed: Sequence[int], p: float) -> Array:
    """`[L]` probability that look l is the first with at most `allowed[l]` hits, at a risk of p: exact, draw by draw.

    -1 allows nothing at that look.
    """
    alive, n, first = np.ones(1), 0, []
    for look, most in zip(looks, allowed, strict=True):
        alive = _after(alive, look - n, p)
        first.append(alive[: most + 1].sum())
        alive[: most + 1] = 0.0
        n = look
    return np.array(first)


def boundary(looks: Sequence[int], gamma: float, delta: float, power: float = 1.0) -> tuple[int, ...]:
    """Hits allowed at each look, so that a risk of gamma or more is ever certified with probability at most delta.

    By look l, delta (n_l / n_L)^power may be spent: 1 evenly, larger keeps more for the end.

    Raises:
        CertificateError: looks that do not grow, gamma, delta or power out of range, or too few draws for any look.
    """
    if not len(looks) or looks[0] < 1 or any(b <= a for a, b in pairwise(looks)):
        raise CertificateError(f"boundary: looks = {list(looks)}; give growing numbers of draws, such as 200, 400, 800")
    if not 0 < gamma < 1 or not 0 < delta < 1 or not power > 0:
        raise CertificateError(
            f"boundary: gamma = {gamma}, delta = {delta}, power = {power}; need gamma and delta in (0, 1), power > 0"
        )
    alive, n, spent, allowed = np.ones(1), 0, 0.0, []
    for look in looks:
        alive = _after(alive, look - n, gamma)
        reach = spent + np.cumsum(alive)
        most = int((reach <= delta * (look / looks[-1]) ** power).sum()) - 1
        spent += alive[: most + 1].sum()
        alive[: most + 1] = 0.0
        allowed.append(most)
        n = look
    if allowed[-1] < 0:
        raise CertificateError(
            f"boundary: {looks[-1]} draws cannot certify {gamma:g} at confidence {1 - delta:g}, not even without a hit"
        )
    return tuple(allowed)


@dataclass(frozen=True)
class Looks:
    """State and certificate in one: `holds` says with confidence `1 - delta` that the risk is below gamma."""

    counts: Counts
    gamma: float
    delta: float  # what this attempt spends
    attempt: int
    looks: tuple[int, ...]
    allowed: tuple[int, ...]
    power: float = 1.0  # how spending grows
    done: int = 0  # looks taken
    holds: bool = False
    assumes: tuple[str, ...] = (*ASSUMES_FRESH, "the looks were fixed before the first draw")

    @property
    def upper(self) -> float:
        """The bound: gamma, or nothing. Another bound than the planned one is not on offer."""
        return self.gamma if self.holds else 1.0

    @property
    def verdict(self) -> Verdict:
        """Given up after the last look, or when more hits are seen than any look to come allows."""
        if self.holds:
            return Verdict.CERTIFIED
        over = self.done == len(self.looks) or self.counts.k > max(self.allowed[self.done :])
        return Verdict.GIVEN_UP if over else Verdict.OPEN

    def add(self, draws: Draws) -> "Looks":
        """With one more batch, which ends at the next look.

        Raises:
            CertificateError: nothing left to look at, draws of another stream or out of order, or too many or too few.
        """
        if self.verdict is not Verdict.OPEN:
            raise CertificateError(f"stream {self.counts.stream}: {self.verdict} already; open another attempt")
        counts = self.counts.add(draws)
        if counts.n != self.looks[self.done]:
            raise CertificateError(
                f"stream {counts.stream}: {counts.n} draws, the next look was planned at {self.looks[self.done]}"
            )
        return replace(self, counts=counts, done=self.done + 1, holds=counts.k <= self.allowed[self.done])


def begin_looks(
    ledger: Ledger, stream: Stream, plan: str, looks: Sequence[int], *, gamma: float, delta: float, power: float = 1.0
) -> Looks:
    """An empty state for the finished plan with digest `plan`; attempt j spends delta / 2^j.

    Raises:
        CertificateError: the stream may not certify this plan, or as `boundary` does.
    """
    ledger.check(stream, plan)
    spend = delta / 2**stream.attempt
    allowed = boundary(looks, gamma, spend, power)
    return Looks(Counts(stream.name), gamma, spend, stream.attempt, tuple(looks), allowed, power)
