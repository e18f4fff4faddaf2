"""Intervals against closed forms, coverage by simulation, tests against SciPy."""

import numpy as np
import pytest
from scipy import stats as sp

from safeplan.errors import ConfigError, DataError
from safeplan.evaluation import stats


@pytest.mark.parametrize(("k", "n"), [(0, 400), (1, 400), (7, 20), (20, 20)])
def test_clopper_pearson_solves_its_defining_equations(k, n):
    e = stats.clopper_pearson(k, n)
    if k < n:
        assert sp.binom.cdf(k, n, e.high) == pytest.approx(0.025, rel=1e-6)
    if k > 0:
        assert sp.binom.sf(k - 1, n, e.low) == pytest.approx(0.025, rel=1e-6)
    assert e.low <= k / n <= e.high


def test_rule_of_three():
    assert stats.clopper_pearson(0, 400, 0.90).high == pytest.approx(1 - 0.05 ** (1 / 400))


def test_wilson_matches_the_formula_and_is_narrower():
    k, n, z = 7, 20, sp.norm.ppf(0.975)
    p = k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    w, c = stats.wilson(k, n), stats.clopper_pearson(k, n)
    assert (w.low, w.high) == pytest.approx((centre - half, centre + half))
    assert w.high - w.low < c.high - c.low


def test_clopper_pearson_covers():
    rng, p, n = np.random.default_rng(0), 0.03, 60
    ks = rng.binomial(n, p, 2000)
    table = {k: stats.clopper_pearson(int(k), n) for k in set(ks.tolist())}
    assert np.mean([table[int(k)].low <= p <= table[int(k)].high for k in ks]) >= 0.94


def test_mcnemar_is_the_sign_test_by_hand():
    assert stats.mcnemar(0, 0) == 1.0
    assert stats.mcnemar(5, 0) == pytest.approx(2 * 0.5**5)
    assert stats.mcnemar(8, 2) == pytest.approx(2 * sum(sp.binom.pmf(i, 10, 0.5) for i in (0, 1, 2)))
    assert stats.mcnemar(2, 8) == stats.mcnemar(8, 2)


def test_paired_counts_and_covers():
    out = stats.paired([1, 1, 0, 0, 1], [1, 0, 0, 1, 0])
    assert (out.only_a, out.only_b) == (2, 1)
    assert out.difference.estimate == pytest.approx(0.2)
    same = stats.paired([True] * 50, [True] * 50)
    assert same.p == 1.0 and same.difference.low < 0 < same.difference.high  # agreement is not certainty
    rng, hit = np.random.default_rng(1), 0
    for _ in range(600):
        u = rng.random(80)
        d = stats.paired(u < 0.9, (u < 0.7) | (u > 0.95)).difference  # true difference 0.9 - 0.75
        hit += d.low <= 0.15 <= d.high
    assert 0.92 <= hit / 600 <= 0.985


def test_percentile_agrees_with_numpy_and_scipy_bootstrap():
    v = np.random.default_rng(2).gamma(2.0, 10.0, 300)
    ours = stats.percentile(v, 95, reps=4000)
    ref = sp.bootstrap(
        (v,), lambda x, axis: np.percentile(x, 95, axis=axis), n_resamples=4000, method="percentile", rng=3
    )
    assert ours.estimate == np.percentile(v, 95)
    assert ours.low == pytest.approx(ref.confidence_interval.low, rel=0.05)
    assert ours.high == pytest.approx(ref.confidence_interval.high, rel=0.05)


def test_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(6).normal(size=(400, 2)) * [1.0, 5.0]
    mean, left = stats.jackknife(400, lambda rows: x[rows].mean(0), blocks=400)
    np.testing.assert_allclose(mean, x.mean(0))
    np.testing.assert_allclose(stats.jackknife_error(left), x.std(0, ddof=1) / 20, rtol=1e-9)
    _, left = stats.jackknife(400, lambda rows: np.random.default_rng(7).normal(size=(400, 500))[rows].mean(0))
    assert np.mean(stats.jackknife_error(left) ** 2) == pytest.approx(1 / 400, rel=0.1)


def test_iqm_and_its_stratified_bootstrap():
    assert stats.iqm(np.arange(8.0)) == pytest.approx(np.mean([2, 3, 4, 5]))
    assert stats.iqm(np.r_[np.zeros(6), 1e9, -1e9]) == 0.0
    x = np.random.default_rng(4).normal(size=(12, 5)) + np.arange(5) * 100
    ours = stats.stratified_bootstrap(x, np.mean)
    # strata keep their sizes, so the between-task spread (100 a task) must not enter the interval
    sd = np.sqrt((x.var(0) / len(x)).sum()) / x.shape[1]
    assert ours.high - ours.low == pytest.approx(2 * 1.96 * sd, rel=0.1)
    ref = sp.bootstrap((x[:, 0],), np.mean, method="percentile", n_resamples=4000, rng=5).confidence_interval
    one = stats.stratified_bootstrap(x[:, :1], np.mean, reps=4000)
    assert (one.low, one.high) == pytest.approx((ref.low, ref.high), abs=0.08)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: stats.clopper_pearson(5, 4), DataError),
        (lambda: stats.clopper_pearson(0, 0), DataError),
        (lambda: stats.wilson(1, 4, 95), ConfigError),
        (lambda: stats.paired([True], [True, False]), DataError),
        (lambda: stats.percentile(np.array([1.0, np.nan]), 50), DataError),
        (lambda: stats.stratified_bootstrap(np.ones(3)), DataError),
        (lambda: stats.jackknife(5, np.mean, blocks=6), DataError),
    ],
)
def test_bad_input_is_named(call, error):
    with pytest.raises(error, match=r"\d"):
        call()


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_mean_of_few_runs_is_covered_as_promised(n):
    """Where a bootstrap of the same runs covers about 52, 71 and 85 %."""
    x = np.random.default_rng(n).normal(size=(2000, n))
    hit = np.mean([i.low <= 0 <= i.high for i in map(stats.mean_of_runs, x)])
    assert abs(hit - 0.95) < 0.02


def test_one_run_has_no_interval_and_a_bound_is_kept():
    assert stats.mean_of_runs(np.array([3.0])) == (3.0, 3.0, 3.0)
    i = stats.mean_of_runs(np.array([0.0, 1.0]), least=0.0)
    assert i.low == 0.0 and i.high > 5
    with pytest.raises(DataError, match="without NaN"):
        stats.mean_of_runs(np.array([np.nan]))
