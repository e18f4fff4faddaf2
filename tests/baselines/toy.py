"""A toy task of which everything is known: hurrying pays and costs, and logs of drivers that differ in how they hurry.

Speed a in [-1, 1]: the reward of a step is a, its cost 1 above HURRY. An episode of H steps is worth H to who
hurries all the way at cost H, and HURRY H at no cost.
"""

import gymnasium as gym
import numpy as np

from safeplan.data import Log

H, HURRY = 12, 0.5


def observe(speed, left):
    """`[..., 2]` from the last speed and the share of the episode that is left."""
    return np.stack([speed, left], -1).astype(np.float32)


def outcome(speed):
    """Reward and cost of moving at `speed`, elementwise."""
    return speed, (speed > HURRY).astype(float)


class Road(gym.Env):
    """One driver; the observation holds its last speed and the share of the episode that is left."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.speed, self.k = float(self.np_random.uniform(-0.5, 1.0)), 0
        return observe(self.speed, 1.0), {}

    def step(self, action):
        self.speed, self.k = float(action[0]), self.k + 1
        reward, cost = outcome(np.asarray(self.speed))
        left = 1.0 - self.k / H
        return observe(self.speed, left), float(reward), False, self.k == H, {"cost": float(cost)}


def road_log(episodes: int = 120, seed: int = 0, low: float = -0.5, high: float = 1.0, noise: float = 0.2) -> Log:
    """Drivers who keep to about the speed that they start with, all of them at once, episode after episode."""
    rng = np.random.default_rng(seed)
    speed = rng.uniform(low, high, episodes)
    parts = {k: [] for k in ("obs", "next", "action", "reward", "cost")}
    for k in range(H):
        action = np.clip(speed + noise * rng.normal(size=episodes), -1.0, 1.0)
        reward, cost = outcome(action)
        row = (observe(speed, np.full(episodes, 1 - k / H)), observe(action, np.full(episodes, 1 - (k + 1) / H)))
        for key, value in zip(parts, (*row, action[:, None], reward, cost), strict=True):
            parts[key].append(value)
        speed = action
    flat = {k: np.stack(v, 1).reshape(episodes * H, *v[0].shape[1:]).astype(np.float32) for k, v in parts.items()}
    ends = np.tile(np.arange(H) == H - 1, episodes)
    return Log(*(flat[k] for k in parts), np.zeros_like(ends), ends)


def two_armed_log(episodes: int = 60, seed: int = 0) -> Log:
    """Half of the drivers crawl (0.2, no cost), half hurry (0.8, all cost), from the same start."""
    rng = np.random.default_rng(seed)
    fast = np.arange(episodes) % 2 == 1
    action = np.where(fast, 0.8, 0.2)[:, None] + 0.02 * rng.normal(size=(episodes, H))
    before = np.concatenate([np.zeros((episodes, 1)), action[:, :-1]], 1)
    left = np.tile(1 - np.arange(H) / H, (episodes, 1))
    reward, cost = outcome(action)
    obs, after = observe(0 * before, left), observe(0 * action, left - 1 / H)  # speed is not seen: the arm is not
    flat = [v.reshape(episodes * H, -1).astype(np.float32) for v in (obs, after, action, reward, cost)]
    ends = np.tile(np.arange(H) == H - 1, episodes)
    return Log(*flat[:3], flat[3][:, 0], flat[4][:, 0], np.zeros_like(ends), ends)


def descend(learner, source, updates: int, seed: int = 0):
    """`updates` updates outside the training loop; the last metrics."""
    from safeplan.rng import torch_rng

    found = {}
    for i in range(updates):
        found = learner.update(source.batch(i, seed), torch_rng(seed, "update", i))
    return found
