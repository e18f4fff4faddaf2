"""What `safeplan density` looks at: a system of the density work or a user's own vehicle, and the plane drawn."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from safeplan import schema
from safeplan.errors import ConfigError
from safeplan.schema import did_you_mean

if TYPE_CHECKING:
    from safeplan.dynamics.systems import Case

OWN_SECONDS = 3.0  # horizon of a user's vehicle


def case(cfg: schema.DensityConfig) -> "Case":
    """The closed loop of the settings, its start and its horizon; controls that it leaves open are held.

    Raises:
        ConfigError: a fault in the vehicle's file; values that do not fit its states or controls.
    """
    found = _own(cfg) if cfg.system.file else _table(cfg)
    seconds = found.horizon_s if cfg.seconds is None else cfg.seconds
    if cfg.control:
        low, high = found.loop.control_low, found.loop.control_high
        command = _values("control", cfg.control, [q.name for q in found.loop.controls])
        if not ((command >= low) & (command <= high)).all():
            raise ConfigError(f"control={cfg.control}: beyond the bounds {low.tolist()} to {high.tolist()}")
        found = replace(found, command=tuple(command.tolist()))
    return replace(found, steps=max(1, round(seconds / found.loop.dt)))


def _table(cfg: schema.DensityConfig) -> "Case":
    from safeplan.dynamics.systems import system

    if cfg.start:
        raise ConfigError(f"start={cfg.start}: {cfg.system.kind} has a start of its own; `start` is for system.file")
    return system(cfg.system.kind)


def _own(cfg: schema.DensityConfig) -> "Case":
    """The vehicle in `system.file`, its controls held."""
    from safeplan.dynamics.own import load_vehicle
    from safeplan.dynamics.systems import Case
    from safeplan.dynamics.trial import nominal

    vehicle = load_vehicle(str(cfg.system.file))
    loop = vehicle.system
    start = np.array(nominal(loop.states))
    if cfg.start:
        start = _values("start", cfg.start, [q.name for q in loop.states])
    steps = max(1, round(OWN_SECONDS / loop.dt))
    return Case(loop, vehicle.belief(start), steps, "own", nominal(loop.controls))


def _values(what: str, given: Sequence[float], names: Sequence[str]) -> np.ndarray:
    if len(given) != len(names) or not np.isfinite(given).all():
        listed = f": {', '.join(names)}" if names else ""
        raise ConfigError(f"{what}={list(given)}: expected {len(names)} finite numbers{listed}")
    return np.array(given, float)


def plane(axes: Sequence[str], case: "Case") -> tuple[int, int]:
    """Indices of the two states that are drawn.

    Raises:
        ConfigError: not two different states of the system.
    """
    names = [q.name for q in case.loop.states]
    found = []
    for axis in axes:
        if axis in names:
            found.append(names.index(axis))
        elif axis.isdigit() and int(axis) < len(names):
            found.append(int(axis))
        else:
            raise ConfigError(
                f"axes: {axis!r} is no state of {case.name}.{did_you_mean(axis, names)} Choose two of: "
                f"{', '.join(names)}, or numbers from 0 to {len(names) - 1}"
            )
    if len(found) != 2 or found[0] == found[1]:
        raise ConfigError(f"axes={list(axes)}: give two different states of {case.name}: {', '.join(names)}")
    return found[0], found[1]
