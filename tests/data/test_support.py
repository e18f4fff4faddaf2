"""Support of a log: false alarms at the stated rate on new episodes, alarms where no data is, refusals."""

import numpy as np
import pytest

from safeplan.data import Log
from safeplan.data.support import Ranks, Support
from safeplan.errors import DataError, ShapeError


def ring(episodes: int, seed: int, length: int = 20) -> Log:
    """Each episode walks a stretch of a noisy ring of radius 1."""
    rng = np.random.default_rng(seed)
    angle = (rng.uniform(0, 2 * np.pi, (episodes, 1)) + 0.02 * np.arange(length)).ravel()
    radius = 1 + 0.05 * rng.normal(size=angle.shape)
    obs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).astype(np.float32)
    n = len(obs)
    zero, end = np.zeros(n, np.float32), np.tile(np.arange(length) == length - 1, episodes)
    return Log(obs, obs, zero[:, None], zero, zero, end, np.zeros_like(end))


@pytest.mark.parametrize("episodes", (30, 120))
def test_false_alarms_keep_their_rate_on_new_episodes(episodes):
    """Of one law, over many logs of few episodes: states of one log share its luck, so the rate is that of all."""
    for alpha in (0.05, 0.2):
        rates = []
        for seed in range(25):
            support = Support.fit(ring(episodes, seed), np.random.default_rng(seed))
            rates.append(support.outside(ring(50, 1000 + seed).observations, alpha).mean())
        centre, error = np.mean(rates), np.std(rates, ddof=1) / len(rates) ** 0.5
        assert 0.15 * alpha < centre < alpha + 2.5 * error


def test_a_long_episode_counts_once():
    ranks = Ranks.of(np.array([3.0, 1.0, 1.0, 1.0, 2.0]), np.array([0, 1, 1, 1, 0]))
    np.testing.assert_allclose(ranks.p_value(np.array([0.5, 1.0, 1.5, 2.5, 3.0, 9.0])), [1, 1, 2 / 3, 0.5, 0.5, 1 / 3])


def test_the_hole_and_the_far_are_outside():
    support = Support.fit(ring(300, 0), np.random.default_rng(0))
    strange = np.array([[0.0, 0.0], [0.4, 0.3], [5.0, 5.0], [np.nan, 0.0], [1.0, np.inf]], np.float32)
    assert support.outside(strange).all()
    assert not support.outside(np.array([[1.0, 0.0], [0.0, -1.0]], np.float32)).any()
    # the range of the log, column by column, would have called the hole inside
    assert support.normalizer.supports(strange[:2]).all()


def test_units_do_not_matter():
    log = ring(100, 0)
    scaled = Log(**{**log.columns, "observations": log.observations * np.float32([1.0, 1000.0])})
    a, b = (Support.fit(x, np.random.default_rng(3)) for x in (log, scaled))
    new = ring(20, 5).observations
    np.testing.assert_allclose(a.p_value(new), b.p_value(new * np.float32([1.0, 1000.0])), atol=2e-3)


def test_refusals():
    with pytest.raises(DataError, match="1 episodes"):
        Support.fit(ring(1, 0), np.random.default_rng(0))
    few = Support.fit(ring(6, 0), np.random.default_rng(0))
    with pytest.raises(DataError, match=r"of 6 episodes, no state is told apart at alpha = 0\.01; give 0\.14 or more"):
        few.outside(np.zeros((1, 2)))
    assert few.p_value(np.array([[np.nan, 0.0]])).tolist() == [0.0]
    with pytest.raises(DataError, match="fewer than k = 500"):
        Support.fit(ring(4, 0), np.random.default_rng(0), k=500)
    support = Support.fit(ring(10, 0), np.random.default_rng(0))
    with pytest.raises(ShapeError, match=r"\(3, 4\), expected \[B, 2\]"):
        support.score(np.zeros((3, 4)))
