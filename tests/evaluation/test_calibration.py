"""Misses over splits follow the law that the promise rests on; what keeps no promise is called broken."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from safeplan.errors import CertificateError, ConfigError, DataError
from safeplan.evaluation import calibration
from safeplan.evaluation.calibration import count_misses

LAWS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "heavy tails": lambda rng, n: rng.standard_cauchy(n),
    "two clusters": lambda rng, n: np.where(rng.random(n) < 0.03, -5.0, 2.0) + 0.1 * rng.standard_normal(n),
}


@pytest.mark.parametrize("law", LAWS)
def test_promises_are_kept_and_misses_are_those_of_theory(law):
    rng = np.random.default_rng(0)
    unsafe = LAWS[law](rng, 3000)
    mean = count_misses(unsafe, 0.05, rng=rng, splits=300)
    assert mean.kept and (mean.calibrated_on, mean.measured_on, mean.splits) == (300, 2700, 300)
    assert mean.expected == 15 / 301 and mean.delta is None
    assert mean.mean == pytest.approx(mean.expected, abs=3 * mean.standard_error)
    # sd of a miss rate is sqrt(p (1 - p) (1 / n + 1 / m)), nearly
    assert mean.standard_error == pytest.approx(np.sqrt(0.05 * 0.95 * (1 / 300 + 1 / 2700) / 300), rel=0.15)
    nearly_all = count_misses(unsafe, 0.05, 0.1, rng=rng, splits=300)
    assert nearly_all.kept and nearly_all.mean < nearly_all.expected + 3 * nearly_all.standard_error < mean.mean
    assert 0.02 * 300 < nearly_all.above < mean.above  # not so cautious that it is useless


def test_false_alarms_are_as_rare_as_stated():
    """1 % of promises that hold are called broken, a little more with delta."""
    alarms = {None: 0, 0.1: 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        unsafe = rng.random(500)
        for delta in alarms:
            alarms[delta] += not count_misses(unsafe, 0.1, delta, rng=rng, splits=50).kept
    assert binomtest(alarms[None], 60, 0.01, "greater").pvalue > 0.01
    assert binomtest(alarms[0.1], 60, 0.02, "greater").pvalue > 0.01


@pytest.mark.parametrize("delta", [None, 0.1])
def test_a_threshold_that_is_not_calibrated_is_found_out(monkeypatch, delta):
    """0 misses 8 % of these values; 5 % were promised."""
    unsafe = np.random.default_rng(0).uniform(-0.08, 0.92, 2000)
    assert count_misses(unsafe, 0.05, delta, rng=np.random.default_rng(1)).kept
    real = calibration.calibrate
    monkeypatch.setattr(calibration, "calibrate", lambda *a: replace(real(*a), threshold=0.0))
    found = count_misses(unsafe, 0.05, delta, rng=np.random.default_rng(1))
    assert not found.kept and found.mean == pytest.approx(0.08, abs=0.02) and found.above == found.splits


def test_a_weaker_calibration_than_promised_is_found_out(monkeypatch):
    """Kept on average is not kept for all but delta; one rank too high is not kept on average."""
    unsafe = np.random.default_rng(0).random(2000)
    real = calibration.calibrate
    monkeypatch.setattr(calibration, "calibrate", lambda values, alpha, delta: real(values, alpha))
    found = count_misses(unsafe, 0.05, 0.1, rng=np.random.default_rng(1))
    assert found.mean < 0.06 and not found.kept
    monkeypatch.setattr(calibration, "calibrate", lambda v, *a: replace(real(v, *a), threshold=float(np.sort(v)[10])))
    assert not count_misses(unsafe, 0.05, rng=np.random.default_rng(1), splits=1000).kept  # rank 11 of 200, not 10


def test_ties_only_make_it_safer():
    unsafe = np.round(np.random.default_rng(0).random(2000), 1)
    found = count_misses(unsafe, 0.12, rng=np.random.default_rng(0))
    assert found.kept and found.mean < 0.08 and found.expected == 24 / 201  # all of 0 and 0.1, or of 0 alone: 5 %
    none = count_misses(np.ones(2000), 0.12, rng=np.random.default_rng(0))
    assert none.kept and none.mean == none.standard_error == none.above == 0


def test_refusals():
    rng, unsafe = np.random.default_rng(0), np.arange(2189.0)
    assert count_misses(np.arange(2190.0), 0.1, 1e-10, rng=rng, splits=2).calibrated_on == 219
    with pytest.raises(CertificateError, match=r"0\.1 of 2189 unsafe .* are 218, .* needs 219 .* give 2190 or more"):
        count_misses(unsafe, 0.1, 1e-10, rng=rng)
    for bad in ({"splits": 1}, {"share": 0.0}, {"share": 1.0}):
        with pytest.raises(ConfigError, match="give 2 splits or more"):
            count_misses(unsafe, 0.1, rng=rng, **bad)
    with pytest.raises(CertificateError, match="must lie"):
        count_misses(unsafe, 0.0, rng=rng)
    with pytest.raises(DataError, match="finite"):
        count_misses(np.full(1000, np.nan), 0.1, rng=rng)
