"""Trained policies as actors of `rollout`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from safeplan.errors import ConfigError
from safeplan.feasibility import FisorPolicy, with_budget
from safeplan.feasibility.one_step import OneStepPolicy
from safeplan.feasibility.policy import Chain
from safeplan.types import Array


@dataclass(frozen=True)
class FisorActor:
    """FISOR or its one-step policy; with a `policy.budget` it keeps account of the limit, else it allows no cost.

    pick: how one of its candidates is chosen, None: as configured. chain: guidance of the candidates, not of one step.
    """

    policy: FisorPolicy | OneStepPolicy
    pick: str | None = None
    chain: Chain = ()

    def __post_init__(self) -> None:
        if self.chain and isinstance(self.policy, OneStepPolicy):
            raise ConfigError("a one-step policy takes no guidance: it has no steps to guide. Leave the chain out")

    def start(self, episodes: int, limit: float) -> Array:
        """What is left of the limit, `[B]`."""
        return np.full(episodes, limit, np.float64)

    def act(self, obs: Array, state: Any, generator: torch.Generator) -> tuple[Array, Any]:
        budget = self.policy.budget
        seen = with_budget(obs, state, budget) if budget > 0 else obs
        if isinstance(self.policy, OneStepPolicy):
            return self.policy.act(seen, generator, pick=self.pick), state
        return self.policy.act(seen, generator, pick=self.pick, chain=self.chain), state

    def record(self, state: Any, rewards: Array, costs: Array) -> Array:
        return state - costs


@dataclass(frozen=True)
class Memoryless:
    """A policy that sees the observation alone: `policy.act(obs [B, S], generator) -> [B, A]`."""

    policy: Any

    def start(self, episodes: int, limit: float) -> None:
        return None

    def act(self, obs: Array, state: Any, generator: torch.Generator) -> tuple[Array, Any]:
        return self.policy.act(obs, generator), state

    def record(self, state: Any, rewards: Array, costs: Array) -> Any:
        return state


@dataclass(frozen=True)
class Reserved:
    """An actor that is told `reserve` less than the limit, as what it keeps to is passed by a few where critics err.

    Raises:
        ConfigError: a reserve that is no cost; a policy that knows no limit.
    """

    actor: Any
    reserve: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.reserve < np.inf:
            raise ConfigError(f"reserve is {self.reserve}, expected a cost, 0 or more")
        blind = isinstance(self.actor, FisorActor) and not self.actor.policy.budget > 0
        if blind or isinstance(self.actor, Memoryless):
            raise ConfigError("a reserve is kept of a limit, and this policy knows none: train it with policy.budget")

    def start(self, episodes: int, limit: float) -> Any:
        return self.actor.start(episodes, limit - self.reserve)

    def act(self, obs: Array, state: Any, generator: torch.Generator) -> tuple[Array, Any]:
        return self.actor.act(obs, state, generator)

    def record(self, state: Any, rewards: Array, costs: Array) -> Any:
        return self.actor.record(state, rewards, costs)
