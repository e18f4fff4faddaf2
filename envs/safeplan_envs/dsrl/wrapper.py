"""What offline RL wants of a DSRL task: float32, actions in [-1, 1], a cost in every info."""

from typing import Any

import gymnasium as gym
import numpy as np

from safeplan.errors import DataError, ShapeError
from safeplan.types import Array
from safeplan_envs.dsrl.reset import fast_resets


class OfflineTask(gym.Wrapper[Array, Array, Array, Array]):
    """A DSRL task with one face for all three suites.

    Observations `[S]` are float32. Actions `[A]` in [-1, 1] are clipped and mapped linearly onto the task's bounds.
    `info["cost"]` is a float, after a reset 0.0. A seed given to `reset` fixes the episode.

    Args:
        env: the task as gymnasium makes it.
        fast_reset: build safety_gymnasium's worlds with a plain sky (see `reset.py`); nothing else knows a difference.
    """

    def __init__(self, env: gym.Env, fast_reset: bool = True):
        super().__init__(env)
        self.fast_reset = fast_reset
        seen, taken = env.observation_space, env.action_space
        assert isinstance(seen, gym.spaces.Box) and isinstance(taken, gym.spaces.Box)  # all 38 are
        with np.errstate(over="ignore"):  # "unbounded" may be the largest float64
            low, high = seen.low.astype(np.float32), seen.high.astype(np.float32)
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, taken.shape, np.float32)
        # middle + half * action, so that bounds of [-1, 1] change no bit
        self._middle, self._half, self._dtype = (taken.high + taken.low) / 2, (taken.high - taken.low) / 2, taken.dtype

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        with fast_resets(self.fast_reset):
            obs, info = self.env.reset(seed=seed, options=options)
        return np.asarray(obs, np.float32), {**info, "cost": 0.0}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """One step.

        Raises:
            ShapeError: the action is not `[A]`.
            DataError: it holds NaN or infinity, which the simulators would take.
        """
        a = np.asarray(action, np.float32)
        if a.shape != self.action_space.shape:
            raise ShapeError(f"action is {a.shape}, expected {self.action_space.shape} in [-1, 1]")
        if not np.isfinite(a).all():
            raise DataError(f"action is {a}: NaN and infinity cannot be carried out. Look at the policy")
        command = (self._middle + self._half * np.clip(a, -1.0, 1.0)).astype(self._dtype)
        obs, reward, terminated, truncated, info = self.env.step(command)
        cost = float(info["cost"])
        return np.asarray(obs, np.float32), float(reward), bool(terminated), bool(truncated), {**info, "cost": cost}

    def get_dataset(self, path: str | None = None) -> dict[str, Array]:
        """dsrl's own reader (downloads when no path is given); `safeplan.data.read_log` reads the same files."""
        return self.unwrapped.get_dataset(path)  # type: ignore[attr-defined]

    def set_target_cost(self, limit: float) -> None:
        """The episode cost that `get_normalized_score` divides by."""
        self.unwrapped.set_target_cost(limit)  # type: ignore[attr-defined]

    def get_normalized_score(self, ret: float, cost: float) -> tuple[float, float]:
        """dsrl's normalised return and cost of an episode; `safeplan.data.dsrl` has the same as functions."""
        return self.unwrapped.get_normalized_score(ret, cost)  # type: ignore[attr-defined]
