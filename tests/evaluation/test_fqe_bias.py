"""The error of an estimate where the truth is known: both intervals count, units are right, no error has no width."""

import numpy as np
import pytest

from safeplan.errors import ConfigError, DataError
from safeplan.evaluation.fqe import Estimate
from safeplan.evaluation.fqe_bias import compare, horizon
from safeplan.evaluation.stats import Interval


def estimate(members):
    members, half = np.asarray(members, float), 2.5 * np.std(members, ddof=1)
    centre = float(members.mean())
    return Estimate(Interval(centre, centre - half, centre + half), members, 0.9, "rewards")


def test_bias_in_units_of_the_log():
    found = compare(estimate([4.0, 5.0, 6.0]), np.array([7.0, 9.0] * 50), np.array([0.0, 2.0]))
    assert found.bias.estimate == pytest.approx(-3.0) and found.relative == pytest.approx(-3.0 / np.sqrt(2))
    assert found.truth.estimate == 8.0 and not found.covers
    assert found.bias.low < -3 < found.bias.high < found.bias.low + 20
    assert compare(estimate([4.0, 5.0, 6.0]), np.array([6.0, 7.0]), np.array([0.0, 2.0])).covers


def test_the_interval_of_the_bias_holds_its_level():
    """Both sides drawn from normal distributions of the same mean: 95 % of the intervals contain 0."""
    rng, sides = np.random.default_rng(0), np.array([0.0, 1.0])
    found = [
        # a bootstrap mean over members is the estimate; its error is that of one member
        compare(
            Estimate(Interval(e := rng.normal(), e, e), e + rng.normal(size=8), 0.9, "costs"),
            rng.normal(size=20) * 3,
            sides,
        ).bias
        for _ in range(2000)
    ]
    inside = np.mean([b.low <= 0 <= b.high for b in found])
    assert 0.93 < inside < 0.975


def test_no_spread_is_said_and_no_error_has_no_width():
    found = compare(estimate([0.0, 0.0]), np.zeros(3), np.zeros(4))
    assert found.relative is None and found.bias == Interval(0.0, 0.0, 0.0) and found.covers


def test_a_horizon_leaves_what_it_says():
    for gamma, left in ((0.99, 0.01), (0.9, 0.3)):
        steps = horizon(gamma, left)
        assert gamma**steps <= left < gamma ** (steps - 1)
    with pytest.raises(ConfigError, match="gamma is 1, expected inside"):
        horizon(1, 0.1)


def test_refusals():
    with pytest.raises(DataError, match=r"flown sums have shape \(1,\)"):
        compare(estimate([0.0, 1.0]), np.zeros(1), np.zeros(3))
    with pytest.raises(DataError, match="logged sums"):
        compare(estimate([0.0, 1.0]), np.zeros(2), np.array([0.0, np.nan]))
