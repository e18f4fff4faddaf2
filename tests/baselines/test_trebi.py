"""Samples resemble the log; guidance within a budget lowers cost; a plan is executed as far as set."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from safeplan.baselines.offline import make
from safeplan.errors import DataError
from safeplan.rng import torch_rng
from tests.baselines.toy import HURRY, H, descend, road_log

SMALL = {
    "batch": 64,
    "horizon": 4,
    "width": 16,
    "blocks": 1,
    "heads": 2,
    "value_hidden": 32,
    "lr": 5e-3,
    "ema_rate": 0.05,
    "steps": 5,
}


@pytest.fixture(scope="module")
def trained():
    learner, source = make("trebi", road_log(150), 0.0, candidates=1, **SMALL)
    descend(learner, source, 200)
    return learner


def windows(learner, left, rows=200, speed=0.6):
    """Actions `[B, H]` and first observations of samples that start at `speed` half way, `left` of the cost scale."""
    obs = learner.encode(torch.tensor([[speed, 0.5]]).expand(rows, 2))
    x = learner.sample(obs, torch.full((rows,), left), torch_rng(4))
    torch.testing.assert_close(x[:, 0, :2], obs)
    return x[..., 2]


def test_values_are_learned(trained):
    log = road_log(50, seed=9)
    speeds = log.actions.reshape(50, H)[:, :4]
    x = np.concatenate([log.observations.reshape(50, H, 2)[:, :4], speeds[..., None]], -1)
    x = torch.from_numpy(x)
    x[..., :2] = trained.encode(x[..., :2])
    found = trained.values(x).detach().numpy()
    wanted = log.rewards.reshape(50, H).sum(1) / trained.facts.return_scale
    assert np.corrcoef(found[:, 0], wanted)[0, 1] > 0.8
    assert np.corrcoef(found[:, 1], log.costs.reshape(50, H).sum(1))[0, 1] > 0.7


def test_guidance_lowers_cost_within_a_budget_and_raises_return_without(trained, monkeypatch):
    free, none = windows(trained, math.inf), windows(trained, 0.0)
    costs = [float((a > HURRY).float().mean()) for a in (free, none)]
    assert costs[1] < 0.5 * costs[0]
    monkeypatch.setattr(trained, "settings", replace(trained.settings, reward_weight=0.0))
    plain = windows(trained, math.inf)
    assert free.mean() > plain.mean() + 0.1
    assert plain.mean() == pytest.approx(0.6, abs=0.2)  # drivers keep their speed


def test_the_budget_is_what_is_left_of_the_limit(trained):
    state = trained.start(2, 5.0)
    state = trained.record(state, np.zeros(2), np.array([1.0, 3.0]))
    assert state.left.tolist() == [4.0, 2.0]
    assert np.isinf(trained.record(trained.start(1, math.inf), np.zeros(1), np.ones(1)).left).all()


def test_a_plan_is_executed_as_far_as_set():
    learner, _ = make("trebi", road_log(20), 0.0, execute=3, candidates=2, **SMALL)
    obs, state, seen = np.zeros((2, 2)), learner.start(2, 1.0), []
    for k in range(4):
        _, state = learner.act(obs, state, torch_rng(k))
        seen.append(state.plan.shape[1])
    assert seen == [2, 1, 0, 2]


def test_candidates_are_chosen_by_their_energy(trained, monkeypatch):
    obs, left = trained.encode(torch.tensor([[0.6, 0.5]]).expand(60, 2)), torch.zeros(60)
    monkeypatch.setattr(trained, "settings", replace(trained.settings, candidates=8))
    many = obs.repeat_interleave(8, 0)
    x = trained.sample(many, torch.zeros(480), torch_rng(2))
    best = trained.energy(x, torch.zeros(480)).reshape(60, 8).argmin(1)
    want = x.reshape(60, 8, 4, 3)[torch.arange(60), best][..., 2:].clamp(-1, 1)
    torch.testing.assert_close(trained.plan(obs, left, torch_rng(2)), want)


def test_episodes_shorter_than_the_horizon_are_an_error():
    with pytest.raises(DataError, match=r"no window of 13 steps .*longest episode 12"):
        make("trebi", road_log(3), 0.0, **{**SMALL, "horizon": 13})
