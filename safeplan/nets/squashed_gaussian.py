"""A Gaussian policy whose actions pass through tanh."""

import math

import torch
from torch import Tensor, nn

from safeplan.nets.mlp import MLP

LOG_STD = (-20.0, 2.0)  # the bounds of the authors' code [sac]


class SquashedGaussian(nn.Module):
    """`a = tanh(mean(s) + std(s) noise)`, states `[B, S]`, actions `[B, A]` [sac]."""

    def __init__(self, obs_size: int, act_size: int, hidden: int = 256) -> None:
        super().__init__()
        self.net = MLP(obs_size, 2 * act_size, (hidden, hidden))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before tanh, `[B, A]` each."""
        mean, log_std = self.net(obs).chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD)

    def mode(self, obs: Tensor) -> Tensor:
        """The squashed mean, `[B, A]`."""
        return torch.tanh(self(obs)[0])

    def sample(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Actions for standard normal `noise [..., B, A]`; differentiable in the policy."""
        mean, log_std = self(obs)
        return torch.tanh(mean + log_std.exp() * noise)

    def log_prob(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Log density `[B]` of actions strictly inside (-1, 1)."""
        mean, log_std = self(obs)
        u = torch.atanh(actions)
        normal = -0.5 * ((u - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(u)^2) without cancellation
        slope = 2 * (math.log(2.0) - u - nn.functional.softplus(-2 * u))
        return (normal - slope).sum(-1)
