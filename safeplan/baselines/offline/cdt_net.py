"""The network of the constrained decision transformer."""

import torch
from torch import Tensor, nn

from safeplan.nets import CausalTransformer
from safeplan.nets.causal_transformer import small

TOKENS = 4  # per step: return to go, cost to go, observation, action
LOG_STD = (-5.0, 2.0)  # of the head; the bounds of the benchmark's code


class CdtNet(nn.Module):
    """Guesses of actions from the observation's token, of costs from the action's [cdt].

    Args:
        longest: steps of the longest episode; later steps count as its last.
    """

    def __init__(
        self, obs_size: int, act_size: int, longest: int, width: int, blocks: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.longest = longest
        self.of_return, self.of_cost = nn.Linear(1, width), nn.Linear(1, width)
        self.of_obs, self.of_action = nn.Linear(obs_size, width), nn.Linear(act_size, width)
        self.of_time = nn.Embedding(longest, width)
        self.action_head, self.cost_head = nn.Linear(width, 2 * act_size), nn.Linear(width, 1)
        self.apply(small)
        self.body = CausalTransformer(width, blocks, heads, dropout)

    def forward(
        self, to_return: Tensor, to_cost: Tensor, obs: Tensor, actions: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log std of the action `[B, K, A]`, logits of a cost `[B, K]`; what step k says knows steps 0 .. k.

        Args:
            to_return, to_cost: `[B, K]`. obs: `[B, K, S]`. actions: `[B, K, A]`. time: `[B, K]`, whole steps.
        """
        when = self.of_time(time.clamp(0, self.longest - 1))
        parts = (
            self.of_return(to_return[..., None]),
            self.of_cost(to_cost[..., None]),
            self.of_obs(obs),
            self.of_action(actions),
        )
        tokens = torch.stack([p + when for p in parts], 2).flatten(1, 2)
        out = self.body(tokens).unflatten(1, (-1, TOKENS))
        mean, log_std = self.action_head(out[:, :, 2]).chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD), self.cost_head(out[:, :, 3]).squeeze(-1)
