"""FISOR's losses as pure functions of tensors. All per-row arguments are `[B]` and broadcast against `[2, B]`."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def relabel(costs: Tensor, violating: float = 25.0, satisfying: float = -1.0) -> Tensor:
    """Constraint violation h: `violating` where cost > 0, else `satisfying`, `[N]`."""
    return torch.where(costs > 0, violating, satisfying).to(torch.float32)


def expectile(u: Tensor, tau: float | Tensor) -> Tensor:
    """`|tau - 1[u <= 0]| u^2`: minimised by the tau-expectile, the maximum as tau -> 1 [iql, eq. 5]."""
    return torch.where(u > 0, tau, 1.0 - tau) * u.square()


def reversed_expectile(u: Tensor, tau: float) -> Tensor:
    """`|tau - 1[u >= 0]| u^2`: tends to the minimum as tau -> 1 [fisor, eq. 9]."""
    return torch.where(u < 0, tau, 1.0 - tau) * u.square()


def divergence(share: Tensor, logits: Tensor) -> Tensor:
    """KL(share || sigmoid(logits)) of Bernoulli laws: 0 where they agree, least at the mean share, as squares are."""
    share = share.clamp(0.0, 1.0)  # a rounding may lie outside
    entropy = -torch.xlogy(share, share) - torch.xlogy(1.0 - share, 1.0 - share)
    share, logits = torch.broadcast_tensors(share, logits)
    return binary_cross_entropy_with_logits(logits, share, reduction="none") - entropy


def reversed_expectile_divergence(share: Tensor, logits: Tensor, tau: float) -> Tensor:
    """`divergence` weighted as `reversed_expectile` with u = share - sigmoid(logits): least at the same estimate.

    Its gradient in the logits is `-|tau - 1[u >= 0]| u`, half of that of `reversed_expectile` in the estimate.
    """
    u = share - logits.detach().sigmoid()
    return torch.where(u < 0, tau, 1.0 - tau) * divergence(share, logits)


def reward_rows(v_h: Tensor, q_h: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Weight and expectile `[B]` of the rows that V learns from, where it is to be the value of the extracted policy.

    In a feasible state that policy takes feasible actions alone, the best of them: other actions have weight 0. In an
    infeasible one it flees and does not look at rewards, so V is the mean of what the log has there.
    """
    feasible = v_h <= 0
    return torch.where(feasible & (q_h > 0), 0.0, 1.0), torch.where(feasible, tau, 0.5)


def bellman(reward: Tensor, mask: Tensor, v_next: Tensor, gamma: float) -> Tensor:
    """`r + gamma mask V(s')`; mask is 0 where the episode ended."""
    return reward + gamma * mask * v_next


def feasible_bellman(h: Tensor, mask: Tensor, vh_next: Tensor, gamma: float) -> Tensor:
    """Discounted Hamilton-Jacobi operator `(1 - gamma) h + gamma max(h, V_h(s'))`; `h` at an end [fisor, eq. 4]."""
    return mask * ((1.0 - gamma) * h + gamma * torch.maximum(h, vh_next)) + (1.0 - mask) * h


def recovery_bellman(share_next: Tensor, mask: Tensor, recovery: float, least: float = 0.5) -> Tensor:
    """Where a constraint is violated now: a share, from `least` to 1, of the range of h that says for how long.

    `feasible_bellman` gives such states one value whatever is done next. Here it is `least + (1 - least) w`, where w is
    `1 - recovery^k` with k violated steps left, this one among them; 1 where the episode ends in violation.
    """
    w = mask * ((share_next - least) / (1.0 - least)).clamp_min(0.0) + (1.0 - mask)
    return least + (1.0 - least) * (1.0 - recovery + recovery * w)


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
