"""The decision transformer looks back only, listens to its two wishes, and asks for what the limit allows."""

import math

import numpy as np
import pytest
import torch

from safeplan.baselines.offline import make
from safeplan.baselines.offline.cdt_net import CdtNet
from safeplan.baselines.offline.facts import Facts, episode_sums
from safeplan.baselines.offline.relabel import relabelled
from safeplan.errors import ConfigError, DataError
from safeplan.rng import torch_rng
from tests.baselines.toy import H, descend, road_log, two_armed_log

SMALL = {"batch": 64, "context": 4, "width": 16, "heads": 2, "blocks": 1, "dropout": 0.0, "lr": 1e-2, "warmup": 10}


def test_no_token_sees_the_future():
    torch.manual_seed(0)
    net = CdtNet(2, 1, H, 16, 2, 2, 0.0).eval()
    torch.nn.init.normal_(net.action_head.weight)
    g = torch_rng(0)
    inputs = [torch.randn(3, 5, *s, generator=g) for s in ((), (), (2,), (1,))]
    time = torch.arange(5).expand(3, 5)
    mean, _, spends = net(*inputs, time)
    for k in range(len(inputs)):
        changed = [x.clone() for x in inputs]
        changed[k][:, 3] += 1.0
        again, _, spends_again = net(*changed, time)
        torch.testing.assert_close(again[:, :3], mean[:, :3])
        torch.testing.assert_close(spends_again[:, :3], spends[:, :3])
        own_action = k == 3  # what is to be guessed is not seen when it is guessed
        assert torch.allclose(again[:, 3], mean[:, 3]) == own_action
        assert not torch.allclose(again[:, 4], mean[:, 4])


def test_the_limit_chooses_the_arm():
    """From one and the same observation: crawl at no cost, hurry when any cost is allowed."""
    learner, source = make("cdt", two_armed_log(), math.inf, augment=0.0, **SMALL)
    descend(learner, source, 90)
    for limit, speed in ((0.0, 0.2), (math.inf, 0.8)):
        state, actions = learner.start(2, limit), []
        for k in range(H):
            obs = np.tile([0.0, 1 - k / H], (2, 1))
            action, state = learner.act(obs, state, torch_rng(0))
            state = learner.record(state, action[:, 0], (action[:, 0] > 0.5).astype(float))
            actions.append(action)
        np.testing.assert_allclose(np.stack(actions), speed, atol=0.12)


def test_wishes_start_at_the_limit_and_count_down():
    log = road_log(40)
    learner, _ = make("cdt", log, 1.0, **SMALL)
    costs, returns = episode_sums(log, log.costs), episode_sums(log, log.rewards)
    state = learner.start(3, 2.0)
    assert state.earn[0] * learner.facts.return_scale == pytest.approx(returns[costs <= 2].max(), abs=1e-6)
    assert state.spend[0] * learner.facts.cost_scale == pytest.approx(2.0)
    assert learner.start(1, math.inf).spend[0] == 1.0
    state = learner.record(state, np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 5.0]))
    np.testing.assert_allclose(state.spend * learner.facts.cost_scale, [2.0, 1.0, 0.0])
    assert (state.earn[0] - state.earn[1]) * learner.facts.return_scale == pytest.approx(-1.0)
    for k in range(6):
        _, state = learner.act(np.zeros((3, 2)), state, torch_rng(k))
    assert state.obs.shape == (3, 4, 2) and state.actions.shape == (3, 4, 1) and state.step == 6
    rash, _ = make("cdt", road_log(4, low=0.9, high=0.95, noise=0.0), 1.0, **SMALL)
    with pytest.raises(DataError, match=r"no episode of the log costs at most 1, the least is 12"):
        rash.start(1, 1.0)


def test_impossible_wishes_are_given_the_best_safe_episode():
    log = road_log(40)
    facts = Facts.of(log, math.inf)
    starts, raised = relabelled(log, facts, 0.5)
    assert len(starts) == len(raised["raise_cost"]) == len(log) + 20 * H
    assert not raised["raise_cost"][: len(log)].any() and (raised["raise_cost"] >= 0).all()
    assert (raised["raise_return"] >= 0).all() and raised["raise_return"][len(log) :].any()
    costs, returns = episode_sums(log, log.costs), episode_sums(log, log.rewards)
    for row, up in zip(starts[len(log) :: H], raised["raise_cost"][len(log) :: H], strict=True):
        episode = row // H
        wish = costs[episode] + up * facts.cost_scale
        assert returns[episode] == returns[costs <= wish + 1e-4].max()
    assert len(relabelled(log, facts, 0.0)[0]) == len(log)


def test_windows_past_an_end_do_not_count():
    """What the next episode does cannot be felt: its actions only ever follow an end."""
    _, source = make("cdt", road_log(6), 1.0, **{**SMALL, "augment": 0.0})
    batch = source.batch(0, 0)
    foreign = batch["episode"] != batch["episode"][:, :1]
    assert foreign.any() and not foreign[:, 0].any()
    mad = {**batch, "actions": torch.where(foreign[..., None], 0.9, batch["actions"])}
    found = [make("cdt", road_log(6), 1.0, **SMALL)[0].update(b, torch_rng(0)) for b in (batch, mad)]
    assert found[0]["likelihood"] == found[1]["likelihood"]


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match=r"cdt\.width is 16, expected a multiple of heads \(3\)"):
        make("cdt", road_log(4), 1.0, **{**SMALL, "heads": 3})
