"""COptiDICE: weights that turn a log's distribution into that of the best policy within a cost limit, then cloning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from safeplan.baselines.offline.facts import Facts, threshold
from safeplan.baselines.offline.multiplier import AscentMultiplier
from safeplan.baselines.offline.rival import Rival, transitions
from safeplan.baselines.offline.values import value
from safeplan.batches import TransitionSource
from safeplan.data import Log
from safeplan.nets import MLP, SquashedGaussian
from safeplan.schema import in_range


@dataclass(frozen=True)
class CoptidiceConfig:
    """As the DSRL benchmark's code has them [dsrl], but for the multiplier: see `multiplier_lr`."""

    batch: int = 512  # rows per update
    gamma: float = 0.99  # discount of rewards and costs
    reward_scale: float = 0.1  # rewards are multiplied by it
    actor_lr: float = 1e-4  # Adam
    critic_lr: float = 1e-4  # of nu, chi and tau
    multiplier_lr: float = 1e-2  # projected ascent: reaches 0; their Adam at 1e-4 takes some 10^4 updates per unit
    multiplier_start: float = 1.0  # where the multiplier begins; 0 without a limit
    hidden: int = 256  # width of the two hidden layers of all networks
    alpha: float = 0.5  # weight of the divergence from the log: larger stays closer to it
    cost_slack: float = 0.01  # KL radius in which the cost is estimated at its worst; 0: the plain estimate
    normalize: bool = False  # observations to zero mean and unit variance (not in that code)

    def __post_init__(self) -> None:
        in_range(
            self,
            "coptidice",
            {
                "count": "batch hidden",
                "inside (0, 1)": "gamma",
                "positive": "reward_scale actor_lr critic_lr multiplier_lr alpha",
                "not negative": "multiplier_start cost_slack",
            },
        )


class Coptidice(Rival):
    """Dual of: most reward minus `alpha` times the soft-chi-square divergence from the log, E[w c] within the limit.

    The multiplier follows the upper estimate of E[w c] [coptidice]. That is a cost per step of the
    discounted visits, so its limit is (1 - gamma) `threshold`; the benchmark's code compares it with `threshold`
    itself, which is 1 / (1 - gamma) times as much. One nu and one chi network, as in the paper (the benchmark's code:
    the smaller of two). First states are drawn beside each row, not looked for in the batch, where they are rare.
    """

    kind = "coptidice"
    Settings = CoptidiceConfig
    acting = ("actor",)

    def build(self) -> dict[str, nn.Module]:
        c, s = self.settings, self.facts.obs_size
        unlimited = self.facts.limit is None
        self.actor = SquashedGaussian(s, self.facts.act_size, c.hidden)
        self.multiplier = AscentMultiplier(c.multiplier_lr, start=0.0 if unlimited else c.multiplier_start)
        self.bound = CostBound(s, c.hidden)
        nu = MLP(s, 1, (c.hidden, c.hidden))
        return {"actor": self.actor, "multiplier": self.multiplier, "bound": self.bound, "nu": nu}

    def optimise(self) -> dict[str, torch.optim.Optimizer]:
        c = self.settings
        return self.adam(actor=c.actor_lr, nu=c.critic_lr, bound=c.critic_lr)

    @property
    def step_limit(self) -> float:
        """Cost per step of the discounted visits that the policy may expect."""
        gamma = self.settings.gamma
        return (1 - gamma) * threshold(self.facts.cost_limit, gamma, self.facts.longest)

    @classmethod
    def source(cls, log: Log, facts: Facts, settings: Any, device: str | torch.device) -> TransitionSource:
        # visits must flow out at time-outs too: a last state that no row starts from leaves the dual without a bottom
        columns = transitions(log, settings.reward_scale, beyond_timeouts=False)
        first = log.episodes[np.arange(len(log)) % len(log.episodes), 0]  # uniform over episodes, as rows are drawn
        columns["initial"] = torch.from_numpy(log.observations[first])
        return TransitionSource(columns, settings.batch, log.digest(), device)

    def learn(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        c, masks, costs = self.settings, batch["masks"], batch["costs"]
        obs, after = self.encode(batch["observations"]), self.encode(batch["next_observations"])
        initial = self.encode(batch["initial"])
        rewards = batch["rewards"] - self.multiplier.value * costs
        nu = self.nets["nu"]
        e = advantage(rewards, value(nu, obs), value(nu, after), masks, c.gamma)
        found = {"loss_nu": self.step("nu", (1 - c.gamma) * value(nu, initial).mean() + conjugate(e, c.alpha).mean())}
        with torch.no_grad():
            w = weights(advantage(rewards, value(nu, obs), value(nu, after), masks, c.gamma), c.alpha)
        cost = (w * costs).mean()
        if c.cost_slack > 0:
            loss, tilt = self.bound(initial, obs, after, masks, costs, w, c.gamma, c.cost_slack)
            found["loss_bound"] = self.step("bound", loss)
            cost = (tilt * w * costs).mean()
        weight = self.multiplier.step(cost - self.step_limit)
        found["loss_actor"] = self.step("actor", -(w * self.actor.log_prob(obs, batch["actions"])).mean())
        return found | {"cost": cost, "multiplier": weight, "weight": w.mean()}

    def choose(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        return self.actor.mode(obs)


class CostBound(nn.Module):
    """The largest cost among distributions within a KL radius of the weighted batch, as its dual in chi and tau."""

    def __init__(self, obs_size: int, hidden: int) -> None:
        super().__init__()
        self.chi = MLP(obs_size, 1, (hidden, hidden))
        self.log_tau = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        initial: Tensor,
        obs: Tensor,
        after: Tensor,
        masks: Tensor,
        costs: Tensor,
        w: Tensor,
        gamma: float,
        slack: float,
    ) -> tuple[Tensor, Tensor]:
        """The dual, to be minimised (0-d), and the weights `[B]`, of mean 1, that attain it."""
        ell = (1 - gamma) * value(self.chi, initial)
        ell = ell + w * advantage(costs, value(self.chi, obs), value(self.chi, after), masks, gamma)
        tau = self.log_tau.exp()
        dual = tau * (torch.logsumexp(ell / tau, 0) - np.log(len(ell)) + slack)
        return dual, torch.softmax(ell.detach() / tau.detach(), 0) * len(ell)


def advantage(rewards: Tensor, now: Tensor, after: Tensor, masks: Tensor, gamma: float) -> Tensor:
    """`r + gamma mask nu(s') - nu(s)`, `[B]`."""
    return rewards + gamma * masks * after - now


def weights(e: Tensor, alpha: float) -> Tensor:
    """w `[B]` that maximises `w e - alpha f(w)` for the soft chi-square f: exp(x) below x = e / alpha = 0, x + 1 above.

    f(w) = w log w - w + 1 below 1, (w - 1)^2 / 2 above.
    """
    x = e / alpha
    return torch.where(x < 0, x.clamp_max(0).exp(), x + 1)


def conjugate(e: Tensor, alpha: float) -> Tensor:
    """The maximum itself, `[B]`: its slope in e is `weights`."""
    x = e / alpha
    return alpha * torch.where(x < 0, x.clamp_max(0).exp() - 1, x + 0.5 * x.square())
