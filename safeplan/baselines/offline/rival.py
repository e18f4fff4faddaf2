"""What all rivals share: networks by name, their optimisers, resuming, export, and acting without memory."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from safeplan.baselines.offline.facts import Facts
from safeplan.batches import TransitionSource, WindowSource
from safeplan.data import Log, Normalizer
from safeplan.errors import CapabilityError, CheckpointError, ConfigError, DataError, ShapeError
from safeplan.feasibility.networks import set_seed
from safeplan.nets import ema_update
from safeplan.rng import fold
from safeplan.types import Array

EDGE = 1e-5  # actions of logs are kept this far inside [-1, 1], where tanh can reach them


class Rival:
    """A learner of the training loop and an actor of rollouts; what `restore` returns acts only.

    Subclasses give `build`, `optimise`, `learn` and `choose`, and `columns` where they need other ones.

    Attributes:
        acting: networks that acting needs. targets: target network -> the network that it follows.
        limited: trained for one cost limit; `start` refuses any other.
    """

    kind: str = ""
    Settings: ClassVar[type]
    acting: ClassVar[tuple[str, ...]] = ()
    targets: ClassVar[Mapping[str, str]] = {}
    limited: ClassVar[bool] = True

    def __init__(
        self,
        facts: Facts,
        settings: Any = None,
        *,
        seed: int = 0,
        normalizer: Normalizer | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.facts, self.settings, self.device = facts, settings or self.Settings(), torch.device(device)
        self.config: dict[str, Any] = {"settings": asdict(self.settings), "facts": facts.to_dict()}
        self.normalizer = normalizer or Normalizer.identity(facts.obs_size)
        self._mean = torch.from_numpy(self.normalizer.mean).to(self.device)
        self._std = torch.from_numpy(self.normalizer.std).to(self.device)
        with torch.random.fork_rng(devices=[]):
            set_seed(fold(seed, self.kind, "init"), torch.device("cpu"))
            self.nets = nn.ModuleDict(self.build())
        for target, source in self.targets.items():
            self.nets[target].load_state_dict(self.nets[source].state_dict())
            self.nets[target].requires_grad_(False).eval()
        self.nets.to(self.device)
        self.optimisers: dict[str, torch.optim.Optimizer] = self.optimise()
        self.updates = 0

    # ---------------------------------------------------------------- what a method is
    def build(self) -> dict[str, nn.Module]:
        """Networks by name, on the CPU."""
        raise NotImplementedError

    def optimise(self) -> dict[str, torch.optim.Optimizer]:
        """Optimisers by the name of their network."""
        raise NotImplementedError

    def learn(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """One update; metrics as 0-d tensors."""
        raise NotImplementedError

    def choose(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """Actions `[B, A]` for encoded observations `[B, S]`."""
        raise NotImplementedError

    @classmethod
    def source(
        cls, log: Log, facts: Facts, settings: Any, device: str | torch.device
    ) -> TransitionSource | WindowSource:
        """Where batches come from."""
        return TransitionSource(transitions(log, settings.reward_scale), settings.batch, log.digest(), device)

    @classmethod
    def from_log(
        cls, log: Log, limit: float, settings: Any = None, *, seed: int = 0, device: str | torch.device = "cpu"
    ) -> tuple[Self, TransitionSource | WindowSource]:
        """Learner and source for `train`; `limit` is on an episode's cost, inf for none.

        Raises:
            DataError: faults of the log, or nothing in it that this method can learn from. ConfigError: a bad limit.
        """
        facts, settings = Facts.of(log, limit if cls.limited else math.inf), settings or cls.Settings()
        source = cls.source(log, facts, settings, device)
        normalizer = Normalizer.fit(log.observations)
        return cls(facts, settings, seed=seed, normalizer=normalizer, device=device), source

    # ---------------------------------------------------------------- learning
    def update(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> Mapping[str, Tensor]:
        """One update on a batch of `source`.

        Raises:
            ShapeError: observations or actions of another size. CapabilityError: this is a restored policy.
        """
        if not self.optimisers:
            raise CapabilityError(f"{self.kind}: a loaded policy acts, it cannot be trained. Train one from a log")
        for key, size in (("observations", self.facts.obs_size), ("actions", self.facts.act_size)):
            if batch[key].shape[-1] != size:
                raise ShapeError(f"{self.kind}: {key} are {tuple(batch[key].shape)}, expected {size} in the last axis")
        found = self.learn(batch, generator)
        self.updates += 1
        return found

    def adam(self, **rates: float) -> dict[str, torch.optim.Optimizer]:
        """One Adam for each named network, at its rate."""
        return {k: torch.optim.Adam(self.nets[k].parameters(), lr=lr, fused=True) for k, lr in rates.items()}

    def step(self, name: str, loss: Tensor) -> Tensor:
        """One step of one network's optimiser down `loss`."""
        self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers[name].step()
        return loss.detach()

    def follow(self, rate: float) -> None:
        """Move all targets a share `rate` towards their networks."""
        for target, source in self.targets.items():
            ema_update(self.nets[target], self.nets[source], rate)

    def encode(self, obs: Tensor) -> Tensor:
        """Observations as the networks see them, `[..., S]`."""
        return (obs - self._mean) / self._std if self.settings.normalize else obs

    def normal(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard normal numbers on this device, drawn from `generator`."""
        return torch.randn(shape, generator=generator, device=generator.device).to(self.device)

    # ---------------------------------------------------------------- acting
    def start(self, episodes: int, limit: float) -> Any:
        """No memory. Raises ConfigError for another limit than that of the training."""
        if self.limited and limit != self.facts.cost_limit:
            raise ConfigError(
                f"{self.kind}: trained for the cost limit {self.facts.cost_limit:g}, asked for {limit:g}. "
                "Train one for that limit"
            )

    def act(self, obs: Any, state: Any, generator: torch.Generator) -> tuple[Array, Any]:
        """Actions `[B, A]` in [-1, 1] for observations `[B, S]`."""
        seen = self.encode(self.observed(obs))
        with torch.no_grad():
            return self.choose(seen, generator).cpu().numpy(), state

    def record(self, state: Any, rewards: Array, costs: Array) -> Any:
        return state

    def observed(self, obs: Any) -> Tensor:
        """Observations `[B, S]` as a tensor. Raises ShapeError for another shape, DataError for NaN or infinity."""
        x = torch.as_tensor(np.asarray(obs), dtype=torch.float32, device=self.device)
        if x.ndim != 2 or x.shape[1] != self.facts.obs_size:
            raise ShapeError(f"{self.kind}: observations are {tuple(x.shape)}, expected [B, {self.facts.obs_size}]")
        if not bool(torch.isfinite(x).all()):
            raise DataError(f"{self.kind}: observations hold NaN or infinity. Check the environment")
        return x

    # ---------------------------------------------------------------- keeping
    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        optimisers = {k: o.state_dict() for k, o in self.optimisers.items()}
        return {"nets": self.nets.state_dict(), "optimisers": optimisers, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.nets.load_state_dict(state["nets"])
        for key, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][key])
        self.updates = state["updates"]

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What acting needs."""
        tensors = {f"{n}.{k}": v for n in self.acting for k, v in self.nets[n].state_dict().items()}
        tensors |= {f"normalizer.{k}": torch.from_numpy(v) for k, v in self.normalizer.to_dict().items()}
        return tensors, self.config

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Self:
        """The policy on the tensors' device, ready to act."""
        device = next(iter(tensors.values())).device if tensors else torch.device("cpu")
        stats = {k.split(".")[1]: v.cpu() for k, v in tensors.items() if k.startswith("normalizer.")}
        try:
            settings, facts = cls.Settings(**meta["settings"]), Facts.from_dict(meta["facts"])
            policy = cls(facts, settings, normalizer=Normalizer.from_dict(stats), device=device)
            for name in cls.acting:
                own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
                policy.nets[name].load_state_dict(own)
        except (KeyError, TypeError, RuntimeError, ConfigError) as e:
            raise CheckpointError(f"checkpoint does not fit this version's {cls.kind} ({e}). Train again") from e
        policy.nets.requires_grad_(False).eval()
        policy.optimisers = {}
        return policy


def transitions(
    log: Log, reward_scale: float = 1.0, rows: Array | None = None, *, beyond_timeouts: bool = True
) -> dict[str, Tensor]:
    """`observations`, `next_observations` `[N, S]`, `actions [N, A]`, `rewards`, `costs`, `masks` `[N]`, float32.

    A mask is 0 where the episode ended by itself and, unless what follows still counts, where its time was over.
    `rows`: those kept, all.
    """
    keep = slice(None) if rows is None else rows
    ends = log.terminals if beyond_timeouts else log.ends
    return {
        "observations": torch.from_numpy(log.observations[keep]),
        "next_observations": torch.from_numpy(log.next_observations[keep]),
        "actions": torch.from_numpy(log.actions[keep]).clamp(-1.0 + EDGE, 1.0 - EDGE),
        "rewards": torch.from_numpy(log.rewards[keep]) * reward_scale,
        "costs": torch.from_numpy(log.costs[keep]),
        "masks": torch.from_numpy(1.0 - ends[keep].astype(np.float32)),
    }
