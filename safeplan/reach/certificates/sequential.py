"""A certificate that may stop at any time: draws come in batches until the bound is low enough or cannot become so.

Evidence against a risk of p0 or more after k hits of n draws, by a bet on every smaller risk q at once [betting]:
  1. For each q < p0 the likelihood ratio L = (q/p0)^k ((1-q)/(1-p0))^(n-k) has mean at most 1 under any p >= p0: one
     draw multiplies it by q/p0 or (1-q)/(1-p0), with mean p q/p0 + (1-p)(1-q)/(1-p0), which is 1 at p = p0 and falls.
  2. So has its mixture M over the density a q^(a-1) / p0^a on (0, p0), a nonnegative supermartingale from 1:
     M = a p0^-a B(p0; a+k, n-k+1) / (p0^k (1-p0)^(n-k)), B the incomplete beta function.
  3. Ville's inequality: under p >= p0, M ever reaches 1/delta with probability at most delta, whenever one looks.
For p0 >= k/n, M grows with p0 (the beta distribution function of (a, 1) is log-concave), so {p0: M < 1/delta} is an
interval above k/n, and its end is an upper bound at all times. A single q is one bet of constant size; the mixture
needs at most 1.45 times the draws of a fixed-size bound for the same number of hits (tested), and no plan of looks.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from scipy.optimize import root_scalar
from scipy.special import betainc, betaln

from safeplan.errors import CertificateError
from safeplan.reach.certificates.binomial import samples_needed
from safeplan.reach.certificates.fresh import ASSUMES_FRESH, Counts, Draws, Ledger, Simulate, Stream
from safeplan.types import Array

SHAPE = 0.5  # a: of 0.1 .. 4 the one whose worst extra cost, at 0 to 20 hits and gamma = 1 or 5 %, is least


class Verdict(StrEnum):
    """What a sequential certificate has come to."""

    OPEN = "open"
    CERTIFIED = "certified"
    GIVEN_UP = "given up"


def log_evidence(k: Array | int, n: Array | int, p0: Array | float, a: float = SHAPE) -> Array:
    """log M (nats) against a risk of `p0` or more; arguments broadcast. -inf where it is below the smallest double."""
    k, n, p0 = (np.asarray(v, np.float64) for v in (k, n, p0))
    with np.errstate(divide="ignore"):
        mass = np.log(betainc(a + k, n - k + 1, p0))
    return np.log(a) - (a + k) * np.log(p0) - (n - k) * np.log1p(-p0) + betaln(a + k, n - k + 1) + mass


def anytime_upper(k: int, n: int, delta: float) -> float:
    """Upper bound of the risk after k hits of n draws, at confidence 1 - delta for all n together.

    Raises:
        CertificateError: when not 0 <= k <= n, 0 < delta < 1.
    """
    if not 0 <= k <= n or not 0 < delta < 1:
        raise CertificateError(f"anytime_upper: k = {k}, n = {n}, delta = {delta}; need 0 <= k <= n, 0 < delta < 1")
    low, high, wanted = max(k / max(n, 1), 1e-300), 1 - 1e-12, -np.log(delta)
    if k == n or log_evidence(k, n, high) <= wanted:
        return 1.0
    return root_scalar(lambda p: float(log_evidence(k, n, p)) - wanted, bracket=(low, high), xtol=1e-12).root


def most_hits(n: Array | int, gamma: float, delta: float) -> Array:
    """The most hits of `n` draws that certify a risk below gamma; -1 where not even none does."""
    n = np.asarray(n)
    k = np.arange(int(np.max(n, initial=0) * gamma) + 1)
    enough = (k <= n[..., None]) & (log_evidence(np.minimum(k, n[..., None]), n[..., None], gamma) >= -np.log(delta))
    return enough.sum(axis=-1) - 1  # the evidence falls with k


@dataclass(frozen=True)
class Sequential:
    """State and certificate in one: with confidence `1 - delta`, the risk is at most `upper`, at whatever time one
    stops looking. Immutable: `add` gives the next."""

    counts: Counts
    gamma: float
    delta: float  # what this attempt spends
    attempt: int
    most: int  # draws after which it is given up
    upper: float = 1.0  # the lowest bound so far: all of them hold together
    lowest: Counts = field(default_factory=lambda: Counts(""))  # what that bound is from
    assumes: tuple[str, ...] = ASSUMES_FRESH

    @property
    def verdict(self) -> Verdict:
        """Given up when the draws are used up, or even if all that are left were misses (exact: no risk is spent)."""
        if self.upper <= self.gamma:
            return Verdict.CERTIFIED
        hopeless = log_evidence(self.counts.k, self.most, self.gamma) < -np.log(self.delta)
        return Verdict.GIVEN_UP if hopeless or self.counts.n >= self.most else Verdict.OPEN

    @property
    def holds(self) -> bool:
        """Whether the bound that the user asked for is met."""
        return self.upper <= self.gamma

    def add(self, draws: Draws) -> "Sequential":
        """With one more batch.

        Raises:
            CertificateError: draws of another stream or out of order, or more than `most` of them.
        """
        counts = self.counts.add(draws)
        if counts.n > self.most:
            raise CertificateError(f"stream {counts.stream}: {counts.n} draws, at most {self.most} were agreed on")
        upper = anytime_upper(counts.k, counts.n, self.delta)
        better = {"upper": upper, "lowest": counts} if upper < self.upper else {}
        return replace(self, counts=counts, **better)


def begin(
    ledger: Ledger, stream: Stream, plan: str, *, gamma: float, delta: float, most: int | None = None
) -> Sequential:
    """An empty state for the finished plan with digest `plan`; attempt j spends delta / 2^j.

    Args:
        stream: as `ledger.open(plan)` gave it.
        most: draws after which it is given up; None: four times those of a fixed-size bound that allows one hit.

    Raises:
        CertificateError: the stream may not certify this plan, or gamma, delta or most is out of range.
    """
    ledger.check(stream, plan)
    if not 0 < gamma < 1 or not 0 < delta < 1:
        raise CertificateError(f"begin: gamma = {gamma}, delta = {delta}; both must lie in (0, 1)")
    spend = delta / 2**stream.attempt
    most = 4 * samples_needed(gamma, spend, 1) if most is None else most
    if log_evidence(0, most, gamma) < -np.log(spend):
        raise CertificateError(
            f"begin: most = {most} draws cannot certify {gamma:g} at confidence {1 - spend:g}, not even without a hit; "
            f"give at least {2 * samples_needed(gamma, spend)}"
        )
    return Sequential(Counts(stream.name), gamma, spend, stream.attempt, most)


def carry_on(state: Sequential, stream: Stream, simulate: Simulate, batch: int) -> Sequential:
    """Draw in batches until the verdict is not OPEN."""
    while state.verdict is Verdict.OPEN:
        draws, stream = stream.draw(min(batch, state.most - state.counts.n), simulate)
        state = state.add(draws)
    return state
