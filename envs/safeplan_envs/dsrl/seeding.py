"""Seeds that hold: each environment owns its generator, and no episode feels the one before it."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import gymnasium as gym
import numpy as np

SEEDS = 2**32  # numpy's legacy generator takes no larger ones
ALOFT = (0.0, 0.0, 50.0)  # m, touching nothing


@contextmanager
def borrowed(rng: np.random.RandomState) -> Iterator[None]:
    """Inside the block `rng` is numpy's global generator; afterwards the global one is what it was."""
    saved = np.random.get_state()
    np.random.set_state(rng.get_state())
    try:
        yield
    finally:
        rng.set_state(np.random.get_state())
        np.random.set_state(saved)


def seed_bullet() -> None:
    """bullet_safety_gym ignores `reset(seed=)`: it draws from numpy's global generator, and episodes leak.

    Each environment gets a generator of its own, lent to the global functions while it is built and reset (its steps
    draw nothing). The first `reset(seed=s)` starts as `np.random.seed(s); reset()` did, which is how DSRL's users
    seeded. Later ones start like the first one: see `forget_episode`.
    """
    builder = import_module("bullet_safety_gym.envs.builder").EnvironmentBuilder
    build, start = builder.__init__, builder.reset

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        self._numpy = np.random.RandomState()
        with borrowed(self._numpy):
            build(self, *args, **kwargs)

    def reset(self: Any, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        gym.Env.reset(self, seed=seed)
        if seed is not None:
            self._numpy.seed(seed % SEEDS)
        forget_episode(self)
        with borrowed(self._numpy):
            return start(self)

    builder.__init__, builder.reset = __init__, reset


def forget_episode(env: Any) -> None:
    """Bullet restores positions and velocities of its saved state, not motors and contacts, and `reset` makes a step.

    So the last command of cars and drones drove the first step of the next episode (their first observations differed
    by up to 2), and balls kept the contact with the ground where they were. Motors go limp and the agent is lifted
    off, as it is before the first episode; the saved state then puts it back.
    """
    body = env.agent.body_id
    for joint in range(env.bc.getNumJoints(body)):
        env.bc.setJointMotorControl2(body, joint, env.bc.VELOCITY_CONTROL, targetVelocity=0, force=0)
    if env.stored_state_id >= 0:
        env.bc.resetBasePositionAndOrientation(body, ALOFT, (0, 0, 0, 1))
        env.bc.performCollisionDetection()


def seed_safety() -> None:
    """safety_gymnasium takes the seed of an unseeded environment from the global generator, which moves it on."""
    builder = import_module("safety_gymnasium.builder").Builder
    set_seed = builder.set_seed

    def fresh(self: Any, seed: int | None = None) -> None:
        set_seed(self, int(np.random.default_rng().integers(SEEDS)) if seed is None else seed % SEEDS)

    builder.set_seed = fresh
