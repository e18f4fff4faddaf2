"""What a trained FISOR is asked: values, weights, and which action to take [fisor]."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from safeplan.data import Normalizer
from safeplan.diffusion import Denoiser, FisorVP, Guidance, ddpm
from safeplan.errors import DataError, ShapeError
from safeplan.feasibility import losses
from safeplan.feasibility.ancestral import ancestral
from safeplan.feasibility.config import FisorConfig
from safeplan.feasibility.networks import build_networks
from safeplan.feasibility.select import select
from safeplan.nets.fisor_mlp import FisorMLP, told
from safeplan.rng import randn


class Critics(NamedTuple):
    """The critics of the states at hand, as functions of one action for each, `[B, A] -> [B]`, differentiable."""

    q_h: Callable[[Tensor], Tensor]  # infeasible above 0
    q: Callable[[Tensor], Tensor]


class Seen(NamedTuple):
    """What the critics say of states and actions, `[B]` each: lower head of Q, worse head of Q_h, of the targets."""

    v: Tensor
    q: Tensor
    v_h: Tensor
    q_h: Tensor


Chain = Sequence[Guidance] | Callable[[Critics], Sequence[Guidance]]


class FisorPolicy:
    """The networks. Observations go in raw, as arrays or tensors `[B, S]` or `[S]`; what comes out is of the same kind.

    Args:
        obs_size, act_size: S and A.
        seed: of the initial weights.
        normalizer: of observations, applied when `config.normalize`; its range is the support. None: identity.
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
    ) -> None:
        self.config = c = config or FisorConfig()
        self.obs_size, self.act_size, self.device = obs_size, act_size, torch.device(device)
        self.reward_scale = 1.0  # V and Q are in rewards of the log times this
        self.normalizer = normalizer or Normalizer.identity(obs_size)
        if len(self.normalizer.mean) != obs_size:
            raise ShapeError(f"fisor: normalizer has {len(self.normalizer.mean)} entries, observations have {obs_size}")
        self._mean = torch.from_numpy(self.normalizer.mean).to(self.device)
        self._std = torch.from_numpy(self.normalizer.std).to(self.device)
        self.nets = build_networks(obs_size, act_size, c, seed).to(self.device)
        self._call: dict[str, Any] = {k: torch.compile(n) if c.compile else n for k, n in self.nets.items()}
        self.path = FisorVP(c.steps, schedule=c.schedule)
        self._grid = self.path.grid(c.steps)
        self._actor_ema = cast(FisorMLP, self.nets["actor_ema"])
        compiled = torch.compile if c.compile else lambda f: f
        self._ancestral, self._choose = compiled(ancestral), compiled(FisorPolicy._choice)

    @property
    def budget(self) -> float:
        """Largest cost limit served; 0: its states hold no budget."""
        return self.config.budget

    @property
    def threshold(self) -> float:
        """`config.threshold`; may be set. ConfigError: not finite."""
        return self.config.threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        self.config = replace(self.config, threshold=value)

    @property
    def returns(self) -> float:
        """`config.returns`; may be set. ConfigError: outside (0, 1]."""
        return self.config.returns

    @returns.setter
    def returns(self, value: float) -> None:
        self.config = replace(self.config, returns=value)

    def denoiser(self, name: str) -> Denoiser:
        """`actor` or `actor_ema` as a denoiser of actions."""
        # the network sees the integer step; the path's inverse would leave its last bits to rounding
        return Denoiser(self._call[name], self.path, clock=lambda a, s: self.path.time(a, s).round())

    # ---------------------------------------------------------------- values
    def encode(self, obs: Tensor) -> Tensor:
        """Observations as the networks see them, `[..., S]`; of a share of the budget that is left, its square root."""
        if self.config.budget > 0 and self.config.budget_root:
            # the floor keeps the slope finite where nothing is left
            obs = torch.cat([obs[..., :-1], obs[..., -1:].clamp_min(1e-12).sqrt()], -1)
        if not self.config.normalize:
            return obs
        seen, most = (obs - self._mean) / self._std, self.config.normalize_clip
        # what is infinite stays so: an error of the sensor must not look like a state
        return torch.where(seen.isfinite(), seen.clamp(-most, most), seen) if most else seen

    def _raw(self, name: str, obs: Tensor, actions: Tensor | None = None) -> Tensor:
        return self._call[name](obs if actions is None else torch.cat([obs, actions], -1)).squeeze(-1)

    def _violation(self, raw: Tensor) -> Tensor:
        """V_h or Q_h from what their networks give: itself, or the logit of where it lies between its bounds."""
        c = self.config
        if c.feasibility_loss == "squared":
            return raw
        return c.satisfying + (c.violating - c.satisfying) * raw.sigmoid()

    def _share(self, violation: Tensor) -> Tensor:
        """The inverse of `_violation`, before the logit: 0 at `satisfying`, 1 at `violating`."""
        c = self.config
        return (violation - c.satisfying) / (c.violating - c.satisfying)

    def _value(self, name: str, obs: Tensor) -> Tensor:
        raw = self._raw(name, obs)
        return self._violation(raw) if name == "v_h" else raw

    def _heads(self, name: str, obs: Tensor, actions: Tensor) -> Tensor:
        raw = self._raw(name, obs, actions)  # [2, B]
        return self._violation(raw) if name.startswith("q_h") else raw

    def scores(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Worst Q_h and least Q of the target critics `[B]`, differentiable, for encoded observations."""
        return self._heads("q_h_target", obs, actions).amax(0), self._heads("q_target", obs, actions).amin(0)

    def _seen(self, obs: Tensor, actions: Tensor) -> Seen:
        q_h, q = self.scores(obs, actions)
        return Seen(self._value("v", obs), q, self._value("v_h", obs), q_h)

    def _weights(self, obs: Tensor, actions: Tensor, seen: Seen | None = None) -> Tensor:
        c = self.config
        return losses.policy_weights(
            *(seen or self._seen(obs, actions)),
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

    def _asked(self, fn: Any, obs: Any) -> Any:
        """`_query` for an action: nothing is chosen for what is no observation. Raises DataError."""
        if not bool(torch.isfinite(self._tensor(obs, self.obs_size, "observations")).all()):
            raise DataError("fisor: observations hold NaN or infinity. Check the environment")
        return self._query(fn, obs)

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
    def leaves(self, obs: Tensor) -> dict[str, Tensor]:
        """What the actor is told, by name: encoded observations `[B, S]`; the return to earn, if it knows of any."""
        if self.config.condition_dropout == 0:
            return {"obs": obs}
        return {"obs": obs, "returns": obs.new_full((len(obs),), self.returns)}

    def _told(self, obs: Tensor) -> Tensor:
        leaves = self.leaves(obs)
        return told(**leaves) if "returns" in leaves else obs

    def chosen(self, obs: Tensor, actions: Tensor, candidates: int, pick: str | None = None) -> Tensor:
        """The best of each state's `candidates` actions, `[B, A]` of `[B * candidates, A]`; obs encoded, as many rows.

        The critics are not those that `config.compile` makes: whoever compiles the whole choice has them in it.
        """
        both = torch.cat([obs, actions], -1)
        q_h = self._violation(self.nets["q_h_target"](both)).amax(0).reshape(-1, candidates)
        q = self.nets["q_target"](both).amin(0).reshape(-1, candidates)
        index = select(q_h - self.threshold, q, pick or self.config.pick)
        states = torch.arange(len(index), device=index.device)
        return actions.reshape(len(index), candidates, -1)[states, index]

    def act(self, obs: Any, generator: torch.Generator, *, pick: str | None = None, chain: Chain = ()) -> Any:
        """The chosen one of `config.candidates` actions for each state, `[B, A]` in [-1, 1].

        Args:
            chain: guidance of the candidates, or a function from the critics of their states to it:
                `lambda c: [Barrier(lambda a: -c.q_h(a), metric="identity")]` moves each the least that Q_h asks for;
                with `config.condition_dropout`, `[CFG(2.0)]` draws them towards the return that `returns` names.

        Raises:
            ShapeError: observations of another size. DataError: NaN or infinite ones.
        """
        n = self.config.candidates

        def choose(o: Tensor) -> Tensor:
            if not chain:
                return self._choose(self, o, *self._draws(len(o) * n, generator), n, pick)
            many = o.repeat_interleave(n, 0)
            return self.chosen(many, self._sample(many, generator, chain), n, pick)

        return self._asked(choose, obs)

    def _choice(self, obs: Tensor, noise: Tensor, fresh: Sequence[Tensor], n: int, pick: str | None) -> Tensor:
        """The chosen of n unguided candidates; all that is drawn is given, so that one compiled piece does it."""
        many = obs.repeat_interleave(n, 0)
        return self.chosen(many, ancestral(self._actor_ema, self._grid, self._told(many), noise, fresh), n, pick)

    def sample(self, obs: Any, generator: torch.Generator, *, chain: Chain = ()) -> Any:
        """One action of the EMA actor per state, unselected, `[B, A]`; `chain` as in `act`."""
        return self._query(lambda o: self._sample(o, generator, chain), obs)

    def _sample(self, obs: Tensor, generator: torch.Generator, chain: Chain) -> Tensor:
        if callable(chain):
            chain = chain(Critics(lambda a: self.scores(obs, a)[0], lambda a: self.scores(obs, a)[1]))
        if not chain:
            return self._ancestral(self._actor_ema, self._grid, self._told(obs), *self._draws(len(obs), generator))
        return ddpm(
            self.denoiser("actor_ema"),
            self._noise(len(obs), generator)
            / self._grid.s[0],  # the official code starts from unit noise, though s is a little less than 1 there
            self._grid,
            self.leaves(obs),
            tuple(chain),
            variance="beta",
            clip=(-1.0, 1.0),
            generators=[generator] * len(obs),
        )

    def _noise(self, rows: int, generator: torch.Generator) -> Tensor:
        return torch.randn(rows, self.act_size, generator=generator, device=generator.device).to(self.device)

    def _draws(self, rows: int, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        """What an unguided sample draws, in the order of `ddpm`: a start, and noise for all steps but the last."""
        noise, generators = self._noise(rows, generator), [generator] * rows
        return noise, [randn(generators, (self.act_size,), device=self.device) for _ in range(self._grid.steps - 1)]
