"""The 38 tasks of DSRL [dsrl] on current Python, numpy, gymnasium and mujoco; `make dsrl` installs the simulators.

Importing this package patches them (see `compat`, `reset`, `seeding`, `metadrive`), imports dsrl and so registers its
ids: `gymnasium.make("safeplan_envs.dsrl:OfflineBallCircle-v0")`. `make` adds what offline RL wants. MetaDrive is
optional: without it 29 ids work.
"""

from typing import Any

import gymnasium as gym
import numpy as np

from safeplan.errors import CapabilityError, ConfigError
from safeplan_envs.dsrl import metadrive
from safeplan_envs.dsrl.ids import ids
from safeplan_envs.dsrl.prepare import prepare
from safeplan_envs.dsrl.reset import fast_resets
from safeplan_envs.dsrl.wrapper import OfflineTask

__all__ = ["OfflineTask", "available", "fast_resets", "ids", "make"]

prepare()


def available() -> tuple[str, ...]:
    """The ids whose simulator is installed: 38, or 29 without MetaDrive."""
    return tuple(id for id in ids() if id in gym.registry)


def make(id: str, *, fast_reset: bool = True, **kwargs: Any) -> OfflineTask:
    """A DSRL task for offline RL.

    Args:
        id: one of `ids()`.
        fast_reset: see `reset.py`; False builds safety_gymnasium's worlds as they were, half a second or more each.
        kwargs: for `gymnasium.make`.

    Raises:
        ConfigError: an unknown id.
        CapabilityError: MetaDrive is asked for and not installed.
    """
    if id not in ids():
        raise ConfigError(f"id={id!r} is not one of DSRL's 38 tasks: {', '.join(ids())}")
    if id not in gym.registry:
        raise CapabilityError(f"{id}: MetaDrive is {metadrive.missing()}. Run `make dsrl` and read what it says")
    # the checker is for authors of environments, and wants float32 from simulators that give float64
    with np.errstate(over="ignore"):  # gymnasium compares float32 bounds with the largest float64
        return OfflineTask(gym.make(id, disable_env_checker=True, **kwargs), fast_reset)
