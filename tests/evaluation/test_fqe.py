"""Fitted-Q evaluation where the truth is known: values, intervals of the right width, what it cannot know."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from safeplan.data import Log
from safeplan.errors import ConfigError, DataError, ShapeError
from safeplan.evaluation.fqe import Choices, FqeConfig, choices, discounted, fqe

QUICK = FqeConfig(gamma=0.8, members=6, updates=250, batch=128, hidden=16, lr=5e-3, target_rate=0.1)


def bandits(episodes=60, length=20, luck=0.0, seed=0) -> Log:
    """Each step pays the action and the luck of its episode; one in ten actions above 0.5 costs 1. Time-outs end it."""
    rng = np.random.default_rng(seed)
    n = episodes * length
    obs = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    a = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    rewards = a[:, 0] + np.repeat(luck * rng.normal(size=episodes), length).astype(np.float32)
    costs = ((a[:, 0] > 0.5) & (rng.random(n) < 0.1)).astype(np.float32)
    end = np.tile(np.arange(length) == length - 1, episodes)
    return Log(obs, obs, a, rewards.astype(np.float32), costs, np.zeros_like(end), end)


def constant(value):
    return lambda obs, generator: np.full((len(obs), 1), value, np.float32)


def test_value_of_a_policy_that_nobody_logged():
    log = bandits()
    found = {v: fqe(log, constant(v), "rewards", QUICK).value for v in (-0.5, 0.6)}
    for v, (estimate, low, high) in found.items():
        assert estimate == pytest.approx(v / 0.2, abs=0.35) and low < v / 0.2 + 0.2 and high > v / 0.2 - 0.2
    cost = fqe(bandits(200), constant(0.75), "costs", QUICK).value
    assert cost.estimate == pytest.approx(0.1 / 0.2, abs=0.2)


def test_the_interval_is_as_wide_as_the_luck_of_the_episodes():
    """Standard error of a mean over episodes: luck / sqrt(E), times 1 / (1 - gamma)."""
    spread = fqe(bandits(luck=1.0), constant(0.0), "rewards", replace(QUICK, members=12)).members.std(ddof=1)
    assert 0.5 < spread / (1 / np.sqrt(60) / 0.2) < 1.7


def test_terminals_end_and_time_outs_do_not():
    log = bandits()
    ended = Log(**{**log.columns, "terminals": np.ones(len(log), bool), "timeouts": np.zeros(len(log), bool)})
    assert fqe(ended, constant(0.5), "rewards", QUICK).value.estimate == pytest.approx(0.5, abs=0.1)


def test_same_seed_same_answer_and_what_the_behaviour_got():
    log = bandits(10, 4)
    short = replace(QUICK, updates=20, target_rate=0.9)
    a, b = (fqe(log, constant(0.0), "rewards", short, seed=s).members for s in (1, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, fqe(log, constant(0.0), "rewards", short, seed=2).members)
    sums = discounted(log, "rewards", 0.5)
    assert sums.shape == (10,) and sums[0] == pytest.approx(sum(0.5**k * float(log.rewards[k]) for k in range(4)))


def test_the_defaults_reach_the_value_of_a_far_horizon():
    """0.5 a step, discounted by 0.99, is worth 50."""
    assert FqeConfig().settled > 0.99
    log, c = bandits(20, 50), FqeConfig(members=2, updates=800, batch=64, hidden=16, lr=3e-3, target_rate=0.5)
    assert fqe(log, constant(0.5), "rewards", c).value.estimate == pytest.approx(50 * c.settled, rel=0.1)


def test_no_value_is_beyond_what_the_log_could_add_up_to():
    """An action of 5 would be worth 25 if what pays grew on as it did; the log's best step is worth 5 for ever."""
    log = bandits()
    low, high = 5 * float(log.rewards.min()), 5 * float(log.rewards.max())
    for action, end in ((5.0, high), (-5.0, low)):
        members = fqe(log, constant(action), "rewards", QUICK).members
        assert np.median(members) == pytest.approx(end, rel=1e-3)
        assert low - 1e-3 < members.min() and members.max() < high + 1e-3


def test_a_policy_asked_before_is_not_asked_again():
    log, short = bandits(10, 4), replace(QUICK, updates=20, target_rate=0.9)
    act = lambda obs, g: torch.rand((len(obs), 1), generator=g).numpy()  # noqa: E731
    asked = choices(log, act, seed=3)
    assert asked.after.shape == (40, 1) and asked.begun.shape == (10, 1)
    a, b = (fqe(log, policy, "costs", short, seed=3).members for policy in (asked, act))
    np.testing.assert_array_equal(a, b)
    with pytest.raises(ShapeError, match="choices in 40 states are of another log, which has 44"):
        fqe(bandits(11, 4), asked, "costs", short)
    with pytest.raises(ShapeError, match="another log"):
        fqe(log, Choices(asked.after, asked.begun[1:]), "costs", short)


def test_refusals():
    with pytest.raises(DataError, match="use rewards or costs"):
        fqe(bandits(), constant(0.0), "return")
    with pytest.raises(DataError, match="one episode"):
        fqe(bandits(1), constant(0.0))
    with pytest.raises(ShapeError, match=r"\(1200, 3\), expected \(1200, 1\)"):
        fqe(bandits(), lambda o, g: np.zeros((len(o), 3)))
    with pytest.raises(ConfigError, match="at least 2"):
        FqeConfig(members=1)
    with pytest.raises(ConfigError, match=r"5000 updates at target_rate 0.01 carry 39% of a value at gamma 0.99"):
        FqeConfig(target_rate=0.01)
