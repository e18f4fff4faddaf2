"""FISOR's losses against numbers by hand, their limits, and a chain whose feasible set is known."""

import math

import pytest
import torch

from safeplan.errors import ConfigError
from safeplan.feasibility import select
from safeplan.feasibility.losses import (
    bellman,
    divergence,
    expectile,
    feasible_bellman,
    policy_weights,
    recovery_bellman,
    relabel,
    reversed_expectile,
    reversed_expectile_divergence,
    reward_rows,
)

U = torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0])


def test_expectiles_by_hand():
    torch.testing.assert_close(expectile(U, 0.9), torch.tensor([0.4, 0.1, 0.0, 0.9, 8.1]))
    torch.testing.assert_close(reversed_expectile(U, 0.9), torch.tensor([3.6, 0.9, 0.0, 0.1, 0.9]))


def test_expectile_limits():
    torch.testing.assert_close(expectile(U, 0.5), 0.5 * U.square())
    torch.testing.assert_close(reversed_expectile(U, 0.5), 0.5 * U.square())
    torch.testing.assert_close(reversed_expectile(U, 0.8), expectile(-U, 0.8))  # mirror images


@pytest.mark.parametrize(("loss", "limit"), [(expectile, 5.0), (reversed_expectile, -3.0)])
def test_minimiser_tends_to_the_extreme(loss, limit):
    samples, grid = torch.tensor([-3.0, 0.0, 1.0, 5.0]), torch.linspace(-4, 6, 2001)
    found = [float(grid[loss(samples - grid[:, None], tau).mean(-1).argmin()]) for tau in (0.5, 0.9, 0.999)]
    assert found[0] == pytest.approx(0.75, abs=0.01)  # tau = 1/2 is the mean
    assert abs(found[0] - limit) > abs(found[1] - limit) > abs(found[2] - limit)
    assert found[2] == pytest.approx(limit, abs=0.05)


@pytest.mark.parametrize("tau", [0.5, 0.9])
def test_divergence_is_least_where_the_squares_are(tau):
    """Same estimate, found on a grid; and half the gradient, at estimates that are not the least."""
    shares, logits = torch.tensor([0.0, 0.04, 0.3, 1.0]), torch.linspace(-6, 3, 4001)
    loss = reversed_expectile_divergence(shares, logits[:, None], tau).mean(-1)
    squares = reversed_expectile(shares - logits[:, None].sigmoid(), tau).mean(-1)
    assert abs(int(loss.argmin()) - int(squares.argmin())) <= 1
    z = torch.tensor([-2.0, 0.5, 4.0], requires_grad=True)
    p = z.detach().sigmoid().requires_grad_()
    share = torch.tensor([0.2, 0.1, 1.0])
    reversed_expectile_divergence(share, z, tau).sum().backward()
    reversed_expectile(share - p, tau).sum().backward()
    torch.testing.assert_close(z.grad, 0.5 * p.grad)
    assert divergence(share[:2], share[:2].logit()).abs().max() < 1e-6
    torch.testing.assert_close(reversed_expectile_divergence(share, z, 0.5), 0.5 * divergence(share, z))


def test_rows_of_the_reward_value():
    """Feasible state: feasible actions alone, towards the best. Infeasible: all, towards the mean."""
    v_h, q_h = torch.tensor([-1.0, -1.0, 2.0, 2.0]), torch.tensor([-0.5, 0.5, -0.5, 3.0])
    weight, tau = reward_rows(v_h, q_h, 0.7)
    assert weight.tolist() == [1.0, 0.0, 1.0, 1.0]
    torch.testing.assert_close(tau, torch.tensor([0.7, 0.7, 0.5, 0.5]))


