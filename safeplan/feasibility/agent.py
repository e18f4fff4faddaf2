"""FISOR, feasibility-guided diffusion policy [fisor]: how it learns."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from safeplan.feasibility import losses
from safeplan.feasibility.budget import augment, draw_shares
from safeplan.feasibility.config import FisorConfig
from safeplan.feasibility.lanes import Lanes
from safeplan.feasibility.networks import TARGETS, set_seed
from safeplan.feasibility.policy import FisorPolicy, Seen
from safeplan.feasibility.precision import actor_products, products
from safeplan.nets import ema_update
from safeplan.nets.fisor_mlp import told

TINY = 1e-8


class Fisor(FisorPolicy):
    """A policy with its optimisers; arguments as there.

    Raises:
        ConfigError: `config.precision` is one that the device does not have.
    """

    skips = True  # `config.skip_unweighted` may change the shapes of an update

    def __init__(self, obs_size: int, act_size: int, config: FisorConfig | None = None, **kw: Any) -> None:
        super().__init__(obs_size, act_size, config, **kw)
        t = torch.arange(self.config.steps, dtype=torch.float64)
        self._levels = torch.stack(self.path.at(t), -1).float().to(self.device)  # (a, s) of each diffusion step
        self.updates = self.actor_updates = 0
        with products(self.config.precision, self.device):  # refuse now what the device cannot do
            pass
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        rate = self.config.critic_lr or self.config.lr
        for name in ("v", "q", "v_h", "q_h"):
            self.optimisers[name] = torch.optim.Adam(self.nets[name].parameters(), lr=rate, fused=True)
        self.optimisers["actor"] = torch.optim.AdamW(
            self.nets["actor"].parameters(), lr=self.config.lr, weight_decay=0.0, fused=True
        )

    def update(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """One update on `batch` (see `columns`): actor steps on shares of all rows, then the critics on the first rows.

        All randomness (steps, noise, dropout) comes from `generator`. Returns losses as 0-d tensors.
        """
        actions, drawn = batch["actions"], generator.device
        share = draw_shares(len(actions), generator).to(self.device) if self.config.budget > 0 else None
        t = self.path.draw(len(actions), generator).to(self.device)
        noise = torch.randn(actions.shape, generator=generator, device=drawn).to(self.device)
        hidden = self._hidden(len(actions), generator)
        dropout = int(torch.randint(2**62, (1,), generator=generator, device=drawn))
        with seeded(dropout, self.device):
            found = self.body(batch, t, noise, share, hidden)
        self.updates += 1
        return found

    def body(
        self,
        batch: Mapping[str, Tensor],
        t: Tensor,
        noise: Tensor,
        share: Tensor | None = None,
        hidden: Tensor | None = None,
        lanes: Lanes | None = None,
    ) -> dict[str, Tensor]:
        """An update with what is drawn given: steps `t [B]`, `noise [B, A]`; with `config.budget` `share [B]`; with
        `config.condition_dropout` the rows whose return is hidden from the actor, `hidden [B]`.

        The actor, the reward critics and the feasibility critics do not wait for each other: each has its lane. The
        weights come from the critics before they step; the actor needs them only once it has predicted.
        """
        c, lanes = self.config, lanes or Lanes()
        if share is not None:
            batch = augment(batch, c.budget, share, c.violating, c.satisfying)
        with products(c.precision, self.device):
            obs, actions = self.encode(batch["observations"]), batch["actions"]
            with lanes.aside("weights"), torch.no_grad():
                seen = self._seen(obs, actions)
                raw = self._weights(obs, actions, seen)
                mean = raw.mean()
                weights = raw / mean.clamp_min(TINY) if c.normalize_weights else raw
            k = min(c.critic_rows or len(obs), len(obs))
            first = {key: batch[key][:k] for key in ("rewards", "h", "masks")}
            next_obs = self.encode(batch["next_observations"][:k])
            known = Seen(*(v[:k] for v in seen))
            found = self.critic_step(obs[:k], actions[:k], **first, next_obs=next_obs, lanes=lanes, seen=known)
            seen_by_actor = obs if hidden is None else told(obs, batch["returns"], hidden)
            rows, losses_actor = len(obs) // c.actor_steps, []
            for i in range(c.actor_steps):
                part = slice(i * rows, (i + 1) * rows)
                given = seen_by_actor[part], actions[part], weights[part], t[part], noise[part]
                losses_actor.append(self.actor_step(*given, lanes=lanes))
            lanes.join()
        return {"loss_actor": losses_actor[-1], **found, "weight": mean}

    def _hidden(self, rows: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Rows whose return the actor is not told, bool `[rows]`; None where it never is told one."""
        if self.config.condition_dropout == 0:
            return None
        device = self.device if generator is None else generator.device
        return (torch.rand(rows, generator=generator, device=device) < self.config.condition_dropout).to(self.device)

    def actor_step(
        self, obs: Tensor, actions: Tensor, weights: Tensor, t: Tensor, noise: Tensor, lanes: Lanes | None = None
    ) -> Tensor:
        """One Adam step of the actor at the scheduled rate, and of its EMA."""
        self.nets["actor"].train()
        loss = self.loss_actor(obs, actions, weights, t, noise, lanes)
        self.optimisers["actor"].param_groups[0]["lr"] = self._rate()
        self._step("actor", loss, self.config.ema_rate)
        self.actor_updates += 1
        return loss.detach()

    def _rate(self) -> float | Tensor:
        return actor_lr(self.config, self.actor_updates)

    def critic_step(
        self,
        obs: Tensor,
        actions: Tensor,
        rewards: Tensor,
        h: Tensor,
        masks: Tensor,
        next_obs: Tensor,
        lanes: Lanes | None = None,
        seen: Seen | None = None,
    ) -> dict[str, Tensor]:
        """One Adam step each of V, Q (towards the new V), V_h, Q_h (towards the new V_h), and of the targets.

        `seen`: what the critics say of `obs` and `actions`, where it is known already.
        """
        rate, lanes, found = self.config.target_rate, lanes or Lanes(), {}
        if seen is None:
            with torch.no_grad():
                seen = self._seen(obs, actions)
        with lanes.aside("reward", "weights"):
            found["loss_v"] = self._step("v", self.loss_v(obs, actions, seen))
            found["loss_q"] = self._step("q", self.loss_q(obs, actions, rewards, masks, next_obs), rate)
        with lanes.aside("feasibility", "weights"):
            found["loss_v_h"] = self._step("v_h", self.loss_v_h(obs, actions, seen))
            found["loss_q_h"] = self._step("q_h", self.loss_q_h(obs, actions, h, masks, next_obs), rate)
        return found

    # ---------------------------------------------------------------- losses, 0-d
    def loss_actor(
        self, obs: Tensor, actions: Tensor, weights: Tensor, t: Tensor, noise: Tensor, lanes: Lanes | None = None
    ) -> Tensor:
        """Weighted noise regression, summed over action entries; rows of weight 0 count in the mean [fisor, eq. 14].

        With `config.condition_dropout` `obs` is what `told` makes of it.
        """
        share = 1.0
        if self.config.skip_unweighted and self.skips:
            kept = weights.nonzero()[:, 0]
            share = len(kept) / len(weights)
            if not len(kept):
                kept = torch.arange(1, device=weights.device)  # one row of weight 0: a step of gradient 0
            obs, actions, weights, t, noise = (v[kept] for v in (obs, actions, weights, t, noise))
        levels = self._levels.to(actions.dtype).index_select(0, t.long())
        noisy = levels[:, :1] * actions + levels[:, 1:] * noise
        with actor_products(self.config.precision, self.device):
            eps = self._call["actor"](noisy, t, {"obs": obs})
        errors = (eps.to(noise.dtype) - noise).square().sum(-1)
        if lanes is not None:
            lanes.wait("weights")
        loss = (weights * errors).mean()
        return loss if share == 1.0 else share * loss

    def loss_v(self, obs: Tensor, actions: Tensor, seen: Seen | None = None) -> Tensor:
        """V towards the upper expectile of the lower target head, over the rows that `config.reward_rows` names."""
        c = self.config
        with torch.no_grad():
            seen = seen or self._seen(obs, actions)
        u = seen.q - self._value("v", obs)
        if c.reward_rows == "all":
            return losses.expectile(u, c.tau_reward).mean()
        weight, tau = losses.reward_rows(seen.v_h, seen.q_h, c.tau_reward)
        return (weight * losses.expectile(u, tau)).mean()

    def loss_q(self, obs: Tensor, actions: Tensor, rewards: Tensor, masks: Tensor, next_obs: Tensor) -> Tensor:
        """Both heads of Q towards `bellman`."""
        with torch.no_grad():
            y = losses.bellman(rewards, masks, self._value("v", next_obs), self.config.gamma)
        return (self._heads("q", obs, actions) - y).square().mean()

    def loss_v_h(self, obs: Tensor, actions: Tensor, seen: Seen | None = None) -> Tensor:
        """V_h towards the lower expectile of the worse target head."""
        c = self.config
        with torch.no_grad():
            q_h = (seen or self._seen(obs, actions)).q_h
        if c.feasibility_loss == "squared":
            return losses.reversed_expectile(q_h - self._value("v_h", obs), c.tau_feasible).mean()
        return losses.reversed_expectile_divergence(self._share(q_h), self._raw("v_h", obs), c.tau_feasible).mean()

    def loss_q_h(self, obs: Tensor, actions: Tensor, h: Tensor, masks: Tensor, next_obs: Tensor) -> Tensor:
        """Both heads of Q_h towards `feasible_bellman`, and in violation towards `recovery_bellman`."""
        c = self.config
        with torch.no_grad():
            v_h = self._value("v_h", next_obs)
            y_h = losses.feasible_bellman(h, masks, v_h, c.gamma)
        if c.feasibility_loss == "squared":
            return (self._heads("q_h", obs, actions) - y_h).square().mean()
        share = self._share(y_h)
        if c.recovery > 0:
            # halfway up the range, and clear of 0 where that is not
            least = max(0.5, (0.25 * c.violating - c.satisfying) / (c.violating - c.satisfying))
            share = torch.where(h > 0, losses.recovery_bellman(self._share(v_h), masks, c.recovery, least), share)
        return losses.divergence(share, self._raw("q_h", obs, actions)).mean()

    def _step(self, name: str, loss: Tensor, rate: float = 0.0) -> Tensor:
        self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.apply(name, rate)
        return loss.detach()

    def apply(self, name: str, rate: float = 0.0) -> None:
        """Step one network along the gradients that it holds, and its target a share `rate` towards it."""
        self.optimisers[name].step()
        for target, source in TARGETS.items():
            if source == name:
                ema_update(self.nets[target], self.nets[name], rate)

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        return {
            "nets": self.nets.state_dict(),
            "optimisers": {k: o.state_dict() for k, o in self.optimisers.items()},
            "updates": self.updates,
            "actor_updates": self.actor_updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.nets.load_state_dict(state["nets"])
        for key, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][key])
        self.updates, self.actor_updates = state["updates"], state["actor_updates"]


def actor_lr(config: FisorConfig, step: int) -> float:
    """The actor's learning rate at optimiser step `step`: cosine to 0 at `actor_decay_steps`, constant without it."""
    if config.actor_decay_steps == 0:
        return config.lr
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * min(step / config.actor_decay_steps, 1.0)))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators, which dropout draws from, seeded inside and as before outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        set_seed(seed, device)
        yield
