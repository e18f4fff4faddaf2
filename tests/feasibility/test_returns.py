"""CFG on return: ranks against a slow twin, its limits, and what it does where two drivers earn differently."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from safeplan.data import Log
from safeplan.errors import CapabilityError, CheckpointError, ConfigError
from safeplan.feasibility import Fisor, FisorConfig, columns, with_budget
from safeplan.feasibility.one_step import OneStepConfig, teacher_map
from safeplan.feasibility.prepare import return_ranks
from safeplan.guidance import CFG, Barrier
from safeplan.rng import torch_rng
from safeplan.training import fisor_from_log, load, train
from safeplan.training.one_step import one_step_from_log

SMALL = FisorConfig(batch=64, hidden=16, actor_width=16, actor_blocks=1, candidates=4, condition_dropout=0.25)


def two_drivers(rows: int = 4000) -> Log:
    """Half of the drives hold an action about 0.6 and earn 1 a step, the others one about -0.6 and earn nothing."""
    rng = np.random.default_rng(0)
    good = np.repeat(rng.random(rows // 10) < 0.5, 10)
    x = rng.uniform(-1, 1, (rows, 1)).astype(np.float32)
    a = (np.where(good, 0.6, -0.6) + 0.1 * rng.normal(size=rows)).astype(np.float32)[:, None]
    ends = np.tile(np.arange(10) == 9, rows // 10)
    zeros = np.zeros(rows, np.float32)
    return Log(x, x, a, good.astype(np.float32), zeros, np.zeros(rows, bool), ends)


@pytest.mark.parametrize("bootstrap", [True, False])
def test_ranks_are_those_of_a_slow_twin(bootstrap):
    rng, n, gamma = np.random.default_rng(1), 40, 0.9
    ends = np.zeros(n, bool)
    ends[[6, 7, 20, 39]] = True  # one episode of a single row
    terminals = ends & (np.arange(n) != 39)
    x = np.zeros((n, 1), np.float32)
    log = Log(x, x, x, rng.normal(size=n).astype(np.float32), x[:, 0], terminals, ends & ~terminals)
    done = log.terminals if bootstrap else log.ends
    mean = []
    for row in range(n):
        last = next(k for k in range(row, n) if ends[k])
        powers = gamma ** np.arange(last - row + 1)
        for_ever = powers.sum() + (gamma * powers[-1] / (1 - gamma) if done[last] else 0.0)
        mean.append((powers * log.rewards[row : last + 1]).sum() / for_ever)
    wanted = [np.mean(np.array(mean) <= m + 1e-12) for m in mean]
    np.testing.assert_allclose(return_ranks(log, done, gamma), wanted, atol=1e-6)
    config = FisorConfig(gamma=gamma, timeouts_bootstrap=bootstrap, condition_dropout=0.1)
    np.testing.assert_allclose(columns(log, config)["returns"], wanted, atol=1e-6)
    assert "returns" not in columns(log, FisorConfig())


def test_limits():
    """w = 1 is the sampler that is told the return; w = 0 the one that is not, whatever the return."""
    agent = Fisor(3, 2, replace(SMALL, steps=6))
    obs = torch.rand(20, 3, generator=torch_rng(1))
    far = Barrier(lambda a: 100.0 + 0.0 * a.sum(-1), metric="identity")
    draw = lambda *chain: agent.sample(obs, torch_rng(0), chain=chain)  # noqa: E731
    alone = draw()
    torch.testing.assert_close(draw(far), alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(draw(CFG(1.0)), alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(agent.sample(obs, torch_rng(0)), alone, rtol=0, atol=0)
    untold, strong = draw(CFG(0.0)), draw(CFG(3.0))
    agent.returns = 0.2
    torch.testing.assert_close(draw(CFG(0.0)), untold, rtol=1e-4, atol=1e-5)
    assert all((a - alone).abs().mean() > 1e-3 for a in (untold, strong, draw()))


def test_it_acts_as_the_driver_who_earned_what_is_asked(tmp_path):
    # weights of 1, so that nothing but the return tells the drivers apart
    config = replace(SMALL, batch=256, actor_width=32, reward_temperature=0.0, lr=3e-3, ema_rate=0.02)
    learner, source = fisor_from_log(two_drivers(), replace(config, actor_decay_steps=0))
    train(learner, source, tmp_path, updates=300, seed=0, checkpoint_every=300)
    policy, obs = load(tmp_path), torch.zeros(400, 1)

    def shares(*chain):
        a = policy.sample(obs, torch_rng(0), chain=chain)
        return float((a > 0).float().mean())

    assert shares() > 0.9 and shares(CFG(2.0)) > 0.97
    assert 0.3 < shares(CFG(0.0)) < 0.7  # told nothing, it is both
    policy.returns = 0.4  # what the poor driver earned
    assert shares() < 0.1 and shares(CFG(2.0)) < 0.03
    noise = torch.randn(400, 1, generator=torch_rng(2))
    assert (teacher_map(policy, obs, noise) < 0).float().mean() > 0.9  # what a one-step policy would imitate


def test_updates_depend_on_the_generator_and_on_the_returns():
    log = two_drivers(200)

    def actor(changes, shift=0.0):
        data = columns(log, SMALL)
        data["returns"] = (data["returns"] + shift) % 1.0
        agent = Fisor(1, 1, replace(SMALL, **changes))
        for i in range(3):
            agent.update({k: v[:64] for k, v in data.items()}, torch_rng(0, i))
        return torch.cat([p.detach().flatten() for p in agent.nets["actor"].parameters()])

    assert torch.equal(actor({}), actor({}))
    assert not torch.equal(actor({}), actor({}, 0.3))
    assert not torch.equal(actor({}), actor({"condition_dropout": 0.5}))


def test_with_budgets_and_what_a_distilled_policy_remembers(tmp_path):
    """Ranks do not look at the budget; a one-step policy is that of the return its teacher was told."""
    log = two_drivers(200)
    learner, source = fisor_from_log(log, replace(SMALL, budget=5.0))
    assert {"costs", "returns"} <= set(source.batch(0, 0))
    train(learner, source, tmp_path / "teacher", updates=2, seed=0, checkpoint_every=2)
    teacher, obs = load(tmp_path / "teacher"), with_budget(np.zeros((4, 1)), np.full(4, 2.0), 5.0)
    assert np.isfinite(teacher.act(obs, torch_rng(0), chain=[CFG(2.0)])).all()
    found = {}
    for returns in (1.0, 0.3):
        teacher.returns = returns
        fast, states = one_step_from_log(log, teacher, OneStepConfig(hidden=8, layers=1, batch=16))
        train(fast, states, tmp_path / str(returns), updates=1, seed=0, checkpoint_every=1)
        found[returns] = load(tmp_path / str(returns))
        assert found[returns].teacher.returns == returns and found[returns].budget == 5.0
    with pytest.raises(CheckpointError):  # the run was begun with another teacher
        train(fast, states, tmp_path / "1.0", updates=2, seed=0, checkpoint_every=1)


def test_refusals():
    agent = Fisor(3, 2, replace(SMALL, condition_dropout=0.0))
    with pytest.raises(CapabilityError, match="null"):
        agent.sample(torch.zeros(4, 3), torch_rng(0), chain=[CFG(2.0)])
    with pytest.raises(
        ConfigError, match=r"fisor.condition_dropout is 1.0, expected a number of at least 0 and below 1"
    ):
        FisorConfig(condition_dropout=1.0)
    for value in (2.0, float("nan"), 0.0):
        with pytest.raises(ConfigError, match=rf"fisor.returns is {value}, expected a number above 0 and at most 1"):
            agent.returns = value
    with pytest.raises(ConfigError, match=r"fisor.threshold is inf, expected a finite number"):
        agent.threshold = float("inf")
