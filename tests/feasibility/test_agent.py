"""The agent: reproducible, refuses what does not fit, and learns a feasible set that is known."""

from dataclasses import asdict, replace
from unittest.mock import patch

import numpy as np
import pytest
import torch

from safeplan.data import Log, Normalizer
from safeplan.errors import ConfigError, DataError, ShapeError
from safeplan.feasibility import Fisor, FisorConfig, FisorPolicy, columns, official, reward_scale
from safeplan.feasibility.config import BEFORE, restored, stored
from safeplan.feasibility.prepare import early
from safeplan.guidance import Barrier, Energy
from safeplan.rng import torch_rng

SMALL = FisorConfig(batch=64, critic_rows=32, hidden=16, actor_width=16, actor_blocks=1, candidates=4)


def line_log(n: int = 4000, seed: int = 0) -> Log:
    """x in [-1, 1], x' = x + 0.2 a; violated where |x| > 0.7; beyond |x| > 0.4 the wind blows outwards and wins."""
    rng = np.random.default_rng(seed)
    x, a = rng.uniform(-1, 1, n), rng.uniform(-1, 1, n)
    wind = np.where(np.abs(x) > 0.4, 0.3 * np.sign(x), 0.0)
    y = np.clip(x + 0.2 * a + wind, -1.2, 1.2)
    ends = np.zeros(n, bool)
    ends[-1] = True
    x, y, a = (v.astype(np.float32)[:, None] for v in (x, y, a))
    rewards = (a[:, 0]).astype(np.float32)
    cost = (np.abs(x[:, 0]) > 0.7).astype(np.float32)
    return Log(x, y, a, rewards, cost, np.zeros(n, bool), ends, extra={"h": np.abs(x[:, 0]) - np.float32(0.7)})


def rand_batch(n: int = 64) -> dict[str, torch.Tensor]:
    g = torch_rng(0, "data")
    wide = {"observations": 3, "next_observations": 3, "actions": 2}
    batch = {k: torch.rand(n, size, generator=g) for k, size in wide.items()}
    return batch | {k: torch.rand(n, generator=g) for k in ("rewards", "h", "masks")}


COLUMN = {"violation": "column", "feasibility_loss": "squared"}
EVEN = {"violating": 1.0}


@pytest.mark.parametrize("how", [COLUMN, EVEN], ids=["column", "costs"])
def test_learns_the_feasible_set_of_a_line(how):
    fast = {"gamma": 0.9, "target_rate": 0.05, "lr": 3e-3, "critic_lr": 3e-3, "ema_rate": 0.02, "lead": 0}
    fast |= {"batch": 256, "critic_rows": 256, "hidden": 32}
    config = replace(SMALL, **fast, **how, scale_rewards=False)
    data = columns(line_log(), config)
    agent = Fisor(1, 1, config)
    for i in range(250 if how is COLUMN else 500):
        rows = torch.randint(4000, (256,), generator=torch_rng(0, "batch", i))
        agent.update({k: v[rows] for k, v in data.items()}, torch_rng(0, "update", i))
    x = np.array([[-0.9], [-0.55], [0.0], [0.1], [0.55], [0.9]], np.float32)
    assert (agent.v_h(x) > 0).tolist() == [True, True, False, False, True, True]
    # at 0.3 full speed to the right ends beyond the brink, to the left it does not
    q_h = agent.q_h(np.array([[0.3], [0.3]]), np.array([[1.0], [-1.0]]))
    assert q_h[0] > 0 > q_h[1]
    w = agent.weights(np.array([[0.3], [0.3]]), np.array([[1.0], [-1.0]]))
    assert w[1] > 2 * w[0]
    actions = agent.act(np.full((50, 1), 0.35, np.float32), torch_rng(0, "act"))
    assert (actions < 0.4).mean() > 0.9


def test_in_violation_the_way_out_is_known():
    """From 0.5 two steps to the left end it; without `recovery` left and right are violated alike."""
    rng = np.random.default_rng(0)
    x, a = rng.uniform(0, 1, (2, 4000, 1)).astype(np.float32)
    a = 2 * a - 1
    y = np.clip(x + np.float32(0.2) * a, 0, 1)  # violated beyond 0.2
    ends = np.arange(4000) == 3999
    log = Log(x, y, a, 0 * a[:, 0], (x[:, 0] > 0.2).astype(np.float32), np.zeros(4000, bool), ends)
    gaps = []
    for recovery in (0.97, 0.0):
        config = replace(SMALL, batch=256, critic_rows=256, hidden=32, critic_lr=3e-3, target_rate=0.05, lead=0)
        agent = Fisor(1, 1, replace(config, recovery=recovery, scale_rewards=False))
        data = columns(log, agent.config)
        for i in range(300):
            rows = torch.randint(4000, (256,), generator=torch_rng(0, "batch", i))
            agent.update({k: v[rows] for k, v in data.items()}, torch_rng(0, "update", i))
        out, stay = agent.q_h(np.float32([[0.5], [0.5]]), np.float32([[-1.0], [1.0]]))
        assert out > 10.0
        gaps.append(stay - out)
    assert gaps[0] > 0.8 > 2 * abs(gaps[1]), gaps


