"""The distilled policy: it becomes its teacher, leans where it should, costs one evaluation, comes back from a file."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from safeplan.data import Log
from safeplan.errors import ConfigError, ShapeError
from safeplan.feasibility import Fisor, FisorConfig, with_budget
from safeplan.feasibility.one_step import OneStepConfig, OneStepPolicy, teacher_map
from safeplan.rng import torch_rng
from safeplan.training import fisor_from_log, load, train
from safeplan.training.one_step import OneStepLearner, one_step_from_log

SMALL = FisorConfig(hidden=16, actor_width=16, actor_blocks=1, candidates=4)
TINY = OneStepConfig(hidden=48, layers=2, lr=3e-3, batch=128, improve=0.0)


def states(n: int = 2000) -> Log:
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    zero, end = np.zeros(n, np.float32), np.arange(n) == n - 1
    return Log(obs, obs, np.zeros((n, 1), np.float32), zero, zero, end, np.zeros_like(end))


@pytest.fixture(scope="module")
def teacher():
    agent = Fisor(2, 1, replace(SMALL, dropout=0.0), seed=1)
    agent.nets.requires_grad_(False).eval()
    return agent


def distilled(teacher, config, updates=300):
    learner, source = one_step_from_log(states(), teacher, config)
    for i in range(updates):
        learner.update(source.batch(i, 0), torch_rng(0, i))
    return learner.policy


def test_imitation_alone_is_the_teachers_map(teacher):
    student = distilled(teacher, TINY)
    obs, z = torch.rand(500, 2, generator=torch_rng(1)) * 2 - 1, torch.randn(500, 1, generator=torch_rng(2))
    with torch.no_grad():
        want, got = teacher_map(teacher, obs, z), student.map(obs, z)
    error = (got - want).square().mean()
    assert error < 0.05 * want.var() and want.abs().max() <= 1
    torch.testing.assert_close(teacher_map(teacher, obs, z), want)  # no noise but the one given


@pytest.mark.parametrize("budget", (0.0, 5.0))
def test_it_learns_from_what_it_will_see(budget):
    """Normalised observations, and the root of a budget: distilled as encoded, it acts as its teacher."""
    log = states()
    far = Log(**{**log.columns, "observations": 40.0 + 10.0 * log.observations})
    config = replace(SMALL, dropout=0.0, normalize=True, budget=budget)
    agent = fisor_from_log(far, config, seed=1)[0].agent
    agent.nets.requires_grad_(False).eval()
    learner, source = one_step_from_log(far, agent, TINY)
    for i in range(300):
        learner.update(source.batch(i, 0), torch_rng(0, i))
    left = 5.0 * torch.rand(500, generator=torch_rng(4)).square().numpy()
    obs = with_budget(far.observations[:500], left, 5.0) if budget else far.observations[:500]
    z, seen = torch.randn(500, 1, generator=torch_rng(2)), agent.encode(torch.from_numpy(obs))
    with torch.no_grad():
        want, got = teacher_map(agent, seen, z), learner.policy.map(seen, z)
    assert (got - want).square().mean() < 0.05 * want.var()


def test_what_it_prefers_where_the_state_is_safe_and_its_action_is_not(teacher):
    """Less violation there, up to the threshold of the choice; more reward elsewhere."""
    student, obs = OneStepPolicy(teacher, TINY), torch.zeros(1, 2)
    for v_h, q_h, threshold, unsafe in (
        (-1, 0.5, 0, True),
        (-1, -0.5, 0, False),
        (-1, -0.5, -0.8, True),
        (1, -2, 0, True),
    ):
        student.teacher = SimpleNamespace(
            _value=lambda net, o, v=v_h: torch.full((1,), float(v)),
            scores=lambda o, a, q=q_h: (0 * a[:, 0] + q, 0 * a[:, 0] + 7.0),
            threshold=threshold,
            path=teacher.path,
            denoiser=teacher.denoiser,
            leaves=teacher.leaves,
        )
        prefers = student.loss(obs, torch.zeros(1, 1))[1].item()
        assert prefers == pytest.approx(np.sign(q_h) if unsafe else -1.0)
        if q_h < 0 and unsafe:  # tell -|Q_h| from -Q by their gradients
            student.teacher.scores = lambda o, a, q=q_h: (0 * a[:, 0] + q, a[:, 0])
            grads = torch.autograd.grad(student.loss(obs, torch.zeros(1, 1))[1], list(student.net.parameters()))
            assert all(not g.any() for g in grads)


def test_one_evaluation_per_batch_and_many_candidates_are_told_apart(teacher):
    calls = []
    obs = np.random.default_rng(1).uniform(-1, 1, (200, 2)).astype(np.float32)
    found = {}
    for n in (1, 16):
        student = OneStepPolicy(teacher, replace(TINY, candidates=n))
        student.net.load_state_dict(distilled(teacher, TINY, 20).net.state_dict())
        student.net.register_forward_hook(lambda m, i, o: calls.append(len(o)))
        found[n] = student.act(obs, torch_rng(5), pick="minqc")
        assert found[n].shape == (200, 1)
    assert calls == [200, 3200]
    with pytest.raises(ConfigError, match="pick is 'most', expected minqc, maxq, maxq_feasible"):
        student.act(obs, torch_rng(5), pick="most")
    assert teacher.q_h(obs, found[16]).mean() < teacher.q_h(obs, found[1]).mean()
    np.testing.assert_array_equal(student.act(obs[:5], torch_rng(1)), student.act(obs[:5], torch_rng(1)))


@pytest.mark.slow
def test_compiled_choices_are_the_same():
    """For one state and for several, and after the threshold has moved."""
    obs = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (9, 2)).astype(np.float32))
    eager, fast = (OneStepPolicy(Fisor(2, 1, replace(SMALL, compile=c)), TINY) for c in (False, True))
    fast.net.load_state_dict(eager.net.state_dict())
    for count, threshold in ((1, 0.0), (9, 0.0), (9, -0.5), (1, -0.7)):
        found = []
        for policy in (eager, fast):
            policy.teacher.threshold = threshold
            found.append(policy.act(obs[:count], torch_rng(0)))
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    copy = deepcopy(fast)  # acts with what it holds itself
    for weights in copy.net.parameters():
        weights.data.mul_(-1.0)
    assert not torch.equal(copy.act(obs, torch_rng(0)), fast.act(obs, torch_rng(0)))


def test_it_leans_towards_what_the_critics_prefer(teacher):
    """Q_h made positive everywhere: less of it; negative everywhere: more Q."""
    obs = np.random.default_rng(2).uniform(-1, 1, (300, 2)).astype(np.float32)
    for shift, better in ((5.0, lambda a: -teacher.q_h(obs, a).mean()), (-5.0, lambda a: teacher.q(obs, a).mean())):
        heads = [*teacher.nets["q_h_target"].parameters()][-1]
        vh = [*teacher.nets["v_h"].parameters()][-1]
        before = heads.clone(), vh.clone()
        heads += shift
        vh += shift
        plain, leaning = (distilled(teacher, replace(TINY, improve=w), 60) for w in (0.0, 2.0))
        actions = [p.act(obs, torch_rng(3)) for p in (plain, leaning)]
        assert better(actions[1]) > better(actions[0])
        heads.copy_(before[0])
        vh.copy_(before[1])


def test_trains_resumes_and_comes_back(teacher, tmp_path):
    for name, stops in (("whole", (30,)), ("halves", (10, 30))):
        for stop in stops:
            learner, source = one_step_from_log(states(), teacher, TINY)
            train(learner, source, tmp_path / name, updates=stop, checkpoint_every=10, log_every=10)
    a, b = load(tmp_path / "whole"), load(tmp_path / "halves")
    for p, q in zip(a.net.parameters(), b.net.parameters(), strict=True):
        assert torch.equal(p, q)
    obs = np.zeros((3, 2), np.float32)
    np.testing.assert_array_equal(a.act(obs, torch_rng(0)), learner.policy.act(obs, torch_rng(0)))
    assert isinstance(a, OneStepPolicy) and OneStepLearner.kind == "one_step"


def test_budgets_and_refusals():
    agent = Fisor(3, 1, replace(SMALL, budget=5.0))
    learner, source = one_step_from_log(states(), agent, TINY)
    assert torch.isfinite(learner.update(source.batch(0, 0), torch_rng(0))["loss"])
    assert learner.policy.act(with_budget(np.zeros((2, 2)), 1.0, 5.0), torch_rng(0)).shape == (2, 1)
    with pytest.raises(ShapeError, match="the log has 2 observations, the teacher 4"):
        one_step_from_log(states(), Fisor(4, 1, SMALL), TINY)
