"""Sums along episodes against slow twins, the frontier, the discounted limit, and refusals."""

import math
from dataclasses import replace

import numpy as np
import pytest

from safeplan.baselines.offline.facts import Facts, best_within, episode_sums, pareto, threshold, to_go
from safeplan.errors import ConfigError, DataError
from tests.baselines.toy import H, road_log

LOG = road_log(9)


def test_sums_agree_with_loops():
    sums, rest = episode_sums(LOG, LOG.rewards), to_go(LOG, LOG.rewards)
    for (a, b), total in zip(LOG.episodes, sums, strict=True):
        assert total == pytest.approx(float(LOG.rewards[a:b].astype(float).sum()))
        for i in range(a, b):
            assert rest[i] == pytest.approx(float(LOG.rewards[i:b].astype(float).sum()), abs=1e-9)


def test_the_frontier_holds_what_nothing_beats():
    rng = np.random.default_rng(0)
    costs, returns = rng.integers(0, 8, 60).astype(float), rng.normal(size=60)
    front = pareto(costs, returns)
    for cost, value in front:
        assert not ((costs <= cost) & (returns > value)).any()
    for limit in range(int(costs.min()), 9):
        assert best_within(front, limit)[1] == returns[costs <= limit].max()
    assert [p[0] for p in front] == sorted(p[0] for p in front)
    with pytest.raises(DataError, match=r"costs at most -1, the least is 0"):
        best_within(front, -1.0)


def test_the_discounted_limit_is_the_value_of_an_even_cost():
    for gamma in (0.9, 0.99):
        even = sum(gamma**k * 10 / 50 for k in range(50))
        assert threshold(10.0, gamma, 50) == pytest.approx(even)
    assert threshold(10.0, 1 - 1e-9, 50) == pytest.approx(10.0, rel=1e-5)
    assert threshold(math.inf, 0.99, 50) == math.inf


def test_facts_and_their_json():
    facts = Facts.of(LOG, 3.0)
    assert (facts.obs_size, facts.act_size, facts.longest) == (2, 1, H)
    assert facts.cost_scale == episode_sums(LOG, LOG.costs).max()
    assert Facts.from_dict(facts.to_dict()) == facts
    assert Facts.of(LOG, math.inf).limit is None and Facts.of(LOG, math.inf).cost_limit == math.inf


def test_bad_logs_and_limits_are_named():
    for limit in (-1.0, math.nan):
        with pytest.raises(ConfigError, match=f"cost limit is {limit}"):
            Facts.of(LOG, limit)
    rewards = LOG.rewards.copy()
    rewards[3] = np.nan
    with pytest.raises(DataError, match="'rewards' holds NaN"):
        Facts.of(replace(LOG, rewards=rewards), 1.0)
    with pytest.raises(DataError, match=r"'costs' has 5 rows"):
        Facts.of(replace(LOG, costs=LOG.costs[:5]), 1.0)
    with pytest.raises(DataError, match=r"'actions' is outside \[-1, 1\]"):
        Facts.of(replace(LOG, actions=LOG.actions * 0 + 3), 1.0)