@pytest.mark.parametrize("violating", [0.5, 1.0, 25.0])
def test_a_violated_step_is_infeasible_whatever_its_label(violating):
    """Labels of other sizes: the last violated step, with nothing but safety after it."""
    agent = Fisor(3, 2, replace(SMALL, violating=violating, critic_lr=0.02, lead=0))
    batch = {**rand_batch(), "h": torch.full((64,), violating), "masks": torch.ones(64)}
    obs, act = batch["observations"], batch["actions"]
    with patch.object(agent, "_value", lambda name, o: torch.full((len(o),), -1.0)):  # what follows is safe
        for _ in range(200):
            agent._step("q_h", agent.loss_q_h(obs, act, batch["h"], batch["masks"], obs))
    agent.nets["q_h_target"].load_state_dict(agent.nets["q_h"].state_dict())
    assert agent.q_h(obs, act).min() > 0.2 * violating


def test_updates_depend_on_the_generator_alone():
    def run(noise: int):
        torch.manual_seed(noise)
        agent = Fisor(3, 2, SMALL, seed=5)
        batch = rand_batch()
        before = torch.get_rng_state()
        for i in range(3):
            agent.update(batch, torch_rng(2, i))
        assert torch.equal(before, torch.get_rng_state())  # and leaves the global one alone
        return agent

    a, b = run(0), run(1)
    for p, q in zip(a.nets.parameters(), b.nets.parameters(), strict=True):
        assert torch.equal(p, q)
    obs = np.zeros((2, 3), np.float32)
    np.testing.assert_array_equal(a.act(obs, torch_rng(3)), b.act(obs, torch_rng(3)))
    assert not np.array_equal(a.act(obs, torch_rng(3)), a.act(obs, torch_rng(4)))


def test_rows_of_weight_zero_cost_nothing_and_change_nothing():
    """The same gradient as computing them, and no rows at all are a gradient of 0."""
    gradients = []
    batch, w = rand_batch(), torch.rand(64, generator=torch_rng(3)) * (torch.arange(64) % 3 == 0)
    for skip in (True, False):
        agent = Fisor(3, 2, replace(SMALL, dropout=0.0, skip_unweighted=skip))
        t, noise = agent.path.draw(64, torch_rng(4)), torch.randn(64, 2, generator=torch_rng(5))
        seen = []
        agent.nets["actor"].inp.register_forward_hook(lambda m, i, o, seen=seen: seen.append(len(o)))
        loss = agent.loss_actor(batch["observations"], batch["actions"], w, t, noise)
        loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in agent.nets["actor"].parameters())])
        assert seen == [22 if skip else 64]
        agent.nets["actor"].zero_grad()
        agent.loss_actor(batch["observations"], batch["actions"], 0 * w, t, noise).backward()
        assert all(not p.grad.any() for p in agent.nets["actor"].parameters())
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_normalised_weights_do_not_scale_the_step():
    """All weights times a constant: the same actor update; the official way moves with them."""
    batch = rand_batch()
    for normalize in (True, False):
        losses = []
        for factor in (1.0, 10.0):
            agent = Fisor(3, 2, replace(SMALL, normalize_weights=normalize))
            with patch.object(agent, "_weights", lambda *_, f=factor: f * torch.arange(64.0)):
                losses.append(agent.update(batch, torch_rng(0)))
        ratio = losses[1]["loss_actor"] / losses[0]["loss_actor"]
        assert ratio == pytest.approx(1.0 if normalize else 10.0, rel=1e-4)
        assert losses[1]["weight"] == pytest.approx(10 * 31.5)  # the log shows them as they are


def test_critics_see_the_rows_they_are_given():
    batch = rand_batch()
    changed = {k: v.clone() for k, v in batch.items()}
    changed["rewards"][40:] += 5.0
    for rows, same in ((32, True), (0, False)):
        found = [Fisor(3, 2, replace(SMALL, critic_rows=rows)).update(b, torch_rng(0)) for b in (batch, changed)]
        assert bool(found[0]["loss_q"] == found[1]["loss_q"]) == same


