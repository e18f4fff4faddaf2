"""The sequential certificate: its algebra by quadrature and enumeration, its promise at all times, its price."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom, binomtest

from safeplan.errors import CertificateError
from safeplan.reach import (
    Ledger,
    Verdict,
    anytime_upper,
    begin,
    carry_on,
    clopper_pearson,
    crossing,
    digest,
    log_evidence,
    most_hits,
    samples_needed,
)

PLAN = digest(np.arange(4.0))


def coin(p):
    return lambda rng, n: rng.random(n) < p


def started(p_root=0, **kw):
    stream, ledger = Ledger(p_root).open(PLAN)
    return begin(ledger, stream, PLAN, **{"gamma": 0.05, "delta": 0.05, **kw}), stream


@pytest.mark.parametrize(
    ("k", "n", "p0", "a"), [(0, 5, 0.3, 0.5), (3, 40, 0.1, 0.5), (7, 20, 0.2, 1.0), (2, 9, 0.9, 2)]
)
def test_evidence_is_the_mixture_of_likelihood_ratios(k, n, p0, a):
    def integrand(u):  # q = p0 u^(1/a) has the density of the mixture for uniform u
        q = p0 * u ** (1 / a)
        return (q / p0) ** k * ((1 - q) / (1 - p0)) ** (n - k)

    assert np.exp(log_evidence(k, n, p0, a)) == pytest.approx(quad(integrand, 0, 1)[0], rel=1e-7)


def test_evidence_has_mean_one_at_the_hypothesis_and_less_beyond():
    k = np.arange(61)
    for p0 in (0.02, 0.3):
        mean = [np.sum(binom.pmf(k, 60, p) * np.exp(log_evidence(k, 60, p0))) for p in (p0, 1.3 * p0, 2 * p0)]
        assert mean[0] == pytest.approx(1, abs=1e-9) and mean[0] > mean[1] > mean[2]


def test_bound_is_where_the_evidence_says():
    for k, n in ((0, 1), (0, 300), (3, 200), (50, 400), (399, 400)):
        upper = anytime_upper(k, n, 0.05)
        assert clopper_pearson(k, n, 0.05)[1] < upper < 1
        assert log_evidence(k, n, upper) == pytest.approx(np.log(20), abs=1e-6)
        grid = np.linspace(max(k / n, 1e-9), 1 - 1e-9, 400)
        assert (np.diff(log_evidence(k, n, grid)) > 0).all()
    assert anytime_upper(0, 0, 0.05) == anytime_upper(7, 7, 0.05) == 1.0
    with pytest.raises(CertificateError, match="k = 3, n = 2"):
        anytime_upper(3, 2, 0.05)


def test_most_hits_agrees_with_the_bound():
    n = np.array([10, 74, 131, 500])
    for most, size in zip(most_hits(n, 0.05, 0.05), n, strict=True):
        assert most < 0 or anytime_upper(int(most), int(size), 0.05) <= 0.05
        assert anytime_upper(int(most) + 1, int(size), 0.05) > 0.05


def test_promise_at_every_draw_exactly_and_naive_looks_break_it():
    """Certified wrongly at any of 750 looks, at a risk of gamma: enumerated, not simulated."""
    looks, gamma, delta = np.arange(2, 1501, 2), 0.03, 0.05
    ours = crossing(looks.tolist(), most_hits(looks, gamma, delta).tolist(), gamma).sum()
    naive = [int((binom.cdf(np.arange(60), n, gamma) <= delta).sum()) - 1 for n in looks]
    assert 0.2 * delta < ours <= delta
    assert crossing(looks.tolist(), naive, gamma).sum() > 3 * delta


def test_the_whole_bound_holds_at_all_times():
    """True risks below gamma too: the running bound ever falls below the true risk in at most a share delta."""
    rng, looks = np.random.default_rng(0), np.arange(20, 2001, 20)
    for p in (0.004, 0.1):
        k = rng.binomial(20, p, (3000, 100)).cumsum(axis=1)
        missed = int((log_evidence(k, looks, p) >= np.log(10)).any(axis=1).sum())
        assert binomtest(missed, 3000, 0.1, "greater").pvalue > 0.01
        assert missed > 0.01 * 3000  # a bound that never misses would be a wasteful one


@pytest.mark.parametrize(("gamma", "delta"), [(0.01, 0.05), (0.05, 0.05), (0.05, 0.001)])
def test_price_for_looking_is_at_most_1_45(gamma, delta):
    for k in (0, 1, 2, 5, 10, 20):
        n = samples_needed(gamma, delta, k)
        assert anytime_upper(k, int(np.ceil(1.45 * n)), delta) <= gamma < anytime_upper(k, n, delta)


def test_good_plans_are_certified_early_and_bad_ones_given_up_early():
    state, stream = started()
    good = carry_on(state, stream, coin(0.001), 50)
    assert good.verdict is Verdict.CERTIFIED and good.holds and good.upper <= 0.05 and good.counts.n <= 250
    assert good == carry_on(state, stream, coin(0.001), 50) and state.counts.n == 0
    bad = carry_on(state, stream, coin(0.3), 50)
    assert bad.verdict is Verdict.GIVEN_UP and not bad.holds and bad.counts.n < state.most / 4
    assert anytime_upper(bad.counts.k, bad.most, bad.delta) > 0.05  # given up only when it is hopeless
    assert good.assumes and good.delta == 0.025 and good.attempt == 1


def test_bound_never_rises_and_ends_with_the_budget():
    state, stream = started(most=200)
    uppers = []
    while state.verdict is Verdict.OPEN:
        draws, stream = stream.draw(40, coin(0.02))
        state = state.add(draws)
        uppers.append(state.upper)
    assert uppers == sorted(uppers, reverse=True) and state.counts.n <= 200
    full, more = started(most=130)
    draws, _ = more.draw(131, coin(0.0))
    with pytest.raises(CertificateError, match="131 draws, at most 130"):
        full.add(draws)


def test_refusals():
    chosen, ledger = Ledger(0).select("rank")
    with pytest.raises(CertificateError, match="took part in choosing"):
        begin(ledger, chosen, PLAN, gamma=0.05, delta=0.05)
    stream, ledger = ledger.open(PLAN)
    with pytest.raises(CertificateError, match="belong to plan"):
        begin(ledger, stream, digest(1.0), gamma=0.05, delta=0.05)
    with pytest.raises(CertificateError, match="gamma = nan"):
        begin(ledger, stream, PLAN, gamma=float("nan"), delta=0.05)
    with pytest.raises(CertificateError, match=r"most = 60 draws cannot certify 0.05 .* at least 144"):
        begin(ledger, stream, PLAN, gamma=0.05, delta=0.05, most=60)
    state, stream = begin(ledger, stream, PLAN, gamma=0.05, delta=0.05), stream
    skipped, _ = stream.draw(10, coin(0.0))[1].draw(10, coin(0.0))
    with pytest.raises(CertificateError, match="starts at draw 10, 0 draws are counted"):
        state.add(skipped)
