"""A risk from a model, made exact: many cheap samples of the model, few real ones that bound where the two disagree.

With R a real hit and M a hit by the model on the same draw, P(R) = P(M) + P(R and not M) - P(M and not R). Each term
is a binomial proportion: the first from `N` draws of the model alone, the other two from `n` fresh real simulations.
Clopper-Pearson bounds of the three hold together by the union bound, so for any model whatever

    P(R) <= up(hits of N; a delta) + up(only real of n; b delta) - low(only model of n; c delta),    a + b + c = 1.

The real draws have to show disagreements, which are rarer than hits the better the model is: it never does better
than up(0 of n). The binary case of prediction-powered inference, with exact in place of asymptotic intervals.
"""

from dataclasses import dataclass

import numpy as np

from safeplan.errors import CertificateError, DataError
from safeplan.reach.certificates.binomial import clopper_pearson
from safeplan.reach.certificates.fresh import ASSUMES_FRESH, Draws, Ledger
from safeplan.types import Array

SHARES = (0.1, 0.8, 0.1)  # of delta; the term of real hits that the model misses costs most, so it gets most
ASSUMES = (
    *ASSUMES_FRESH,
    "the model's samples are independent of the plan and of the real ones, and from the same distribution",
    "the model was fixed before the real draws: they took no part in its training",
)


def two_binomial(
    only_real: int,
    only_model: int,
    n: int,
    model_k: int,
    model_n: int,
    delta: float,
    shares: tuple[float, float, float] = SHARES,
) -> float:
    """Upper bound of the real risk at confidence 1 - delta.

    Args:
        only_real, only_model: of `n` real draws, those that only the real system, or only the model, calls a hit.
        model_k, model_n: hits and number of the model's own samples.
        shares: of delta that go to the model's risk, to `only_real` and to `only_model`.

    Raises:
        CertificateError: counts that do not fit, or shares that are not positive numbers with sum 1.
    """
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise CertificateError(f"two_binomial: shares = {shares}; give three positive numbers with sum 1")
    if only_real + only_model > n or min(only_real, only_model) < 0:
        raise CertificateError(
            f"two_binomial: {only_real} + {only_model} disagreements in n = {n} draws; each draw is one or the other"
        )
    model = clopper_pearson(model_k, model_n, shares[0] * delta)[1]
    missed = clopper_pearson(only_real, n, shares[1] * delta)[1]
    extra = clopper_pearson(n - only_model, n, shares[2] * delta)[1]  # 1 - the lower bound
    return float(np.clip(model + missed - (1 - extra), 0.0, 1.0))


@dataclass(frozen=True)
class ModelCertificate:
    """With confidence `1 - delta`, the real risk is at most `upper`."""

    upper: float
    only_real: int
    only_model: int
    n: int
    model_k: int
    model_n: int
    delta: float
    attempt: int
    gamma: float
    assumes: tuple[str, ...] = ASSUMES

    @property
    def holds(self) -> bool:
        """Whether the bound that the user asked for is met."""
        return self.upper <= self.gamma


def certify_with_model(
    ledger: Ledger, draws: Draws, plan: str, model: Array, *, gamma: float, delta: float
) -> ModelCertificate:
    """Certify the finished plan with digest `plan`; attempt j spends delta / 2^j.

    Args:
        draws: all that will be drawn of a stream of `ledger.open(plan)`, `hits [n, 2]`: real, and model on the same.
        model: hits `[N]` of the model's own samples, which took no part in choosing the plan either.

    Raises:
        CertificateError: the draws may not certify this plan, or are not the first of their stream.
        DataError: wrong shapes, or outcomes beside hit and miss.
    """
    ledger.check(draws, plan)
    if draws.start:
        raise CertificateError(f"stream {draws.stream}: the draws start at {draws.start}; give all, in one batch")
    if draws.hits.ndim != 2 or draws.hits.shape[1] != 2:
        raise DataError(f"stream {draws.stream}: hits are {draws.hits.shape}, expected [n, 2]: real, model")
    model = np.asarray(model)
    if model.ndim != 1 or not len(model) or not np.isin(model, (0, 1)).all():
        raise DataError(f"certify_with_model: model is {model.shape}, expected a vector [N] of hits (1) and misses (0)")
    real, said = draws.hits.T
    spend = delta / 2**draws.attempt
    counts = int((real & ~said).sum()), int((said & ~real).sum()), len(real), int(model.sum()), len(model)
    return ModelCertificate(two_binomial(*counts, spend), *counts, spend, draws.attempt, gamma)