def test_targets_move_by_their_rate_and_carry_no_graph():
    agent = Fisor(3, 2, replace(SMALL, dropout=0.0))
    old = {k: v.clone() for k, v in agent.nets.state_dict().items()}
    agent.update(rand_batch(), torch_rng(0))
    new = agent.nets.state_dict()
    moved = old["q_h_target.weights.0"] + SMALL.target_rate * (new["q_h.weights.0"] - old["q_h_target.weights.0"])
    torch.testing.assert_close(new["q_h_target.weights.0"], moved)
    assert not any(p.requires_grad for k in ("q_target", "q_h_target", "actor_ema") for p in agent.nets[k].parameters())
    assert agent.updates == 1 and agent.actor_updates == 2


def test_shapes_kinds_and_range_of_actions():
    agent = FisorPolicy(3, 2, SMALL)
    one, many = np.zeros(3), torch.zeros(5, 3)
    assert agent.act(one, torch_rng(0)).shape == (2,) and isinstance(agent.act(one, torch_rng(0)), np.ndarray)
    a = agent.act(many, torch_rng(0), pick="maxq_feasible")
    assert a.shape == (5, 2) and isinstance(a, torch.Tensor) and a.abs().max() <= 1
    assert agent.sample(many, torch_rng(0)).shape == (5, 2)
    assert agent.v(many).shape == (5,) and agent.q(many, a).shape == (5,)
    with pytest.raises(ShapeError, match=r"observations are \(5, 4\)"):
        agent.v_h(np.zeros((5, 4)))
    with pytest.raises(ShapeError, match="actions are"):
        agent.q_h(many, torch.zeros(5, 3))
    with pytest.raises(ShapeError, match="normalizer has 4"):
        Fisor(3, 2, SMALL, normalizer=Normalizer.identity(4))


@pytest.mark.parametrize("schedule", ["vp", "cosine"])
def test_unguided_actions_are_those_of_the_sampler_that_guidance_uses(schedule):
    """The same draws, and the same actions but for rounding, as a chain that changes nothing."""
    agent = Fisor(3, 2, replace(SMALL, schedule=schedule, steps=7))
    obs = rand_batch(20)["observations"]
    far = Barrier(lambda a: 100.0 + 0.0 * a.sum(-1), metric="identity")
    one = agent.sample(obs, torch_rng(0))
    assert one.std() > 0.1
    torch.testing.assert_close(one, agent.sample(obs, torch_rng(0), chain=[far]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_actions_are_the_same_and_follow_the_weights():
    """For one state and for several, before and after an update."""
    eager, fast = (Fisor(3, 2, replace(SMALL, compile=c)) for c in (False, True))
    obs = rand_batch(9)["observations"]
    for count in (4, 9, 4):
        found = [agent.act(obs[:count], torch_rng(0)) for agent in (eager, fast)]
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
        for agent in (eager, fast):
            for weights in agent.nets["actor_ema"].parameters():
                weights.mul_(1.5)


def test_guidance_takes_gradients_through_the_actor():
    """The posterior metric is the network's Jacobian: smaller second actions, at the cost of gradients through it."""
    agent = Fisor(3, 2, SMALL)
    obs = rand_batch(40)["observations"]
    push = Energy(lambda a: a[:, 1].square(), scale=20.0, metric="posterior")
    plain, guided = (agent.sample(obs, torch_rng(0), chain=chain) for chain in ([], [push]))
    assert guided[:, 1].abs().mean() < plain[:, 1].abs().mean()


def test_normalised_observations_are_only_a_change_of_units():
    nz = Normalizer(np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.5, 4.0]), np.zeros(3), np.ones(3))
    plain = Fisor(3, 2, SMALL, seed=1)
    scaled = Fisor(3, 2, replace(SMALL, normalize=True), seed=1, normalizer=nz)
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_allclose(scaled.v_h(nz.decode(x)), plain.v_h(x), atol=1e-5)


