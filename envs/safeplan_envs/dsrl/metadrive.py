"""MetaDrive 0.2.6.0 without the old gym, on numpy 2, with seeds that hold."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np

from safeplan.errors import CapabilityError
from safeplan_envs.dsrl.seeding import SEEDS, borrowed

OLD_GYM = ("", ".spaces", ".envs", ".envs.registration")
RETYPED = ("metadrive.utils.config", "metadrive.utils.math_utils")  # where the names are used, tests apart


NEEDED = ("metadrive", "panda3d", "gltf", "cv2")
_broken: list[str] = []


def missing() -> str:
    """Why MetaDrive cannot be used here; empty when it can."""
    lacking = [p for p in NEEDED if find_spec(p) is None]
    return f"not installed ({', '.join(lacking)})" if lacking else "".join(f"broken ({b})" for b in _broken)


@contextmanager
def gymnasium_as_gym() -> Iterator[None]:
    """Inside the block `import gym` gives gymnasium, whether gym is installed or not.

    MetaDrive and dsrl's MetaDrive tasks import gym, whose last release does not know numpy 2, for spaces, the base
    class and `register`; in gymnasium these are the same. All their imports of it are at the top of modules.
    """
    names = {f"gym{n}": f"gymnasium{n}" for n in OLD_GYM}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: import_module(new) for name, new in names.items()})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def import_metadrive() -> None:
    """Import it inside `gymnasium_as_gym`; where that fails, `missing` says why, and the other suites go on without.

    Its own ids are not registered: that code reads a registry of old gym.
    """
    if missing():
        return
    sys.modules.setdefault("metadrive.register", ModuleType("metadrive.register", "Left out: see safeplan_envs.dsrl."))
    try:
        import_module("metadrive")
    except ImportError as e:
        _broken.append(str(e))
        return
    # np.float and np.int went with numpy 1.24: the two modules that use them see a numpy that has them
    old = ModuleType("numpy", "numpy with two names of old, for MetaDrive alone.")
    vars(old).update(vars(np) | {"float": float, "int": int})
    for name in RETYPED:
        import_module(name).np = old  # type: ignore[attr-defined]


def seed_metadrive() -> None:
    """dsrl's tasks hand the seed to MetaDrive as the number of a map, and traffic and scenery ignore it.

    Every task has one map (number `start_seed`), so most seeds were a KeyError; traffic drew from the system's entropy,
    scenery from numpy's global generator. Now the seed picks the map modulo their number, and seeds the rest. A used
    engine repeats an episode to about 1e-6 only, so a reset with a seed starts a new one (half a second more).
    """
    task = import_module("dsrl.offline_metadrive.gym_envs").SafeMetaDriveEnv_FSRL
    base = import_module("metadrive.envs").SafeMetaDriveEnv
    engines = import_module("metadrive.engine.engine_utils")
    randomizable = import_module("metadrive.base_class.randomizable").Randomizable

    def reset(self: Any, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        gym.Env.reset(self, seed=seed)
        if seed is not None and self.engine is engines.get_engine():
            self.close()
        with borrowed(np.random.RandomState(None if seed is None else seed % SEEDS)):
            self.lazy_init()
            if self.engine is not engines.get_engine():
                raise CapabilityError("MetaDrive runs one environment per process: close() the other one first")
            if seed is None:
                return base.reset(self), {}
            randomizable.seed(self.engine.traffic_manager, int(seed))  # the manager's own method does nothing here
            map_number = self.config["start_seed"] + int(seed) % self.config["environment_num"]
            return base.reset(self, force_seed=map_number), {}

    task.reset = reset


def register_quietly() -> None:
    """gymnasium's checker resets and steps by rules of 2024; MetaDrive's spaces change with its engine."""
    for id, spec in gym.registry.items():
        if id.startswith("OfflineMetadrive-"):
            spec.disable_env_checker = True
