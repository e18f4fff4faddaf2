"""Trajectories from a diffusion model, steered at sampling by a learned value within the budget that is left."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from safeplan.baselines.offline.facts import Facts
from safeplan.baselines.offline.rival import Rival
from safeplan.baselines.offline.windows import sequence_columns
from safeplan.batches import WindowSource
from safeplan.data import Log, windows
from safeplan.diffusion import Cond, Denoiser, Pin, VPCosine, ddim, denoising_loss
from safeplan.guidance import Energy
from safeplan.nets import MLP, TemporalTransformer, ema_update
from safeplan.schema import in_range
from safeplan.types import Array


@dataclass(frozen=True)
class TrebiConfig:
    """Settings of our own: the paper's are those of another network."""

    batch: int = 128  # windows per update
    horizon: int = 16  # steps of a sample
    width: int = 64  # of the temporal transformer
    blocks: int = 3  # of the temporal transformer
    heads: int = 4  # of attention, in each block
    value_hidden: int = 256  # width of the two hidden layers of the value
    lr: float = 3e-4  # Adam, both networks
    ema_rate: float = 0.005  # of the denoiser that samples; larger at first
    steps: int = 10  # of sampling (DDIM)
    candidates: int = 4  # samples per state, of which the one of least energy is executed
    execute: int = 1  # actions executed before the next sample
    reward_weight: float = 10.0  # of the return to go in the energy, in largest returns of the log
    cost_weight: float = 50.0  # of the cost above the budget that is left, in largest costs of the log
    normalize: bool = True  # observations to zero mean and unit variance: the noise has it

    def __post_init__(self) -> None:
        in_range(
            self,
            "trebi",
            {
                "count": "batch horizon width blocks heads value_hidden steps candidates execute",
                "positive": "lr",
                "in (0, 1]": "ema_rate",
                "not negative": "reward_weight cost_weight",
            },
        )


class Budget(NamedTuple):
    """What is left of the limit, `[B]`; the rest of the last plan `[B, k, A]`."""

    left: Array
    plan: Array


class Trebi(Rival):
    """After TREBI [trebi]: trajectories of the log, tilted to p(tau) exp(w_r R - w_c max(C - budget left, 0)).

    What differs from the paper, whose code builds on Diffuser [diffuser]: a transformer denoises windows of
    (observation, action) instead of a U-Net; the value, return to go and cost to go of a whole window, is learned on
    clean windows and asked about the denoised estimate (the guidance core's `Energy`), not learned at every noise
    level; the cost enters through a soft wall at the budget; the first observation is pinned in training too, as in
    this package's other trajectory models; the best of a few samples is executed. As there: no condition, one model
    for every budget, and sampling anew as the budget is spent.
    """

    kind = "trebi"
    Settings = TrebiConfig
    acting = ("ema", "value")
    targets = {"ema": "net"}
    limited = False

    def build(self) -> dict[str, nn.Module]:
        c, size = self.settings, self.facts.obs_size + self.facts.act_size
        nets: dict[str, nn.Module] = {
            k: TemporalTransformer(size, c.horizon, None, c.width, c.blocks, c.heads) for k in ("net", "ema")
        }
        return nets | {"value": MLP(c.horizon * size, 2, (c.value_hidden, c.value_hidden))}

    def optimise(self) -> dict[str, torch.optim.Optimizer]:
        return self.adam(net=self.settings.lr, value=self.settings.lr)

    @classmethod
    def source(cls, log: Log, facts: Facts, settings: Any, device: str | torch.device) -> WindowSource:
        columns = sequence_columns(log, facts.return_scale, facts.cost_scale)
        starts = windows(log, settings.horizon)
        labels = {k: columns[k][torch.from_numpy(starts)] for k in ("to_return", "to_cost")}
        seen = {k: columns[k] for k in ("observations", "actions")}
        return WindowSource(seen, starts, settings.horizon, settings.batch, log.digest(), device, labels)

    def learn(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        x = torch.cat([self.encode(batch["observations"]), batch["actions"]], -1)
        loss = denoising_loss(self._denoiser("net"), x, self._pinned(x), generator=generator)
        found = {"loss_net": self.step("net", loss)}
        wanted = torch.stack([batch["to_return"], batch["to_cost"]], -1)
        found["loss_value"] = self.step("value", (self.values(x) - wanted).square().mean())
        ema_update(self.nets["ema"], self.nets["net"], max(self.settings.ema_rate, 1.0 / (self.updates + 2)))
        return found

    def values(self, x: Tensor) -> Tensor:
        """Return and cost to go `[B, 2]` from the start of windows `[B, H, S + A]`, over the log's largest."""
        return self.nets["value"](x.flatten(1))

    def energy(self, x: Tensor, left: Tensor) -> Tensor:
        """`[B]`: cost to go above `left [B]` (over the log's largest cost; inf: any), less return to go, weighted."""
        to_return, to_cost = self.values(x).unbind(-1)
        over = torch.relu(to_cost - left)
        return self.settings.cost_weight * over - self.settings.reward_weight * to_return

    def sample(self, obs: Tensor, left: Tensor, generator: torch.Generator) -> Tensor:
        """One window `[B, H, S + A]` per encoded observation `[B, S]`, guided within `left [B]`."""
        c = self.settings
        shape = (len(obs), c.horizon, self.facts.obs_size + self.facts.act_size)
        first = torch.nn.functional.pad(obs[:, None], (0, self.facts.act_size, 0, c.horizon - 1))
        chain = (Energy(lambda x: self.energy(x, left), metric="scalar", proximal=False),)
        noise = self.normal(shape, generator)
        return ddim(self._denoiser("ema"), noise, VPCosine().grid(c.steps), self._pinned(first), chain)

    def plan(self, obs: Tensor, left: Tensor, generator: torch.Generator) -> Tensor:
        """Actions `[B, H, A]` of the best of `candidates` samples."""
        n = self.settings.candidates
        many, budgets = obs.repeat_interleave(n, 0), left.repeat_interleave(n, 0)
        x = self.sample(many, budgets, generator)
        best = self.energy(x, budgets).reshape(-1, n).argmin(-1)
        index = torch.arange(len(obs), device=obs.device) * n + best
        return x[index][..., self.facts.obs_size :].clamp(-1.0, 1.0)

    def _denoiser(self, name: str) -> Denoiser:
        return Denoiser(self.nets[name], VPCosine(), "x0")

    def _pinned(self, x: Tensor) -> Cond:
        """No condition; the first observation of `x [B, H, S + A]` is pinned."""
        mask = torch.zeros(1, *x.shape[1:], dtype=torch.bool, device=x.device)
        mask[:, 0, : self.facts.obs_size] = True
        return Cond({}, {}, Pin(mask, x))

    # ---------------------------------------------------------------- acting
    def start(self, episodes: int, limit: float) -> Budget:
        return Budget(np.full(episodes, limit, np.float64), np.zeros((episodes, 0, self.facts.act_size), np.float32))

    def act(self, obs: Any, state: Budget, generator: torch.Generator) -> tuple[Array, Budget]:
        seen, plan = self.encode(self.observed(obs)), state.plan
        if not plan.shape[1]:
            left = torch.as_tensor(state.left / self.facts.cost_scale, dtype=torch.float32, device=self.device)
            with torch.no_grad():
                whole = self.plan(seen, left.clamp_min(0.0), generator)
            plan = whole[:, : min(self.settings.execute, self.settings.horizon)].cpu().numpy()
        return plan[:, 0], state._replace(plan=plan[:, 1:])

    def record(self, state: Budget, rewards: Array, costs: Array) -> Budget:
        return state._replace(left=state.left - costs)
