"""CDT, the constrained decision transformer: actions from the past and from what is still to earn and to spend."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from safeplan.baselines.offline.cdt_net import CdtNet
from safeplan.baselines.offline.facts import Facts
from safeplan.baselines.offline.relabel import relabelled
from safeplan.baselines.offline.rival import Rival
from safeplan.baselines.offline.windows import padded, sequence_columns
from safeplan.batches import WindowSource
from safeplan.data import Log
from safeplan.errors import ConfigError
from safeplan.feasibility.networks import set_seed
from safeplan.schema import in_range
from safeplan.types import Array


@dataclass(frozen=True)
class CdtConfig:
    """As the defaults of the DSRL benchmark's code [dsrl]; the share of relabelled episodes differs by task there."""

    batch: int = 2048  # windows per update
    context: int = 10  # steps that the transformer sees
    width: int = 128  # of the transformer; a multiple of heads
    blocks: int = 3  # of the transformer
    heads: int = 8  # of attention, in each block
    dropout: float = 0.1
    lr: float = 1e-4  # AdamW
    weight_decay: float = 1e-4
    warmup: int = 500  # updates until lr is reached
    clip_grad: float = 0.25  # largest norm of the gradient
    temperature: float = 0.1  # first weight of the entropy; it follows the target -A
    temperature_lr: float = 1e-4  # Adam
    cost_weight: float = 0.02  # of guessing whether a step costs
    augment: float = 0.2  # relabelled episodes, as a share of the log's
    normalize: bool = False  # observations to zero mean and unit variance (not in that code)

    def __post_init__(self) -> None:
        in_range(
            self,
            "cdt",
            {
                "count": "batch context width blocks heads",
                "count or 0": "warmup",
                "in [0, 1)": "dropout",
                "positive": "lr clip_grad temperature",
                "not negative": "weight_decay temperature_lr cost_weight augment",
            },
        )
        if self.width % self.heads:
            raise ConfigError(f"cdt.width is {self.width}, expected a multiple of heads ({self.heads})")


class Memory(NamedTuple):
    """The last steps of B episodes, k of them, oldest first, and what is still to earn and to spend, `[B]`."""

    obs: Tensor
    actions: Tensor
    to_return: Tensor
    to_cost: Tensor
    step: int
    earn: Array
    spend: Array


