"""The two-binomial bound: coverage by enumeration of all outcomes, for any model; its price; refusals."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest, multinomial

from safeplan.errors import CertificateError, DataError
from safeplan.reach import Ledger, certify_with_model, clopper_pearson, digest, two_binomial

PLAN = digest(2.0)
N, CHEAP, DELTA = 10, 8, 0.3


@pytest.fixture(scope="module")
def outcomes():
    """All (only real, only model, hits of the model) and their bounds."""
    cells = [(a, b, k) for a in range(N + 1) for b in range(N + 1 - a) for k in range(CHEAP + 1)]
    return np.array(cells), np.array([two_binomial(a, b, N, k, CHEAP, DELTA) for a, b, k in cells])


@pytest.mark.parametrize("both", [0.0, 0.05, 0.3])
@pytest.mark.parametrize(("only_real", "only_model"), [(0.02, 0.0), (0.1, 0.1), (0.3, 0.02), (0.05, 0.4)])
def test_coverage_by_enumeration(outcomes, both, only_real, only_model):
    cells, upper = outcomes
    a, b, k = cells.T
    rest = 1 - only_real - only_model
    chance = multinomial.pmf(np.stack([a, b, N - a - b], 1), N, [only_real, only_model, rest])
    chance = chance * binom.pmf(k, CHEAP, both + only_model)
    assert chance.sum() == pytest.approx(1)
    assert chance[upper < both + only_real].sum() <= DELTA


def test_enumeration_can_see_a_bound_that_is_too_low(outcomes):
    cells, upper = outcomes
    a, b, k = cells.T
    chance = multinomial.pmf(np.stack([a, b, N - a - b], 1), N, [0.3, 0.02, 0.68]) * binom.pmf(k, CHEAP, 0.32)
    assert chance[0.6 * upper < 0.6].sum() > DELTA


def test_it_is_the_sum_of_three_exact_bounds():
    def ci(k, n, delta, side):
        return getattr(binomtest(k, n, alternative=side).proportion_ci(1 - delta), "high" if side == "less" else "low")

    for a, b, n, k, cheap in ((0, 0, 1000, 500, 10_000), (3, 12, 1000, 90, 1000), (200, 1, 400, 5, 5000)):
        parts = ci(k, cheap, 0.005, "less") + ci(a, n, 0.04, "less") - ci(b, n, 0.005, "greater")
        assert two_binomial(a, b, n, k, cheap, 0.05) == pytest.approx(min(parts, 1), abs=1e-9)


def test_a_good_model_saves_where_risks_are_not_small():
    """Risk 10 %, disagreement .2 %: the excess over it is far below that of real draws alone."""
    ours = two_binomial(1, 1, 1000, 100_000, 1_000_000, 0.05) - 0.1
    assert ours < 0.5 * (clopper_pearson(100, 1000, 0.05)[1] - 0.1)


def test_certificate_counts_disagreements():
    stream, ledger = Ledger(0).open(PLAN)
    pairs = np.array([[1, 1]] * 3 + [[1, 0]] * 2 + [[0, 1]] + [[0, 0]] * 494)
    draws, rest = stream.draw(500, lambda rng, n: pairs[:n])
    model = np.arange(10_000) < 80
    c = certify_with_model(ledger, draws, PLAN, model, gamma=0.05, delta=0.05)
    assert (c.only_real, c.only_model, c.n, c.model_k, c.model_n) == (2, 1, 500, 80, 10_000)
    assert c.upper == two_binomial(2, 1, 500, 80, 10_000, 0.025) and c.holds and any("training" in a for a in c.assumes)
    with pytest.raises(CertificateError, match="start at 500"):
        certify_with_model(ledger, rest.draw(9, lambda g, n: pairs[:n])[0], PLAN, model, gamma=0.05, delta=0.05)
    with pytest.raises(DataError, match=r"\(2,\)"):
        certify_with_model(ledger, draws, PLAN, np.array([0.0, np.nan]), gamma=0.05, delta=0.05)
    with pytest.raises(CertificateError, match="took part in choosing"):
        certify_with_model(ledger.looked(draws), draws, PLAN, model, gamma=0.05, delta=0.05)
    flat, _ = Ledger(0).open(PLAN)[0].draw(5, lambda g, n: np.zeros(n))
    with pytest.raises(DataError, match=r"\(5,\), expected \[n, 2\]"):
        certify_with_model(ledger, flat, PLAN, model, gamma=0.05, delta=0.05)


def test_counts_and_shares_are_checked():
    with pytest.raises(CertificateError, match=r"6 \+ 5 disagreements in n = 10"):
        two_binomial(6, 5, 10, 0, 10, 0.05)
    with pytest.raises(CertificateError, match="sum 1"):
        two_binomial(1, 1, 10, 0, 10, 0.05, (0.5, 0.5, 0.5))
    with pytest.raises(CertificateError, match="n = 0"):
        two_binomial(0, 0, 10, 0, 0, 0.05)
