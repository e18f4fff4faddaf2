"""FISOR, feasibility-guided diffusion policy [fisor2024]: one update, the values, and the choice of an action."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeplan.data import Normalizer
from safeplan.diffusion import Denoiser, FisorVP, ddpm, denoising_loss
from safeplan.errors import ShapeError
from safeplan.feasibility import losses
from safeplan.feasibility.config import FisorConfig
from safeplan.feasibility.networks import TARGETS, build_networks
from safeplan.feasibility.select import select
from safeplan.nets import ema_update


class Fisor:
    """Networks, optimisers and what is done with them. Observations go in raw, as arrays or tensors `[B, S]` or `[S]`.

    Args:
        obs_size, act_size: S and A.
        seed: of the initial weights.
        normalizer: of observations, applied when `config.normalize`; its range is the support. None: identity.
        training: false leaves out the optimisers.
    """

    def __init__(
        self,
        obs_size: int,
        act_size: int,
        config: FisorConfig | None = None,
        *,
        seed: int = 0,
        normalizer: Normalizer | None = None,
        device: str | torch.device = "cpu",
        training: bool = True,
    ) -> None:
        self.config = c = config or FisorConfig()
        self.obs_size, self.act_size, self.device = obs_size, act_size, torch.device(device)
        self.normalizer = normalizer or Normalizer.identity(obs_size)
        if len(self.normalizer.mean) != obs_size:
            raise ShapeError(f"fisor: normalizer has {len(self.normalizer.mean)} entries, observations have {obs_size}")
        self._mean = torch.from_numpy(self.normalizer.mean).to(self.device)
        self._std = torch.from_numpy(self.normalizer.std).to(self.device)
        self.nets = build_networks(obs_size, act_size, c, seed).to(self.device)
        self.path = FisorVP(c.steps)
        # the network sees the integer step; the path's inverse would leave its last bits to rounding
        clock = lambda a, s: self.path.time(a, s).round()  # noqa: E731
        self._call: dict[str, Any] = {k: torch.compile(n) if c.compile else n for k, n in self.nets.items()}
        self._denoiser = Denoiser(self._call["actor"], self.path, clock=clock)
        self._denoiser_ema = Denoiser(self._call["actor_ema"], self.path, clock=clock)
        self._grid = self.path.grid(c.steps)
        self.updates = self.actor_updates = 0
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        if training:
            for name in ("v", "q", "v_h", "q_h"):
                self.optimisers[name] = torch.optim.Adam(self.nets[name].parameters(), lr=c.lr, fused=True)
            self.optimisers["actor"] = torch.optim.AdamW(
                self.nets["actor"].parameters(), lr=c.lr, weight_decay=0.0, fused=True
            )

    # ---------------------------------------------------------------- learning
    def update(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """One update on `batch` (see `columns`): actor steps on shares of all rows, then the critics on the first rows.

        All randomness (steps, noise, dropout) comes from `generator`. Returns losses as 0-d tensors.
        """
        c = self.config
        obs, actions = self.encode(batch["observations"]), batch["actions"]
        rows, drawn = len(obs), generator.device
        with torch.no_grad():
            weights = self._weights(obs, actions)
        t = self.path.draw(rows, generator).to(self.device)
        noise = torch.randn(actions.shape, generator=generator, device=drawn).to(self.device)
        dropout = int(torch.randint(2**62, (1,), generator=generator, device=drawn))
        share = rows // c.actor_steps
        loss = weights.new_zeros(())
        with _seeded(dropout, self.device):
            for i in range(c.actor_steps):
                part = slice(i * share, (i + 1) * share)
                loss = self.actor_step(obs[part], actions[part], weights[part], t[part], noise[part])
        k = min(c.critic_rows, rows)
        next_obs = self.encode(batch["next_observations"][:k])
        found = self.critic_step(obs[:k], actions[:k], batch["rewards"][:k], batch["h"][:k], batch["masks"][:k], next_obs)
        self.updates += 1
        return {"loss_actor": loss, **found, "weight": weights.mean()}

    def actor_step(self, obs: Tensor, actions: Tensor, weights: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """One Adam step of the weighted noise regression, summed over action entries, and of the actor's EMA."""
        c, optimiser = self.config, self.optimisers["actor"]
        self.nets["actor"].train()
        loss = denoising_loss(self._denoiser, actions, {"obs": obs}, weights, t=t, noise=noise, reduce="sum")
        optimiser.param_groups[0]["lr"] = actor_lr(c, self.actor_updates)
        self._step("actor", loss, c.ema_rate)
        self.actor_updates += 1
        return loss.detach()

    def critic_step(
        self, obs: Tensor, actions: Tensor, rewards: Tensor, h: Tensor, masks: Tensor, next_obs: Tensor
    ) -> dict[str, Tensor]:
        """One Adam step each of V, Q (towards the new V), V_h, Q_h (towards the new V_h), and of the targets."""
        c = self.config
        with torch.no_grad():
            q = self._heads("q_target", obs, actions).amin(0)
            q_h = self._heads("q_h_target", obs, actions).amax(0)
        loss_v = losses.expectile(q - self._value("v", obs), c.tau_reward).mean()
        self._step("v", loss_v)
        with torch.no_grad():
            y = losses.bellman(rewards, masks, self._value("v", next_obs), c.gamma)
        loss_q = (self._heads("q", obs, actions) - y).square().mean()
        self._step("q", loss_q, c.target_rate)
        loss_vh = losses.reversed_expectile(q_h - self._value("v_h", obs), c.tau_feasible).mean()
        self._step("v_h", loss_vh)
        with torch.no_grad():
            y_h = losses.feasible_bellman(h, masks, self._value("v_h", next_obs), c.gamma)
        loss_qh = (self._heads("q_h", obs, actions) - y_h).square().mean()
        self._step("q_h", loss_qh, c.target_rate)
        named = {"loss_v": loss_v, "loss_q": loss_q, "loss_v_h": loss_vh, "loss_q_h": loss_qh}
        return {k: v.detach() for k, v in named.items()}

    def _step(self, name: str, loss: Tensor, rate: float = 0.0) -> None:
        self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers[name].step()
        for target, source in TARGETS.items():
            if source == name:
                ema_update(self.nets[target], self.nets[name], rate)

    # ---------------------------------------------------------------- values
    def encode(self, obs: Tensor) -> Tensor:
        """Observations as the networks see them, `[..., S]`."""
        return (obs - self._mean) / self._std if self.config.normalize else obs

    def _value(self, name: str, obs: Tensor) -> Tensor:
        return self._call[name](obs).squeeze(-1)

    def _heads(self, name: str, obs: Tensor, actions: Tensor) -> Tensor:
        return self._call[name](torch.cat([obs, actions], -1)).squeeze(-1)  # [2, B]

    def _weights(self, obs: Tensor, actions: Tensor) -> Tensor:
        c = self.config
        return losses.policy_weights(
            self._value("v", obs),
            self._heads("q_target", obs, actions).amin(0),
            self._value("v_h", obs),
            self._heads("q_h_target", obs, actions).amax(0),
            cost_temperature=c.cost_temperature,
            reward_temperature=c.reward_temperature,
            cost_clip_low=c.cost_clip_low,
            cost_clip=c.cost_clip,
            reward_clip=c.reward_clip,
        )

    def _tensor(self, x: Any, size: int, what: str) -> Tensor:
        x = torch.as_tensor(np.asarray(x) if not isinstance(x, Tensor) else x, dtype=torch.float32, device=self.device)
        if x.ndim not in (1, 2) or x.shape[-1] != size:
            raise ShapeError(f"fisor: {what} are {tuple(x.shape)}, expected [B, {size}] or [{size}]")
        return x

    @torch.no_grad()
    def _query(self, fn: Any, obs: Any, *actions: Any) -> Any:
        o = self.encode(self._tensor(obs, self.obs_size, "observations"))
        a = [self._tensor(x, self.act_size, "actions") for x in actions]
        out = fn(torch.atleast_2d(o), *(torch.atleast_2d(x) for x in a))
        out = out if o.ndim == 2 else out[0]
        return out if isinstance(obs, Tensor) else out.cpu().numpy()

    def v_h(self, obs: Any) -> Any:
        """Feasibility value `[B]`; the state is feasible where it is at most 0."""
        return self._query(lambda o: self._value("v_h", o), obs)

    def v(self, obs: Any) -> Any:
        """Reward value `[B]`."""
        return self._query(lambda o: self._value("v", o), obs)

    def q_h(self, obs: Any, actions: Any) -> Any:
        """Worst head of the target feasibility critic, `[B]`."""
        return self._query(lambda o, a: self._heads("q_h_target", o, a).amax(0), obs, actions)

    def q(self, obs: Any, actions: Any) -> Any:
        """Lower head of the target reward critic, `[B]`."""
        return self._query(lambda o, a: self._heads("q_target", o, a).amin(0), obs, actions)

    def weights(self, obs: Any, actions: Any) -> Any:
        """The actor's regression weights, `[B]`."""
        return self._query(self._weights, obs, actions)

    # ---------------------------------------------------------------- acting
    def act(self, obs: Any, generator: torch.Generator, *, pick: str | None = None) -> Any:
        """The chosen one of `config.candidates` actions for each state, `[B, A]` in [-1, 1]."""
        n = self.config.candidates

        def choose(o: Tensor) -> Tensor:
            many = o.repeat_interleave(n, 0)
            a = self._sample(many, generator)
            q_h = self._heads("q_h_target", many, a).amax(0).reshape(-1, n)
            q = self._heads("q_target", many, a).amin(0).reshape(-1, n)
            index = select(q_h, q, pick or self.config.pick)
            return a.reshape(len(o), n, -1)[torch.arange(len(o), device=a.device), index]

        return self._query(choose, obs)

    def sample(self, obs: Any, generator: torch.Generator) -> Any:
        """One action of the EMA actor per state, unselected, `[B, A]`."""
        return self._query(lambda o: self._sample(o, generator), obs)

    def _sample(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(obs), self.act_size, generator=generator, device=generator.device).to(self.device)
        return ddpm(
            self._denoiser_ema,
            noise,
            self._grid,
            {"obs": obs},
            variance="beta",
            clip=(-1.0, 1.0),
            generators=[generator] * len(obs),
        )

    # ---------------------------------------------------------------- state
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


class _seeded:
    """The global generators, which dropout draws from, seeded inside and as before outside."""

    def __init__(self, seed: int, device: torch.device):
        self.seed, self.device = seed, device

    def __enter__(self) -> None:
        devices = [self.device] if self.device.type == "cuda" else []
        self._fork = torch.random.fork_rng(devices=devices)
        self._fork.__enter__()
        torch.random.default_generator.manual_seed(self.seed)
        if devices:
            torch.cuda.manual_seed(self.seed)

    def __exit__(self, *error: Any) -> None:
        self._fork.__exit__(*error)
