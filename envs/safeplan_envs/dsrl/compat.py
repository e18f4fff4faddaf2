"""What makes safety_gymnasium 0.4.0 and dsrl 0.1.0, of 2023, run on Python 3.11, gymnasium 1.x and current mujoco.

Every patch is one function that says what breaks and why, and changes only the package that it is about.
`safeplan_envs.dsrl` calls each of them once, in this order; nothing is undone.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np

# where DSRL keeps its files since November 2025; the host that dsrl 0.1.0 names (data.offline-saferl.org) is gone
ADDRESS = "https://huggingface.co/datasets/YYY-45/DSRL/resolve/main/"


def add_lost_gymnasium_modules() -> None:
    """safety_gymnasium imports four modules that gymnasium 1.0 removed; they get what their names mean today.

    `TimeLimit` and `PassiveEnvChecker` moved to `gymnasium.wrappers`, `AutoResetWrapper` became `Autoreset`.
    `EnvCompatibility` served environments older than gymnasium 0.26; no DSRL task is one, so an empty class will do.
    """
    new = gym.wrappers
    lost = {
        "compatibility": {"EnvCompatibility": type("EnvCompatibility", (), {})},
        "autoreset": {"AutoResetWrapper": new.Autoreset},
        "time_limit": {"TimeLimit": new.TimeLimit},
        "env_checker": {"PassiveEnvChecker": new.PassiveEnvChecker},
    }
    for name, content in lost.items():
        full = f"gymnasium.wrappers.{name}"
        if full not in sys.modules and find_spec(full) is None:
            sys.modules[full] = module = ModuleType(full, "Stand-in for a module that gymnasium 1.0 removed.")
            vars(module).update(content)


class Color(np.ndarray):
    """An RGBA colour `[4]` that may be the default of a dataclass field: hashed by identity, like any object."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def make_colors_hashable() -> None:
    """safety_gymnasium's dataclasses have arrays as defaults; Python 3.11 refuses defaults without a hash."""
    table = import_module("safety_gymnasium.assets.color").COLOR
    table.update({name: np.asarray(rgba).view(Color) for name, rgba in table.items()})


def replace_safety_make() -> None:
    """`safety_gymnasium.make` reads fields of `EnvSpec` that gymnasium 1.0 removed (auto-reset, the old-API wrapper).

    The rest of what it did: create, note the spec, enforce the order of calls, limit the time.
    """
    safety: Any = import_module("safety_gymnasium")
    registration: Any = import_module("safety_gymnasium.utils.registration")
    limit = import_module("safety_gymnasium.wrappers").SafeTimeLimit

    def make(id: str, **kwargs: Any) -> gym.Env:
        spec = gym.spec(id)
        create = gym.envs.registration.load_env_creator(spec.entry_point)  # type: ignore[arg-type]
        env = create(**{**spec.kwargs, **kwargs})
        env.unwrapped.spec = spec
        env = gym.wrappers.OrderEnforcing(env)
        return limit(env, spec.max_episode_steps) if spec.max_episode_steps else env

    safety.make = registration.make = make


def accept_array_joint_ids() -> None:
    """safety_gymnasium looks joints up by arrays of one number; `MjModel.jnt` takes plain integers since mujoco 3."""
    model = import_module("mujoco").MjModel
    lookup = model.jnt
    model.jnt = lambda self, key: lookup(self, key.item() if isinstance(key, np.ndarray) else key)


@contextmanager
def quiet(stream: Any = None) -> Iterator[None]:
    """What C code writes to standard output inside the block is dropped; `stream` is for the signature's sake."""
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


def mend_redirection() -> None:
    """bullet_safety_gym silences Bullet by C symbols named like `sys.stdout`, and leaves a file open at each use.

    Where Python's streams are replaced (pytest, notebooks) there is no such symbol, and the import fails; where they
    are not, every environment costs a file descriptor. Imported with the first streams, then given `quiet`.
    """
    now, sys.stderr = sys.stderr, sys.__stderr__
    try:
        builder: Any = import_module("bullet_safety_gym.envs.builder")
    finally:
        sys.stderr = now
    builder.RedirectStream = quiet


def point_to_new_address() -> None:
    """dsrl 0.1.0 downloads from a host that is gone; the files and their names are the same at the new one."""
    urls = import_module("dsrl.infos").DATASET_URLS
    moved = {old: ADDRESS + old.rpartition("/")[2] for old in urls.values()}
    urls.update({name: moved[old] for name, old in urls.items()})
    for spec in gym.registry.values():
        if spec.kwargs.get("dataset_url") in moved:
            spec.kwargs["dataset_url"] = moved[spec.kwargs["dataset_url"]]
