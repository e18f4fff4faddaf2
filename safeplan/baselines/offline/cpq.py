"""CPQ, constraints penalised Q-learning: what leaves the log counts as unsafe, what is unsafe earns nothing more."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safeplan.baselines.offline.facts import threshold
from safeplan.baselines.offline.multiplier import AscentMultiplier
from safeplan.baselines.offline.rival import Rival
from safeplan.baselines.offline.values import heads, twin_loss
from safeplan.feasibility.losses import bellman
from safeplan.nets import CVAE, EnsembleMLP, SquashedGaussian
from safeplan.schema import in_range


@dataclass(frozen=True)
class CpqConfig:
    """As the DSRL benchmark's code has them [dsrl]."""

    batch: int = 512  # rows per update
    gamma: float = 0.99  # discount of both critics
    reward_scale: float = 0.1  # rewards are multiplied by it
    target_rate: float = 0.005  # Polyak step of the targets
    actor_lr: float = 1e-4  # Adam
    critic_lr: float = 1e-3  # Adam, of both critics
    cvae_lr: float = 1e-3  # Adam, of the CVAE that knows the log's actions
    alpha_lr: float = 1e-3  # ascent of the penalty's weight
    alpha_max: float = 1.0  # largest weight of the penalty
    actor_hidden: int = 300  # width of the actor's hidden layers
    critic_hidden: int = 400  # of the critics'
    cvae_hidden: int = 400  # of the CVAE's
    kl_weight: float = 0.5  # of the CVAE's divergence
    samples: int = 10  # actions of the policy per state that the penalty looks at
    strangers: float = 0.25  # share of them, those of largest divergence, that count as out of the log
    penalty_level: float = 1.5  # what a stranger's cost value is raised to, in thresholds
    normalize: bool = False  # observations to zero mean and unit variance (not in that code)

    def __post_init__(self) -> None:
        in_range(
            self,
            "cpq",
            {
                "count": "batch actor_hidden critic_hidden cvae_hidden samples",
                "inside (0, 1)": "gamma strangers",
                "in (0, 1]": "target_rate",
                "positive": "reward_scale actor_lr critic_lr cvae_lr",
                "not negative": "kl_weight alpha_lr alpha_max penalty_level",
            },
        )


class Cpq(Rival):
    """A squashed Gaussian that maximises Q where the cost critic stays within `threshold` [cpq].

    The cost critic is pushed up at the policy's actions that the CVAE does not know, as far as `penalty_level`
    thresholds, with a weight alpha that grows while their mean is below. Values behind a mask C <= threshold enter
    neither targets nor policy. Twin critics answer with their worse head: less reward, more cost. In the benchmark's
    code the penalty has no gradient, and cost heads answer with the smaller one; not so here. There as here the mask
    has no gradient either: it ends the climb of a state's policy where that turns unsafe, and does not lead it back.
    Without a limit all masks are true and there is no penalty: plain actor-critic learning. Acting takes the mean.
    """

    kind = "cpq"
    Settings = CpqConfig
    acting = ("actor",)
    targets = {"q_target": "q", "c_target": "c"}

    def build(self) -> dict[str, nn.Module]:
        c, s, a = self.settings, self.facts.obs_size, self.facts.act_size
        self.actor, self.cvae = SquashedGaussian(s, a, c.actor_hidden), CVAE(s, a, c.cvae_hidden)
        self.alpha = AscentMultiplier(c.alpha_lr, c.alpha_max)
        hidden = (c.critic_hidden, c.critic_hidden)
        nets: dict[str, nn.Module] = {"actor": self.actor, "cvae": self.cvae, "alpha": self.alpha}
        return nets | {k: EnsembleMLP(s + a, 1, hidden) for k in ("q", "c", "q_target", "c_target")}

    def optimise(self) -> dict[str, torch.optim.Optimizer]:
        c = self.settings
        return self.adam(cvae=c.cvae_lr, q=c.critic_lr, c=c.critic_lr, actor=c.actor_lr)

    @property
    def threshold(self) -> float:
        """Discounted cost up to which an action counts as safe."""
        return threshold(self.facts.cost_limit, self.settings.gamma, self.facts.longest)

    def learn(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        c, actions, masks = self.settings, batch["actions"], batch["masks"]
        obs, after = self.encode(batch["observations"]), self.encode(batch["next_observations"])
        noise = self.normal((len(obs), self.cvae.latent), generator)
        found = {"loss_cvae": self.step("cvae", self.cvae.loss(obs, actions, noise, c.kl_weight))}
        with torch.no_grad():
            then = self.actor.sample(after, self.normal(tuple(actions.shape), generator))
            noise = self.normal(tuple(actions.shape), generator)
            cost = heads(self.nets["c_target"], after, then).amax(0)
            q = heads(self.nets["q_target"], after, then).amin(0)
            y = bellman(batch["rewards"], masks * self.safe(cost), q, c.gamma)
            y_c = bellman(batch["costs"], masks, cost, c.gamma)
        found["loss_q"] = self.step("q", twin_loss(heads(self.nets["q"], obs, actions), y))
        loss_c = twin_loss(heads(self.nets["c"], obs, actions), y_c)
        if math.isfinite(self.threshold):
            strange, level = self.strange_costs(obs, generator), c.penalty_level * self.threshold
            alpha = self.alpha.step(level - strange.detach().mean())
            loss_c = loss_c - alpha * strange.clamp_max(level).mean()
            found |= {"strange_cost": strange.detach().mean(), "alpha": alpha}
        found["loss_c"] = self.step("c", loss_c)
        now = self.actor.sample(obs, noise)
        safe = self.safe(heads(self.nets["c"], obs, now).amax(0))
        found["loss_actor"] = self.step("actor", -(safe * heads(self.nets["q"], obs, now).amin(0)).mean())
        self.follow(c.target_rate)
        return found | {"safe": safe.mean()}

    def safe(self, cost: Tensor) -> Tensor:
        """1 where a cost value `[B]` is within the threshold, else 0."""
        return (cost.detach() <= self.threshold).to(cost.dtype)

    def strange_costs(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """Cost values `[2, R]` of the policy's actions that the log knows least, differentiable in the critic."""
        c = self.settings
        with torch.no_grad():
            noise = self.normal((c.samples, len(obs), self.facts.act_size), generator)
            actions = self.actor.sample(obs, noise).flatten(0, 1)
            many = obs.repeat(c.samples, 1)
            far = self.cvae.divergence(many, actions).topk(max(1, round(c.strangers * len(many)))).indices
        return heads(self.nets["c"], many[far], actions[far])

    def choose(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        return self.actor.mode(obs)
