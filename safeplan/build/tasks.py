"""Systems, environments and episodes to be flown."""

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeplan import schema
from safeplan.errors import CapabilityError, ConfigError, DataError

if TYPE_CHECKING:
    from safeplan.dynamics import System
    from safeplan.dynamics.world import World
    from safeplan.types import Scene

ENV_IDS = {
    "hovercraft": "safeplan_envs:safeplan/Hovercraft-v0",
    "driving": "safeplan_envs:safeplan/Driving-v0",
    "point_robot": "safeplan_envs:safeplan/PointRobot-v0",
}
SYSTEMS = {
    "hovercraft": ("safeplan.dynamics.hovercraft", "hovercraft"),
    "driving": ("safeplan.dynamics.bicycle", "bicycle"),
    "point_robot": ("safeplan.dynamics.unicycle", "unicycle"),
}


def device(name: str) -> str:
    """`auto` resolved; CapabilityError when CUDA is asked for and absent."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise CapabilityError("device=cuda, but torch finds no CUDA device. Use device=cpu or a CUDA build of torch")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def env(cfg: schema.EnvConfig, split: str, **options: Any) -> Any:
    """The Gymnasium environment, unwrapped; `split` names its random stream."""
    import gymnasium as gym

    options |= {"difficulty": cfg.difficulty, "split": split, "max_seconds": cfg.max_seconds}
    return gym.make(ENV_IDS[cfg.kind], **options).unwrapped


@dataclass(frozen=True)
class Task:
    """One episode to be flown: the simulated truth, and where it came from."""

    system: "System"
    world: "World"
    scene: "Scene"  # at time 0
    max_seconds: float
    kind: str | None  # the env, or None for a vehicle of the user's own
    source: dict[str, Any]  # for plan.json: enough to build the system again
    span: float = float("inf")  # bound on the entries of its observations


def task(
    cfg: schema.EnvConfig, split: str, seed: int, system_file: str | None = None, scene: str | None = None
) -> Task:
    """Episode `seed` of an env, or of a user's vehicle in a scene of the user's own.

    Raises:
        ConfigError: a vehicle without a scene; a fault in the vehicle's file.
        DataError: a fault in the scene's file.
    """
    from safeplan.dynamics.own import load_scene, load_vehicle
    from safeplan.dynamics.world import World
    from safeplan.rng import numpy_rng

    if system_file is None:
        made = env(cfg, split)
        options = {}
        if scene is not None:
            options = dict(zip(("scene", "start"), load_scene(scene, made.system), strict=True))
        made.reset(seed=seed, options=options)
        world = made.world
        return Task(made.system, world, world.initial, cfg.max_seconds, cfg.kind, {"env": cfg.kind}, made.span)
    if scene is None:
        raise ConfigError("system.file needs a scene: scene=FILE.yaml (see scripts/examples/scene.yaml)")
    vehicle = load_vehicle(system_file)
    there, start = load_scene(scene, vehicle.system)
    world = World(vehicle.system, there, vehicle.belief(start), numpy_rng(seed, "own", split), cfg.max_seconds + 1.0)
    file = Path(system_file).resolve()
    source: dict[str, Any] = {"file": str(file), "sha256": digest(file)}
    if vehicle.helpers:
        source["helpers"] = {name: digest(file.parent / name) for name in vehicle.helpers}
    return Task(vehicle.system, world, there, cfg.max_seconds, None, source)


def digest(path: str | Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def system_of(source: dict[str, Any]) -> "System":
    """The system that a plan.json names: of an env, or from the user's files, which must not have changed.

    Raises:
        DataError: it is neither, or the file has changed.
    """
    from safeplan.dynamics.own import load_vehicle

    env, file, helpers = source.get("env"), source.get("file"), source.get("helpers", {})
    if "env" in source and isinstance(env, str) and env in SYSTEMS:
        module, name = SYSTEMS[env]
        return getattr(importlib.import_module(module), name)()
    if "env" in source or not isinstance(file, str) or not isinstance(helpers, dict):
        raise DataError(f"plan: its system is {source}, expected an env ({', '.join(SYSTEMS)}) or a file")
    if not Path(file).is_file():
        raise DataError(f"plan: {file}, the vehicle that it was made for, is not there. Restore it to verify the plan")
    known = {file: source.get("sha256"), **{str(Path(file).parent / k): v for k, v in helpers.items()}}
    for path, sha in known.items():  # before its code is run
        if not Path(path).is_file() or digest(path) != sha:
            raise DataError(f"plan: {path} has changed since the plan was made; plan again to verify")
    vehicle = load_vehicle(file)
    if set(vehicle.helpers) != set(helpers):
        raise DataError(
            f"plan: {file} imports {', '.join(sorted(vehicle.helpers)) or 'nothing'} from its folder, the plan names "
            f"{', '.join(sorted(helpers)) or 'nothing'}; plan again to verify"
        )
    return vehicle.system
