"""Your own vehicle (a Python file) and your own scene (a YAML file)."""

import dataclasses
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from safeplan.dynamics.system import System
from safeplan.dynamics.trial import line_of, nominal, try_belief, try_system
from safeplan.errors import ConfigError, DataError
from safeplan.schema import did_you_mean
from safeplan.types import Array, CutNormalBelief, Goal, Obstacle, Scene

SCENE_KEYS = ("start", "goal", "bounds", "obstacles", "stretch_s")


class Vehicle(NamedTuple):
    """A system, the belief around a start state, and the files beside it that it imports, relative to its folder."""

    system: System
    belief: Callable[[Array], CutNormalBelief]
    helpers: tuple[str, ...] = ()


def load_vehicle(path: str | Path) -> Vehicle:
    """Run the Python file `path`, take `system` and `belief` from it, and try both out.

    It may import modules that lie beside it.

    Raises:
        ConfigError: no such file; an error inside it, in `f`, `at_rest` or `belief`; one of the two names missing; a
            wrong type, shape or range.
    """
    path = Path(path)
    who = f"system.file={path}"
    if not path.is_file():
        raise ConfigError(f"{who}: no such file. Give a Python file that defines `system` and `belief(x)`")
    name = f"safeplan_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{who}: not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    with _beside(path.resolve().parent) as helpers:
        sys.modules[name] = module  # dataclasses and pickle look modules up by name
        try:
            spec.loader.exec_module(module)
            system, belief = getattr(module, "system", None), getattr(module, "belief", None)
            if callable(system):
                system = system()
        except SystemExit as e:
            raise ConfigError(
                f"{who}: it calls sys.exit({e.code!r}) when it is run{line_of(e, path)}. Remove that call"
            ) from e
        except ConfigError as e:  # of System, which names the field
            raise ConfigError(f"{who}{line_of(e, path)}: {e}") from e
        except Exception as e:
            raise ConfigError(
                f"{who}: running it failed{line_of(e, path)} with {type(e).__name__}: {e}. Mend that line"
            ) from e
        if not isinstance(system, System):
            raise ConfigError(
                f"{who}: define `system`, a safeplan.dynamics.System (or a function that returns one); it is {system!r}"
            )
        if not callable(belief):
            raise ConfigError(
                f"{who}: define `belief(x)`, which returns the uncertainty around a start state; it is {belief!r}"
            )

        def checked(x: Array) -> CutNormalBelief:
            return try_belief(path, system, belief, x)

        try_system(path, system)
        checked(np.array(nominal(system.states)))
    return Vehicle(system, checked, tuple(sorted(helpers)))


_loaded: set[str] = set()  # helpers of the vehicle loaded last: the next one may have others of the same names


@contextmanager
def _beside(folder: Path) -> Iterator[list[str]]:
    """Inside, modules in `folder` can be imported; the list is filled with the files of those that were."""
    for name in _loaded:
        sys.modules.pop(name, None)
    _loaded.clear()
    before, files, cache = set(sys.modules), [], sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # a cached file of the same second and size would hide a change
    importlib.invalidate_caches()
    try:
        yield files
    finally:
        sys.dont_write_bytecode = cache
        with suppress(ValueError):
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            top = name.partition(".")[0]
            beside = (folder / f"{top}.py").is_file() or (folder / top).is_dir()
            if not beside or top in ("safeplan", "safeplan_envs"):
                continue
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and not Path(file).resolve().is_relative_to(folder):
                continue
            _loaded.add(name)
            if file is not None:
                files.append(Path(file).resolve().relative_to(folder).as_posix())


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
    if goal.radius <= 0:
        raise DataError(f"{where}: goal.radius is {goal.radius}, expected metres above 0")
    listed = raw.get("obstacles")
    if not isinstance(listed, list | None):
        raise DataError(f"{where}: obstacles is {listed!r}, expected a list of {{x, y, r}} or {{x, y, hx, hy, yaw}}")
    obstacles = tuple(Obstacle(**_fields(f"{where}: obstacles[{i}]", o, Obstacle)) for i, o in enumerate(listed or ()))
    for i, o in enumerate(obstacles):
        for name in ("r", "hx", "hy", "sigma_v"):
            if getattr(o, name) < 0:
                raise DataError(f"{where}: obstacles[{i}].{name} is {getattr(o, name)}, expected at least 0")
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
    if not ok or not all(isinstance(v, int | float) and not isinstance(v, bool) and _finite(v) for v in value):
        raise DataError(f"{where} is {value}, expected {n} finite numbers")
    return [float(v) for v in value]


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _fields(where: str, given: Any, cls: type) -> dict[str, float]:
    fields = dataclasses.fields(cls)
    if not isinstance(given, dict):
        raise DataError(f"{where} is {given!r}, expected {', '.join(f.name for f in fields)}")
    need = [f.name for f in fields if f.default is dataclasses.MISSING]
    _keys(where, given, [f.name for f in fields], need)
    return {k: _numbers(f"{where}.{k}", [v], 1)[0] for k, v in given.items()}