def test_columns():
    log = line_log(100)
    data = columns(log, replace(SMALL, timeouts_bootstrap=False))
    assert set(data["h"].tolist()) == {25.0, -1.0} and data["masks"].tolist() == [1.0] * 99 + [0.0]
    assert data["actions"].abs().max() < 1
    torch.testing.assert_close(columns(log, replace(SMALL, **COLUMN))["h"], torch.from_numpy(log.extra["h"]))
    assert columns(log, SMALL)["masks"].all()  # a time-out is not an end
    assert reward_scale(log) == 1.0  # one episode: returns do not differ
    timeouts = log.timeouts.copy()
    timeouts[49] = True
    two = replace(log, timeouts=timeouts)
    spread = abs(float(log.rewards[:50].sum() - log.rewards[50:].sum()))
    assert reward_scale(two) == pytest.approx(50 / spread, rel=1e-5)
    with pytest.raises(DataError, match="relabel"):
        columns(replace(log, extra={}), replace(SMALL, **COLUMN))
    with pytest.raises(DataError, match=r"actions reach 3"):
        columns(replace(log, actions=log.actions * 0 + 3), SMALL)


def test_costs_are_seen_ahead_within_their_episode():
    """Two episodes of five steps; the second one's first cost does not reach into the first."""
    log = line_log(10)
    costs = np.float32([0, 0, 0, 0, 2, 1, 0, 0, 1, 0])
    log = replace(log, costs=costs, timeouts=np.arange(10) % 5 == 4)
    assert early(log, 0).tolist() == costs.tolist()
    assert early(log, 2).tolist() == [0, 0, 2, 2, 2, 1, 1, 1, 1, 0]
    assert early(log, 9).tolist() == [2, 2, 2, 2, 2, 1, 1, 1, 1, 0]
    assert (columns(log, replace(SMALL, lead=2))["h"] > 0).tolist() == [v > 0 for v in early(log, 2)]


def test_cross_entropy_keeps_values_within_their_bounds_and_starts_feasible():
    """At observations far from any seen, where the squared critics say anything."""
    far = 1e3 * torch.randn(64, 3, generator=torch_rng(1))
    for loss, inside in (("cross_entropy", True), ("squared", False)):
        agent = Fisor(3, 2, replace(SMALL, critic_rows=0, feasibility_loss=loss))
        if inside:
            start = agent.v_h(rand_batch()["observations"])
            assert start.min() > -1.0 and start.max() < 0.0
        for i in range(5):
            agent.update({**rand_batch(), "h": torch.where(torch.arange(64) % 4 == 0, 25.0, -1.0)}, torch_rng(0, i))
        values = torch.cat([agent.v_h(far), agent.q_h(far, torch.zeros(64, 2))])
        assert (values.min() >= -1.0 and values.max() <= 25.0) == inside


def test_settings_that_came_later_are_as_before_in_older_checkpoints():
    old = asdict(official())
    for key in BEFORE:
        old.pop(key)
    assert restored(old) == official()
    for config in (FisorConfig(), official(), FisorConfig(lead=0, precision="bfloat16")):
        assert restored(stored(config)) == config
    assert set(stored(official())) == set(old)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"pick": "best"}, "minqc"),
        ({"violation": "guess"}, "relabel, column"),
        ({"gamma": 1.0}, "between 0 and 1"),
        ({"candidates": 0}, "at least 1"),
        ({"batch": 65}, "must divide"),
        ({"violating": -1.0}, "above 0"),
        ({"violation": "column"}, "use squared"),
        ({"feasibility_loss": "hinge"}, "cross_entropy, squared"),
        ({"reward_rows": "none"}, "feasible, all"),
        ({"lead": -1}, "at least 0"),
    ],
)
def test_settings_are_checked(change, text):
    with pytest.raises(ConfigError, match=text):
        replace(SMALL, **change)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lr", 0.0, "above 0"),
        ("lr", float("nan"), "finite"),
        ("lr", float("inf"), "finite"),
        ("dropout", 1.0, "below 1"),
        ("dropout", -0.1, "at least 0"),
        ("target_rate", 0.0, "at most 1"),
        ("ema_rate", 1.5, "at most 1"),
        ("cost_temperature", float("inf"), "finite"),
        ("reward_temperature", -1.0, "at least 0"),
        ("cost_clip", 0.0, "above 0"),
        ("reward_clip", float("nan"), "above 0"),
        ("cost_clip_low", 200.0, "at most cost_clip"),
        ("violating", float("inf"), "finite"),
        ("actor_width", 0, "at least 1"),
        ("actor_blocks", 0, "at least 1"),
        ("candidates", 2.5, "whole number"),
        ("actor_decay_steps", -1, "at least 0"),
        ("schedule", "sine", "one of vp, cosine, linear"),
    ],
)
def test_settings_out_of_range_are_named(name, value, expected):
    with pytest.raises(ConfigError, match=rf"fisor\.{name} is {value!r}, expected .*{expected}"):
        replace(SMALL, **{name: value})