class Cdt(Rival):
    """A causal transformer over (return to go, cost to go, observation, action) with a Gaussian head [cdt].

    After the decision transformer [decision_transformer]. One policy serves every limit: the cost to go starts at the
    limit, or at the log's largest cost where that is less, and the return to go at the best return that the log has
    within the limit; both count down, the cost to 0 at least. Acting takes the mean. Both numbers enter over the
    largest of the log, where the benchmark's code takes 50 minus the cost and a tenth of the return.
    """

    kind = "cdt"
    Settings = CdtConfig
    acting = ("policy",)
    limited = False

    def build(self) -> dict[str, nn.Module]:
        c, f = self.settings, self.facts
        self.policy = CdtNet(f.obs_size, f.act_size, f.longest, c.width, c.blocks, c.heads, c.dropout)
        self.temperature = Temperature(c.temperature)
        return {"policy": self.policy, "temperature": self.temperature}

    def optimise(self) -> dict[str, torch.optim.Optimizer]:
        c = self.settings
        policy = torch.optim.AdamW(self.policy.parameters(), lr=c.lr, weight_decay=c.weight_decay, fused=True)
        return {"policy": policy, **self.adam(temperature=c.temperature_lr)}

    @classmethod
    def source(cls, log: Log, facts: Facts, settings: Any, device: str | torch.device) -> WindowSource:
        k = settings.context
        columns = padded(sequence_columns(log, facts.return_scale, facts.cost_scale), k - 1)
        starts, raised = relabelled(log, facts, settings.augment)
        return WindowSource(columns, starts, k, settings.batch, log.digest(), device, raised)

    def learn(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        c, actions = self.settings, batch["actions"]
        alive = batch["episode"] == batch["episode"][:, :1]
        returns = batch["to_return"] + batch["raise_return"][:, None]
        costs = batch["to_cost"] + batch["raise_cost"][:, None]
        self.policy.train()
        dropout = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            set_seed(dropout, self.device)
            obs = self.encode(batch["observations"])
            mean, log_std, spends = self.policy(returns, costs, obs, actions, batch["time"])
        normal = torch.distributions.Normal(mean[alive], log_std[alive].exp())
        likelihood, entropy = normal.log_prob(actions[alive]).sum(-1).mean(), normal.entropy().sum(-1).mean()
        guess = nn.functional.binary_cross_entropy_with_logits(spends[alive], (batch["costs"][alive] > 0).float())
        loss = -(likelihood + self.temperature().detach() * entropy) + c.cost_weight * guess
        optimiser = self.optimisers["policy"]
        optimiser.param_groups[0]["lr"] = c.lr * min(1.0, (self.updates + 1) / max(c.warmup, 1))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), c.clip_grad)
        optimiser.step()
        self.step("temperature", self.temperature() * (entropy.detach() + self.facts.act_size))
        return {"likelihood": likelihood.detach(), "entropy": entropy.detach(), "loss_cost": guess.detach()} | {
            "grad_norm": norm.detach(),
            "temperature": self.temperature().detach(),
        }

    # ---------------------------------------------------------------- acting
    def start(self, episodes: int, limit: float) -> Memory:
        """Raises DataError when the log has no episode within `limit`."""
        f = self.facts
        _, best = f.best_within(limit)
        earn, spend = best / f.return_scale, min(limit, f.cost_scale) / f.cost_scale
        none = torch.zeros(episodes, 0, device=self.device)
        sizes = (f.obs_size, f.act_size)
        obs, actions = (torch.zeros(episodes, 0, n, device=self.device) for n in sizes)
        return Memory(obs, actions, none, none, 0, np.full(episodes, earn), np.full(episodes, spend))

    def act(self, obs: Any, state: Memory, generator: torch.Generator) -> tuple[Array, Memory]:
        seen = self.encode(self.observed(obs))
        earn, spend = (torch.as_tensor(v, dtype=torch.float32, device=self.device) for v in (state.earn, state.spend))
        to_return, to_cost = self._extended(state.to_return, earn), self._extended(state.to_cost, spend)
        past = self._extended(state.obs, seen)
        actions = self._extended(state.actions, seen.new_zeros(len(seen), self.facts.act_size))
        k = past.shape[1]
        times = torch.arange(state.step - k + 1, state.step + 1, device=self.device).expand(len(seen), k)
        self.policy.eval()
        with torch.no_grad():
            mean = self.policy(to_return, to_cost, past, actions, times)[0][:, -1].clamp(-1.0, 1.0)
        actions = torch.cat([actions[:, :-1], mean[:, None]], 1)
        after = Memory(past, actions, to_return, to_cost, state.step + 1, state.earn, state.spend)
        return mean.cpu().numpy(), after

    def _extended(self, past: Tensor, now: Tensor) -> Tensor:
        """`past [B, k, ...]` and one step more, `now [B, ...]`, of which the last `context` are kept."""
        return torch.cat([past, now[:, None]], 1)[:, -self.settings.context :]

    def record(self, state: Memory, rewards: Array, costs: Array) -> Memory:
        earn = state.earn - np.asarray(rewards) / self.facts.return_scale
        spend = np.maximum(state.spend - np.asarray(costs) / self.facts.cost_scale, 0.0)
        return state._replace(earn=earn, spend=spend)


class Temperature(nn.Module):
    """A weight above 0 that is learned."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(float(start)).log())

    def forward(self) -> Tensor:
        return self.log.exp()
