"""Batched episodes equal single ones; sums, ends and budgets are counted right."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from safeplan.errors import ConfigError, ShapeError
from safeplan.evaluation.actors import FisorActor, Memoryless, Reserved
from safeplan.evaluation.rollout import rollout
from safeplan.feasibility import FisorConfig, FisorPolicy
from safeplan.feasibility.one_step import OneStepConfig, OneStepPolicy
from safeplan.guidance import CFG


class Walk(gym.Env):
    """A walk on a line by the action: reward is the step, cost 1 beyond 1, ends beyond 2; 20 steps at most."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.k = float(self.np_random.uniform(0, 0.5)), 0
        return np.array([self.x, self.k]), {}

    def step(self, action):
        assert self.k < 20, "stepped after its end"
        step = 0.3 * float(action[0]) + 0.1 * float(self.np_random.normal())
        self.x, self.k = self.x + step, self.k + 1
        return np.array([self.x, self.k]), step, abs(self.x) > 2, self.k == 20, {"cost": float(self.x > 1)}


class Push:
    """Deterministic, and remembers what it was told."""

    def __init__(self, gain: float):
        self.gain, self.told = gain, []

    def start(self, episodes, limit):
        return np.zeros((2, episodes))

    def act(self, obs, state, generator):
        return np.clip(self.gain * np.cos(obs[:, :1] / 2), -1, 1), state

    def record(self, state, rewards, costs):
        self.told.append(state + np.array([rewards, costs]))
        return self.told[-1]


def test_many_at_once_equal_one_after_the_other():
    actor = Push(0.6)
    batch = rollout([Walk() for _ in range(7)], actor, episodes=7, limit=0, seed=3, max_steps=100)
    waves = rollout([Walk() for _ in range(3)], Push(0.6), episodes=7, limit=0, seed=3, max_steps=100)
    single = rollout([Walk()], Push(0.6), episodes=7, limit=0, seed=3, max_steps=100)
    for key in ("returns", "costs", "lengths", "seeds"):
        np.testing.assert_array_equal(getattr(batch, key), getattr(waves, key))
        np.testing.assert_array_equal(getattr(batch, key), getattr(single, key))
    assert len(set(batch.lengths)) > 1 and batch.costs.any() and len(set(batch.seeds)) == 7
    np.testing.assert_allclose(actor.told[-1], [batch.returns, batch.costs])  # nothing after an end is told
    assert batch.violated(0.5).tolist() == (batch.costs > 0.5).tolist()
    other = rollout([Walk()], Push(0.6), episodes=7, limit=0, seed=4, max_steps=100)
    assert not np.array_equal(other.returns, batch.returns)
    assert (rollout([Walk()], Push(0.6), episodes=2, limit=0, seed=3, max_steps=5).lengths <= 5).all()


def test_sums_are_discounted_from_the_first_step():
    actor = Push(0.6)
    found = rollout([Walk()], actor, episodes=1, limit=0, seed=3, max_steps=9, gamma=0.5)
    steps = np.diff([t[:, 0] for t in actor.told], axis=0, prepend=np.zeros((1, 2)))
    np.testing.assert_allclose([found.returns[0], found.costs[0]], 0.5 ** np.arange(len(steps)) @ steps)
    plain = rollout([Walk()], Push(0.6), episodes=1, limit=0, seed=3, max_steps=9)
    np.testing.assert_allclose(plain.returns[0], steps[:, 0].sum())


