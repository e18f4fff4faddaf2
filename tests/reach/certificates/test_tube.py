"""Conformal tubes: coverage has its exact law, the stricter promise holds, refusals."""

import numpy as np
import pytest
from scipy.stats import betabinom, binomtest, chisquare, kstest

from safeplan.errors import CertificateError, DataError
from safeplan.feasibility import calibrate
from safeplan.reach import deviation, trajectories_needed, tube

STEPS = 4


@pytest.fixture(scope="module")
def sets():
    """Calibration sets of trajectories whose errors at the steps are independent and uniform."""
    return np.random.default_rng(0).random((1500, 60, STEPS))


def test_coverage_follows_the_beta_law(sets):
    """P(new trajectory inside | calibration set) = radius^T is Beta(rank, n + 1 - rank) distributed."""
    made = [tube(e, 0.1) for e in sets]
    rank = made[0].rank
    coverage = np.array([t.radius[0] for t in made]) ** STEPS
    assert rank == 55 and rank / 61 >= 0.9
    assert kstest(coverage, "beta", (rank, 61 - rank)).pvalue > 0.01
    one = np.array([t.per_step[2] for t in made])
    assert kstest(one, "beta", (rank, 61 - rank)).pvalue > 0.01


def test_new_trajectories_inside_are_beta_binomial(sets):
    rng, m = np.random.default_rng(1), 8
    inside = np.array([tube(e, 0.2).holds(rng.random((m, STEPS))).sum() for e in sets])
    rank = tube(sets[0], 0.2).rank
    law = betabinom.pmf(np.arange(m + 1), m, rank, 61 - rank)
    seen, wanted = np.bincount(inside, minlength=m + 1), len(sets) * law
    low = np.searchsorted(wanted.cumsum(), 10) + 1  # rare counts together
    pool = lambda v: np.r_[v[:low].sum(), v[low:]]  # noqa: E731
    assert chisquare(pool(seen), pool(wanted)).pvalue > 0.01


def test_stricter_promise_is_kept_by_nearly_all_sets(sets):
    made = [tube(e, 0.1, delta=0.2) for e in sets]
    broken = int((np.array([t.radius[0] for t in made]) ** STEPS < 0.9).sum())
    assert binomtest(broken, len(sets), 0.2, "greater").pvalue > 0.01 and broken > 0.05 * len(sets)
    for n, alpha, delta in ((60, 0.1, 0.2), (400, 0.05, 0.05), (299, 0.01, 0.05), (150, 0.1, None)):
        scores = np.arange(1.0, n + 1)
        twin = calibrate(-scores, alpha, delta)  # its twin for thresholds below, written apart
        assert tube(scores[:, None], alpha, delta=delta).rank == n + 1 - twin.rank


def test_scale_shapes_the_tube_and_units_do_not_matter(sets):
    growth = np.array([0.1, 0.2, 0.5, 1.0])
    errors = sets[0] * growth
    plain, shaped = tube(errors, 0.1), tube(errors, 0.1, scale=growth)
    np.testing.assert_allclose(shaped.radius / growth, shaped.radius[0] / growth[0])
    assert (np.diff(plain.radius) == 0).all() and shaped.radius.sum() < plain.radius.sum()
    np.testing.assert_allclose(tube(errors * 100, 0.1, scale=7 * growth).radius, 100 * shaped.radius)
    assert (shaped.per_step <= shaped.radius + 1e-12).all() and shaped.assumes


def test_broken_trajectories_count_and_stay_outside():
    errors = np.random.default_rng(0).random((40, 3))
    errors[:3, 2] = np.inf
    t = tube(errors, 0.1)
    assert np.isfinite(t.radius).all() and t.holds(errors).sum() == t.rank
    assert not t.holds(np.array([[0.0, np.nan, 0.0]]))[0]
    errors[:8] = np.inf
    assert np.isinf(tube(errors, 0.1).radius).all()  # more broke than may leave


def test_deviation_is_the_distance():
    a = np.random.default_rng(0).normal(size=(5, 3, 2))
    np.testing.assert_allclose(deviation(a, a + np.array([3.0, 4.0])), 5.0)
    with pytest.raises(DataError, match=r"\(5, 3, 2\), actual \(5, 2, 2\)"):
        deviation(a, a[:, :2])


@pytest.mark.parametrize(("alpha", "delta", "n"), [(0.01, None, 99), (0.01, 0.05, 299), (0.1, None, 9)])
def test_too_few_trajectories_are_refused_by_number(alpha, delta, n):
    assert trajectories_needed(alpha, delta) == n
    assert tube(np.ones((n, 2)), alpha, delta=delta).rank == n
    with pytest.raises(CertificateError, match=rf"{n - 1} trajectories are too few .* at least {n}"):
        tube(np.ones((n - 1, 2)), alpha, delta=delta)


def test_refusals():
    for bad in (np.array([[1.0, np.nan]]), np.array([[-1.0]]), np.ones(3), np.ones((0, 2))):
        with pytest.raises(DataError, match="expected"):
            tube(bad, 0.5)
    with pytest.raises(DataError, match=r"scale is \(3,\), expected \[2\]"):
        tube(np.ones((20, 2)), 0.1, scale=np.ones(3))
    for kw in ({"alpha": 0.0}, {"alpha": 0.1, "delta": 1.0}):
        with pytest.raises(CertificateError, match="must lie"):
            tube(np.ones((20, 2)), **kw)
