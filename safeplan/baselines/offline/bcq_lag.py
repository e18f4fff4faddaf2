"""BCQ-Lag: batch-constrained Q-learning with a Lagrangian for the cost limit."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safeplan.baselines.offline.facts import threshold
from safeplan.baselines.offline.multiplier import PidMultiplier
from safeplan.baselines.offline.rival import Rival
from safeplan.baselines.offline.values import heads, soft_lower, twin_loss
from safeplan.feasibility.losses import bellman
from safeplan.nets import CVAE, MLP, EnsembleMLP
from safeplan.schema import in_range

LATENT_CUT = 0.5  # latents are drawn from a normal cut here: the likely actions [bcq]


@dataclass(frozen=True)
class BcqLagConfig:
    """As the DSRL benchmark's code has them [dsrl]; `candidates` when acting is from memory of [bcq]'s code."""

    batch: int = 512  # rows per update
    gamma: float = 0.99  # discount of both critics
    reward_scale: float = 0.1  # rewards are multiplied by it
    target_rate: float = 0.005  # Polyak step of the targets
    actor_lr: float = 1e-3  # Adam, of the perturbation
    critic_lr: float = 1e-3  # Adam, of both critics
    cvae_lr: float = 1e-3  # Adam, of the CVAE that proposes actions
    hidden: int = 256  # width of the two hidden layers of critics and perturbation
    cvae_hidden: int = 400  # width of the CVAE's hidden layers
    kl_weight: float = 0.5  # of the CVAE's divergence
    reach: float = 0.05  # largest perturbation of a proposed action
    lower_share: float = 0.75  # of the lower head in reward targets, of the upper one in cost targets
    samples: int = 10  # proposals per next state
    candidates: int = 100  # proposals per state when acting
    kp: float = 0.1  # gain of the multiplier: proportional
    ki: float = 0.003  # integral
    kd: float = 0.001  # derivative
    normalize: bool = False  # observations to zero mean and unit variance (not in that code)

    def __post_init__(self) -> None:
        in_range(
            self,
            "bcq_lag",
            {
                "count": "batch hidden cvae_hidden samples candidates",
                "inside (0, 1)": "gamma",
                "in (0, 1]": "target_rate lower_share",
                "positive": "reward_scale actor_lr critic_lr cvae_lr",
                "not negative": "kl_weight reach kp ki kd",
            },
        )


class BcqLag(Rival):
    """Actions come from a CVAE of the log's, perturbed a little towards what Q - lambda C likes [bcq].

    lambda follows C - `threshold` by a PID rule [pid_lagrangian]. Of the proposals in a next state, and when acting,
    the one of most Q - lambda C counts; with no limit that is BCQ. The benchmark's code takes each critic's own largest
    value in the targets, which no one action may have, and acts on a single proposal; here reward and cost of one and
    the same action are learned. Costs stop where episodes end, as rewards do.
    """

    kind = "bcq_lag"
    Settings = BcqLagConfig
    acting = ("cvae", "perturb", "q_target", "c_target", "multiplier")
    targets = {"perturb_target": "perturb", "q_target": "q", "c_target": "c"}

    def build(self) -> dict[str, nn.Module]:
        c, s, a = self.settings, self.facts.obs_size, self.facts.act_size
        hidden = (c.hidden, c.hidden)
        self.cvae = CVAE(s, a, c.cvae_hidden)
        self.multiplier = PidMultiplier(c.kp, c.ki, c.kd)
        nets: dict[str, nn.Module] = {"cvae": self.cvae, "multiplier": self.multiplier}
        nets |= {k: MLP(s + a, a, hidden, nn.Tanh) for k in ("perturb", "perturb_target")}
        return nets | {k: EnsembleMLP(s + a, 1, hidden) for k in ("q", "c", "q_target", "c_target")}

    def optimise(self) -> dict[str, torch.optim.Optimizer]:
        c = self.settings
        return self.adam(cvae=c.cvae_lr, q=c.critic_lr, c=c.critic_lr, perturb=c.actor_lr)

    @property
    def threshold(self) -> float:
        """Discounted cost that the policy may expect."""
        return threshold(self.facts.cost_limit, self.settings.gamma, self.facts.longest)

    def learn(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        c, actions, masks = self.settings, batch["actions"], batch["masks"]
        obs, after = self.encode(batch["observations"]), self.encode(batch["next_observations"])
        noise = self.normal((len(obs), self.cvae.latent), generator)
        found = {"loss_cvae": self.step("cvae", self.cvae.loss(obs, actions, noise, c.kl_weight))}
        with torch.no_grad():
            q, cost, _ = self.best(after, c.samples, "perturb_target", generator)
            y, y_c = bellman(batch["rewards"], masks, q, c.gamma), bellman(batch["costs"], masks, cost, c.gamma)
        found["loss_q"] = self.step("q", twin_loss(heads(self.nets["q"], obs, actions), y))
        found["loss_c"] = self.step("c", twin_loss(heads(self.nets["c"], obs, actions), y_c))
        moved = self.propose(obs, "perturb", generator)
        cost = heads(self.nets["c"], obs, moved).amax(0).mean()
        weight = self.multiplier.step(cost.detach() - self.threshold)
        found["loss_actor"] = self.step("perturb", weight * cost - heads(self.nets["q"], obs, moved).amin(0).mean())
        self.follow(c.target_rate)
        return found | {"cost": cost.detach(), "multiplier": weight}

    def propose(self, obs: Tensor, name: str, generator: torch.Generator) -> Tensor:
        """One action `[B, A]` per state: of the CVAE, perturbed."""
        z = self.normal((len(obs), self.cvae.latent), generator).clamp(-LATENT_CUT, LATENT_CUT)
        with torch.no_grad():
            actions = self.cvae.decode(obs, z)
        move = torch.tanh(self.nets[name](torch.cat([obs, actions], -1)))
        return (actions + self.settings.reach * move).clamp(-1.0, 1.0)

    def best(self, obs: Tensor, n: int, name: str, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Reward value `[B]`, cost value `[B]` and action `[B, A]` of the proposal with most Q - lambda C among `n`."""
        many = obs.repeat_interleave(n, 0)
        actions = self.propose(many, name, generator)
        share = self.settings.lower_share
        q = soft_lower(heads(self.nets["q_target"], many, actions), share)
        cost = soft_lower(heads(self.nets["c_target"], many, actions), 1 - share)
        pick = (q - self.multiplier.value * cost).reshape(-1, n).argmax(-1)
        index = torch.arange(len(obs), device=obs.device) * n + pick
        return q[index], cost[index], actions[index]

    def choose(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        return self.best(obs, self.settings.candidates, "perturb", generator)[2]