def test_fisor_counts_what_is_left_of_the_limit():
    small = FisorConfig(hidden=8, actor_width=8, actor_blocks=1, candidates=2, budget=10.0)
    policy, seen = FisorPolicy(3, 1, small), []
    query = policy._query
    policy._query = lambda fn, obs, *a: seen.append(obs.copy()) or query(fn, obs, *a)
    found = rollout([Walk() for _ in range(4)], FisorActor(policy), episodes=4, limit=4.0, seed=0, max_steps=20)
    assert all(o.shape == (4, 3) and o.dtype == np.float32 for o in seen)
    np.testing.assert_allclose(seen[0][:, 2], 0.4)
    assert found.returns.shape == (4,)
    fast, before = OneStepPolicy(policy, OneStepConfig(hidden=8, layers=1, candidates=2)), len(seen)
    rollout([Walk() for _ in range(4)], FisorActor(fast), episodes=4, limit=4.0, seed=0, max_steps=20)
    assert len(seen) > before and all(o.shape == (4, 3) for o in seen[before:])
    with pytest.raises(ConfigError, match="a one-step policy takes no guidance"):
        FisorActor(fast, chain=[CFG(2.0)])
    hard = FisorPolicy(2, 1, replace(small, budget=0.0))
    rollout([Walk()], FisorActor(hard, pick="minqc"), episodes=1, limit=4.0, seed=0, max_steps=3)
    again = [rollout([Walk()], Memoryless(hard), episodes=2, limit=0, seed=1, max_steps=9).returns for _ in range(2)]
    np.testing.assert_array_equal(*again)


@pytest.mark.parametrize("fast", (False, True))
@pytest.mark.parametrize(("limit", "reserve"), ((6.0, 0.0), (6.0, 2.5), (12.0, 4.0), (1.0, 3.0)))
def test_what_is_told_is_the_limit_less_reserve_and_cost(limit, reserve, fast):
    """To the end of the budget and beyond: every step from 1 on costs 1."""

    class Toll(Walk):
        def step(self, action):
            obs, reward, _, late, info = super().step(np.zeros(1))
            return obs, reward, False, late, info | {"cost": float(self.k > 1)}

    small = FisorConfig(hidden=8, actor_width=8, actor_blocks=1, candidates=2, budget=10.0)
    policy, seen = FisorPolicy(3, 1, small), []
    query = policy._query
    policy._query = lambda fn, obs, *a: seen.append(obs[:, 2].copy()) or query(fn, obs, *a)
    actor = Reserved(FisorActor(OneStepPolicy(policy, OneStepConfig(hidden=8)) if fast else policy), reserve)
    found = rollout([Toll(), Toll()], actor, episodes=2, limit=limit, seed=0, max_steps=20)
    assert found.costs.tolist() == [19.0, 19.0]
    left = np.maximum(limit - reserve - np.maximum(np.arange(20) - 1, 0), 0) / 10
    np.testing.assert_allclose(seen, np.stack([left, left], 1), rtol=1e-6)


def test_a_reserve_is_of_a_limit():
    hard = FisorPolicy(2, 1, FisorConfig(hidden=8, actor_width=8, actor_blocks=1))
    with pytest.raises(ConfigError, match="this policy knows none"):
        Reserved(FisorActor(hard), 1.0)
    with pytest.raises(ConfigError, match="reserve is nan"):
        Reserved(FisorActor(hard), float("nan"))


def test_refusals():
    with pytest.raises(ConfigError, match="0 environments"):
        rollout([], Push(1), episodes=1, limit=0, seed=0, max_steps=1)
    with pytest.raises(ConfigError, match=r"gamma is 0, expected in \(0, 1\]"):
        rollout([Walk()], Push(1), episodes=1, limit=0, seed=0, max_steps=1, gamma=0)
    with pytest.raises(ShapeError, match=r"actions are \(1, 1\)"):
        rollout([Walk()], Push(np.nan), episodes=1, limit=0, seed=0, max_steps=1)
    wide = FisorPolicy(2, 3, FisorConfig(hidden=8, actor_width=8, actor_blocks=1, candidates=2))
    with pytest.raises(ShapeError, match=r"actions are \(1, 3\), expected \(1, 1\)"):
        rollout([Walk()], Memoryless(wide), episodes=1, limit=0, seed=0, max_steps=1)
