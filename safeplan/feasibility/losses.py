"""FISOR's losses as pure functions of tensors. All per-row arguments are `[B]` and broadcast against `[2, B]`."""

import torch
from torch import Tensor


def relabel(costs: Tensor, violating: float = 25.0, satisfying: float = -1.0) -> Tensor:
    """Constraint violation h: `violating` where cost > 0, else `satisfying`, `[N]`."""
    return torch.where(costs > 0, violating, satisfying).to(torch.float32)


def expectile(u: Tensor, tau: float) -> Tensor:
    """`|tau - 1[u <= 0]| u^2`: minimised by the tau-expectile, the maximum as tau -> 1 [iql, eq. 5]."""
    return torch.where(u > 0, tau, 1.0 - tau) * u.square()


def reversed_expectile(u: Tensor, tau: float) -> Tensor:
    """`|tau - 1[u >= 0]| u^2`: tends to the minimum as tau -> 1 [fisor, eq. 9]."""
    return torch.where(u < 0, tau, 1.0 - tau) * u.square()


def bellman(reward: Tensor, mask: Tensor, v_next: Tensor, gamma: float) -> Tensor:
    """`r + gamma mask V(s')`; mask is 0 where the episode ended."""
    return reward + gamma * mask * v_next


def feasible_bellman(h: Tensor, mask: Tensor, vh_next: Tensor, gamma: float) -> Tensor:
    """Discounted Hamilton-Jacobi operator `(1 - gamma) h + gamma max(h, V_h(s'))`; `h` at an end [fisor, eq. 4]."""
    return mask * ((1.0 - gamma) * h + gamma * torch.maximum(h, vh_next)) + (1.0 - mask) * h


def policy_weights(
    v: Tensor,
    q: Tensor,
    v_h: Tensor,
    q_h: Tensor,
    *,
    cost_temperature: float = 5.0,
    reward_temperature: float = 3.0,
    cost_clip_low: float = 0.0,
    cost_clip: float = 150.0,
    reward_clip: float = 100.0,
) -> Tensor:
    """Feasibility-dependent weights `[B]` of the actor's regression [fisor, eq. 14].

    Infeasible state: least violation, `clip(exp(T_c (V_h - Q_h)))`. Feasible state and action: best reward,
    `clip(exp(T_r (Q - V)))`. Feasible state, infeasible action: 0.
    """
    escape = (cost_temperature * (v_h - q_h)).exp().clamp(cost_clip_low, cost_clip)
    improve = (reward_temperature * (q - v)).exp().clamp(0.0, reward_clip)
    return torch.where(v_h > 0, escape, torch.where(q_h <= 0, improve, 0.0))
