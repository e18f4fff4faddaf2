"""The promise of the calibrated threshold, on average and for nearly all calibration sets; refusals."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from safeplan.errors import CertificateError, DataError
from safeplan.feasibility import FisorConfig, FisorPolicy, calibrate, states_needed
from safeplan.feasibility.select import select


def test_miss_rates_keep_the_promise_and_waste_little():
    """Exact miss rates of a normal score: the mean is k / (n + 1), and few splits break the stricter promise."""
    rng = np.random.default_rng(0)
    uniform = rng.random((2000, 250))  # values whose miss rate is themselves
    for alpha in (0.05, 0.1):
        missed = np.array([calibrate(u, alpha).threshold for u in uniform])
        rank = calibrate(uniform[0], alpha).rank
        assert missed.mean() == pytest.approx(rank / 251, rel=0.03) and rank / 251 <= alpha
    strict = np.array([calibrate(u, 0.05, delta=0.1).threshold for u in uniform])
    broken = int((strict > 0.05).sum())
    assert binomtest(broken, 2000, 0.1, "greater").pvalue > 0.01
    assert broken > 0.05 * 2000  # not so cautious that it is useless
    assert strict.mean() < missed.mean()


def test_any_monotone_score_and_ties():
    rng = np.random.default_rng(1)
    u = rng.random(400)
    a, b = calibrate(u, 0.02), calibrate(np.exp(5 * u) - 3, 0.02)
    assert b.threshold == pytest.approx(np.exp(5 * a.threshold) - 3) and a.rank == b.rank == 8
    tied = calibrate(np.r_[np.zeros(50), np.ones(50)], 0.1)
    assert not tied.safe(np.zeros(3)).any() and tied.safe(np.array([-1.0]))[0]


def test_what_equals_the_threshold_is_not_called_safe_by_a_policy_either():
    """Critics of bounded h saturate, so many values are the same number."""
    unsafe = np.r_[np.full(50, -1.0), np.linspace(-0.9, 1.0, 450)].astype(np.float32)
    found = calibrate(unsafe, 0.01)
    policy = FisorPolicy(1, 1, FisorConfig(hidden=8, actor_width=8, actor_blocks=1))
    policy.threshold = found.at_most
    q_h = torch.from_numpy(unsafe)[:, None] - policy.threshold
    taken = select(torch.cat([q_h, q_h + 1.0], 1), torch.tensor([[0.0, 1.0]]).expand(500, 2), "maxq_feasible")
    assert not found.safe(unsafe).any() and (q_h > 0).all() and (taken == 0).all()
    assert found.at_most < found.threshold < found.at_most + 1e-6


@pytest.mark.parametrize("delta", [None, 0.05])
def test_states_needed_is_exact(delta):
    for alpha in (0.01, 0.013, 0.1, 0.5):
        n = states_needed(alpha, delta)
        assert calibrate(np.arange(n), alpha, delta).rank == 1
        if n > 1:
            with pytest.raises(CertificateError, match=rf"{n - 1} unsafe states are too few .* at least {n}"):
                calibrate(np.arange(n - 1), alpha, delta)
    assert states_needed(0.01) == 99 and states_needed(0.01, 0.05) == 299


def test_refusals():
    with pytest.raises(DataError, match="finite"):
        calibrate(np.array([0.0, np.nan]), 0.5)
    with pytest.raises(DataError, match=r"\(2, 2\)"):
        calibrate(np.zeros((2, 2)), 0.5)
    for bad in ({"alpha": 0.0}, {"alpha": 0.5, "delta": 1.0}):
        with pytest.raises(CertificateError, match="must lie"):
            calibrate(np.zeros(100), **bad)
