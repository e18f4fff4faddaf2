"""Episodes of an acting policy in many environments at once: one batch of actions per step, whatever the policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from safeplan.errors import ConfigError, ShapeError
from safeplan.rng import fold, torch_rng
from safeplan.types import Array


class Actor(Protocol):
    """Acts for B episodes at once. What it remembers of them is `state`, passed in and out."""

    def start(self, episodes: int, limit: float) -> Any:
        """State at the beginning of `episodes` episodes whose cost is to stay within `limit`."""
        ...

    def act(self, obs: Array, state: Any, generator: torch.Generator) -> tuple[Array, Any]:
        """Actions `[B, A]` in [-1, 1] for observations `[B, S]`."""
        ...

    def record(self, state: Any, rewards: Array, costs: Array) -> Any:
        """State after the step's rewards and costs `[B]`."""
        ...


@dataclass(frozen=True)
class Episodes:
    """What happened in n episodes, all `[n]`: sums, steps, and the seed that each was reset with."""

    returns: Array
    costs: Array
    lengths: Array
    seeds: Array

    def violated(self, limit: float) -> Array:
        """`[n]` true where the cost exceeded `limit`."""
        return self.costs > limit


def rollout(
    envs: Sequence[Any],
    actor: Actor,
    *,
    episodes: int,
    limit: float,
    seed: int,
    max_steps: int,
    gamma: float = 1.0,
) -> Episodes:
    """Run `episodes` episodes, `len(envs)` at a time, until each ends by itself or after `max_steps` steps.

    Episode i is reset with a seed that depends on (seed, i) alone. Costs are `info["cost"]`. Rows of episodes that have
    ended are still asked for actions, which are not used. The sums are discounted by `gamma` in (0, 1] a step.

    Raises:
        ConfigError: no environments or episodes, or `gamma` out of range.
        ShapeError: actions of another shape, or not finite.
        KeyError: an environment without `info["cost"]`.
    """
    if not len(envs) or episodes < 1 or max_steps < 1:
        raise ConfigError(
            f"rollout: {len(envs)} environments, {episodes} episodes of {max_steps} steps; give 1 or more"
        )
    if not 0 < gamma <= 1:
        raise ConfigError(f"rollout: gamma is {gamma}, expected in (0, 1]")
    seeds = np.array([fold(seed, "rollout", i) % 2**31 for i in range(episodes)])  # bullet takes no larger ones
    parts = [
        _wave(envs[: len(s)], actor, s, limit, torch_rng(seed, "rollout", "actions", int(i)), max_steps, gamma)
        for i, s in enumerate(np.split(seeds, range(len(envs), episodes, len(envs))))
    ]
    returns, costs, lengths = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Episodes(returns, costs, lengths, seeds)


def _wave(
    envs: Sequence[Any],
    actor: Actor,
    seeds: Array,
    limit: float,
    generator: torch.Generator,
    max_steps: int,
    gamma: float,
) -> tuple[Array, Array, Array]:
    n = len(envs)
    obs = np.stack([e.reset(seed=int(s))[0] for e, s in zip(envs, seeds, strict=True)]).astype(np.float32)
    size = envs[0].action_space.shape
    sums, lengths, alive = np.zeros((2, n)), np.zeros(n, np.int64), np.ones(n, bool)
    state = actor.start(n, limit)
    for k in range(max_steps):
        actions, state = actor.act(obs, state, generator)
        if actions.shape != (n, *size) or not np.isfinite(actions).all():
            raise ShapeError(f"rollout: actions are {actions.shape}, expected {(n, *size)}, all of them finite")
        now = np.zeros((2, n))
        for i in np.flatnonzero(alive):
            seen, reward, terminated, truncated, info = envs[int(i)].step(actions[i])
            obs[i], now[:, i] = seen, (reward, info["cost"])
            lengths[i] += 1
            alive[i] = not (terminated or truncated)
        sums += gamma**k * now
        state = actor.record(state, *now)
        if not alive.any():
            break
    return sums[0], sums[1], lengths