def test_bellman_by_hand():
    h, mask = torch.tensor([25.0, -1.0, -1.0, 25.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    vh = torch.tensor([3.0, 3.0, -0.5, -7.0])
    torch.testing.assert_close(
        feasible_bellman(h, mask, vh, 0.9), torch.tensor([25.0, 0.1 * -1 + 0.9 * 3, 0.1 * -1 + 0.9 * -0.5, 25.0])
    )
    reward, mask, v_next = torch.ones(2), torch.tensor([1.0, 0.0]), torch.full((2,), 10.0)
    torch.testing.assert_close(bellman(reward, mask, v_next, 0.9), torch.tensor([10.0, 1.0]))
    assert relabel(torch.tensor([0.0, 0.3, 1.0])).tolist() == [-1.0, 25.0, 25.0]


def test_violations_are_told_apart_by_how_long_they_last():
    """A walk out of the violation: w is 1 - recovery^k with k steps left; and 1 where there is no way out."""
    mask, share = torch.ones(1), torch.tensor([0.03])  # what follows the last violated step is feasible
    for k in range(1, 7):
        share = recovery_bellman(share, mask, 0.9)
        torch.testing.assert_close(share, torch.tensor([0.5 + 0.5 * (1.0 - 0.9**k)]))
    stuck = torch.tensor([0.5])
    for _ in range(300):
        stuck = recovery_bellman(stuck, mask, 0.9)
    assert float(stuck) == pytest.approx(1.0)
    assert float(recovery_bellman(torch.tensor([0.0]), 0 * mask, 0.9)) == 1.0  # the episode ended in it
    assert (
        recovery_bellman(torch.linspace(0, 1, 11), torch.ones(11), 0.97) >= 0.5
    ).all()  # infeasible whatever follows


def test_chain_has_the_known_feasible_set():
    """States 0 (free), 1 (brink), 2 (violated). Action 0 steps left, action 1 right; from 1 on there is only right.

    So 0 is feasible and 1, 2 are not: iterating the operator must give exactly these signs, for any start.
    """
    h = torch.tensor([-1.0, -1.0, 25.0], dtype=torch.float64)
    after = torch.tensor([[0, 1], [2, 2], [2, 2]])
    gamma, values = 0.99, []
    for start in (-50.0, 50.0):
        v = torch.full((3,), start, dtype=torch.float64)
        for _ in range(2000):
            q = feasible_bellman(h[:, None], torch.ones(3, 2, dtype=torch.float64), v[after], gamma)
            v = q.amin(-1)
        values.append(v)
    torch.testing.assert_close(values[0], values[1], atol=1e-4, rtol=1e-4)  # a contraction: one fixed point
    assert ((v > 0) == torch.tensor([False, True, True])).all()
    assert v[0] == pytest.approx(-1.0, abs=1e-4) and v[2] == pytest.approx(25.0, abs=1e-4)
    assert v[1] == pytest.approx(0.01 * -1 + 0.99 * 25.0, abs=1e-3)
    assert (q[0] > 0).tolist() == [False, True]  # the feasible state's infeasible action


def test_weights_table():
    #                  infeasible state   feasible both   feasible state, bad action   clips
    v_h = torch.tensor([1.0, 1.0, -0.5, -0.5, 9.0, -0.5, 0.0])
    q_h = torch.tensor([0.5, 1.5, -0.1, 0.1, -9.0, -0.1, 0.0])
    v = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 2.0])
    q = torch.tensor([9.0, 9.0, 1.5, 9.0, 0.0, 9.0, 2.0])
    want = [math.exp(2.5), math.exp(-2.5), math.exp(1.5), 0.0, 150.0, 100.0, 1.0]
    torch.testing.assert_close(policy_weights(v, q, v_h, q_h), torch.tensor(want))
    clipped = policy_weights(v, q, v_h, q_h, cost_clip_low=1.0)
    assert clipped[1] == 1.0 and clipped[3] == 0.0


def test_selection():
    q_h = torch.tensor([[-1.0, -2.0, 3.0], [1.0, 0.5, 2.0]])
    q = torch.tensor([[5.0, 1.0, 9.0], [0.0, 1.0, 2.0]])
    assert select(q_h, q).tolist() == [1, 1]
    assert select(q_h, q, "maxq").tolist() == [2, 2]
    assert select(q_h, q, "maxq_feasible").tolist() == [0, 1]  # no feasible one in row 1: least violation
    with pytest.raises(ConfigError, match="minqc"):
        select(q_h, q, "best")
