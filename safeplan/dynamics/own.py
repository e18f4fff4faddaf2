"""Your own vehicle (a Python file) and your own scene (a YAML file)."""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import yaml

from safeplan.dynamics.system import System
from safeplan.errors import ConfigError, DataError
from safeplan.schema import did_you_mean
from safeplan.types import Array, Belief, Goal, Obstacle, Scene

SCENE_KEYS = ("start", "goal", "bounds", "obstacles", "stretch_s")


class Vehicle(NamedTuple):
    """A system and the belief around a start state."""

    system: System
    belief: Callable[[Array], Belief]


def load_vehicle(path: str | Path) -> Vehicle:
    """Run the Python file `path` and take `system` and `belief` from it.

    Raises:
        ConfigError: no such file, an error inside it, or one of the two names missing or of another type.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"system.file={path}: no such file. Give a Python file that defines `system` and `belief(x)`")
    spec = importlib.util.spec_from_file_location(f"safeplan_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"system.file={path}: not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise ConfigError(f"system.file={path}: running it failed with {type(e).__name__}: {e}") from e
    system, belief = getattr(module, "system", None), getattr(module, "belief", None)
    if callable(system):
        system = system()
    if not isinstance(system, System):
        raise ConfigError(
            f"system.file={path}: define `system`, a safeplan.dynamics.System (or a function that returns one)"
        )
    if not callable(belief):
        raise ConfigError(f"system.file={path}: define `belief(x)`, which returns the uncertainty around a start state")
    return Vehicle(system, cast(Callable[[Array], Belief], belief))


def load_scene(path: str | Path, system: System) -> tuple[Scene, Array]:
    """Scene and nominal start state `[n]` of a YAML file with start, goal, bounds and obstacles.

    Raises:
        DataError: no such file, no YAML, a missing or unknown key, or something that is not a finite number.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"scene={path}: no such file. Give a YAML file with {', '.join(SCENE_KEYS)}")
    try:
        raw = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise DataError(f"scene={path}: not YAML ({' '.join(str(e).split())})") from e
    if not isinstance(raw, dict):
        raise DataError(f"scene={path}: expected the keys {', '.join(SCENE_KEYS)}")
    where = f"scene={path}"
    _keys(where, raw, SCENE_KEYS, need=("start", "goal", "bounds"))
    start = np.array(_numbers(f"{where}: start", raw["start"], system.n))
    bounds = _numbers(f"{where}: bounds", raw["bounds"], 4)
    if not (bounds[0] < bounds[2] and bounds[1] < bounds[3]):
        raise DataError(f"{where}: bounds are {bounds}, expected xlo < xhi and ylo < yhi in [xlo, ylo, xhi, yhi]")
    goal = Goal(**_fields(f"{where}: goal", raw["goal"], Goal))
    obstacles = tuple(
        Obstacle(**_fields(f"{where}: obstacles[{i}]", o, Obstacle)) for i, o in enumerate(raw.get("obstacles") or ())
    )
    (stretch,) = _numbers(f"{where}: stretch_s", [raw.get("stretch_s", 0.5)], 1)
    if stretch <= 0:
        raise DataError(f"{where}: stretch_s is {stretch}, expected seconds above 0")
    return Scene(obstacles, goal, tuple(bounds), stretch), start  # type: ignore[arg-type]


def _keys(where: str, given: dict, known: Any, need: Any) -> None:
    for key in given:
        if key not in known:
            raise DataError(f"{where}: unknown key {key!r}.{did_you_mean(str(key), known)} Valid: {', '.join(known)}")
    for key in need:
        if key not in given:
            raise DataError(f"{where}: {key} is missing. Needed: {', '.join(need)}")


def _numbers(where: str, value: Any, n: int) -> list[float]:
    ok = isinstance(value, list) and len(value) == n
    if not ok or not all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in value):
        raise DataError(f"{where} is {value}, expected {n} finite numbers")
    return [float(v) for v in value]


def _fields(where: str, given: Any, cls: type) -> dict[str, float]:
    fields = dataclasses.fields(cls)
    if not isinstance(given, dict):
        raise DataError(f"{where} is {given!r}, expected {', '.join(f.name for f in fields)}")
    need = [f.name for f in fields if f.default is dataclasses.MISSING]
    _keys(where, given, [f.name for f in fields], need)
    return {k: _numbers(f"{where}.{k}", [v], 1)[0] for k, v in given.items()}
