"""Chains steer FISOR's actions: the same objects, told by its critics what is feasible and what is worth it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from safeplan.errors import CapabilityError
from safeplan.feasibility import Fisor, FisorConfig, columns
from safeplan.guidance import CFG, Barrier, Energy
from safeplan.rng import torch_rng
from tests.feasibility.test_agent import SMALL, line_log

BRINK = np.full((400, 1), 0.2, np.float32)  # full speed to the right ends beyond 0.4, where the wind wins


@pytest.fixture(scope="module")
def agent() -> Fisor:
    """Critics that know the line, and an actor that imitates all of its log."""
    fast = {"gamma": 0.9, "target_rate": 0.05, "lr": 3e-3, "ema_rate": 0.02}
    config: FisorConfig = replace(
        SMALL, **fast, batch=256, critic_rows=256, hidden=32, violation="column", feasibility_loss="squared",
        scale_rewards=False, cost_temperature=0.0, reward_temperature=0.0,
    )  # fmt: skip
    data = columns(line_log(), config)
    agent = Fisor(1, 1, config)
    for i in range(300):
        rows = torch.randint(4000, (256,), generator=torch_rng(0, "batch", i))
        agent.update({k: v[rows] for k, v in data.items()}, torch_rng(0, "update", i))
    return agent


def unsafe(agent: Fisor, chain=()) -> float:
    """Share of single actions, unselected, that Q_h calls infeasible."""
    return float((agent.q_h(BRINK, agent.sample(BRINK, torch_rng(1, "act"), chain=chain)) > 0.02).mean())


def test_a_barrier_on_q_h_keeps_actions_feasible(agent):
    plain = unsafe(agent)
    kept = unsafe(agent, lambda c: [Barrier(lambda a: -c.q_h(a), metric="identity", iterations=3)])
    assert plain > 0.1, "an actor that imitates everything goes over the brink"
    assert kept < 0.3 * plain


def test_an_energy_on_q_earns_more(agent):
    """Rewards are the actions themselves here."""
    safe = np.zeros((400, 1), np.float32)
    plain = agent.sample(safe, torch_rng(1, "act"))
    earning = agent.sample(
        safe, torch_rng(1, "act"), chain=lambda c: [Energy(lambda a: -c.q(a), 2.0, metric="identity", proximal=False)]
    )
    assert earning.mean() > plain.mean() + 0.1 and np.abs(earning).max() <= 1


def test_an_empty_chain_changes_nothing_and_the_choice_takes_one_too(agent):
    seen = []

    def chain(c):
        return [Barrier(lambda a: (seen.append(len(a)), -c.q_h(a))[1], metric="identity")]

    a, b = (agent.act(BRINK[:8], torch_rng(2, "act"), chain=c) for c in ((), []))
    assert (a == b).all()
    late = np.full((8, 1), 0.3, np.float32)  # only full speed back is feasible, and the actor does not go that fast
    plain, steered = (agent.act(late, torch_rng(2, "act"), chain=c) for c in ((), chain))
    assert set(seen) == {8 * SMALL.candidates}, "all candidates of all states are steered"
    assert agent.q_h(late, steered).mean() < agent.q_h(late, plain).mean() - 0.02


def test_what_the_actor_was_not_trained_for_is_refused(agent):
    with pytest.raises(CapabilityError, match="null"):
        agent.sample(BRINK, torch_rng(0, "act"), chain=(CFG(2.0),))
