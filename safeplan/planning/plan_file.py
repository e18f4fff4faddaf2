"""plan.json on disk: strict JSON, written whole, and looked through before anything is computed from it.

Numbers that are not finite stand there as strings (`safeplan.strict_json`); a plan with a certificate has none.
"""

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.errors import DataError
from safeplan.strict_json import loads
from safeplan.types import Array, Certificate, CutNormalBelief, Goal, Obstacle, Scene, Status

FORMAT = 1
MOST_DRAWS = 10**8  # of one certificate: more would not fit in memory
_AGAIN = "The file was changed or cut short: run `safeplan plan` again"


def load_plans(path: str | Path) -> dict[str, Any]:
    """Read plan.json: a dict with `system`, `planner` and `plans`, whose keys, types and shapes are right.

    Raises:
        DataError: missing, not JSON, not a plan file of this format, or damaged; it names the plan and the key.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: a folder; give the plan.json in it")
    if not path.exists():
        raise DataError(f"{path}: no such file; `safeplan plan` writes plan.json into its run folder")
    try:
        data = loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a plan.json that may be read") from None
    except ValueError as error:
        raise DataError(
            f"{path}: not readable as JSON ({error}); it may be cut short: run `safeplan plan` again"
        ) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("plans"), list):
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise DataError(f"{path}: format {found!r}, expected a plan file of format {FORMAT} with a list `plans`")
    _object(str(path), data, "system")
    planner = _object(str(path), data, "planner")
    for key in ("gamma", "delta"):
        _value(f"{path}: planner", planner, key, _inside, "a number between 0 and 1")
    for i, record in enumerate(data["plans"]):
        where = f"{path}: plans[{i}]"
        if not isinstance(record, dict):
            raise DataError(f"{where} is {_short(record)}, expected an object. {_AGAIN}")
        _value(where, record, "time_s", _number, "seconds")
        _value(where, record, "status", lambda v: v in tuple(Status), f"one of {', '.join(Status)}")
        if _value(where, record, "certificate", lambda v: v is None or isinstance(v, dict), "an object or null"):
            _certified(where, record)
    return data


def _certified(where: str, record: dict[str, Any]) -> None:
    """Everything that a certificate is recomputed from."""
    _value(where, record, "hash", lambda v: isinstance(v, str), "a string")
    _value(where, record, "dt", _positive, "seconds above 0")
    states = _array(where, record, "states", (None, None), "[N+1, n]")
    steps, n = len(states) - 1, states.shape[1]
    controls = _array(where, record, "controls", (steps, None), f"[{steps}, m]")
    shape = (steps, controls.shape[1], n)
    _array(where, record, "gains", shape, str(list(shape)))
    _certificate(f"{where}.certificate", record["certificate"])
    if _value(where, record, "belief", lambda v: v is None or isinstance(v, dict), "an object") is None:
        raise DataError(
            f"{where}: its belief is of a kind that cannot be stored, nor verified. Plan with a CutNormalBelief"
        )
    _belief(f"{where}.belief", record["belief"], n)
    _scene(f"{where}.scene", _object(where, record, "scene"))


def _certificate(where: str, c: dict[str, Any]) -> None:
    _keys(where, c, Certificate)
    whole = {"n": (1, MOST_DRAWS), "k": (0, MOST_DRAWS), "attempt": (1, 1000), "seed": (0, 2**63)}
    for key, (low, high) in whole.items():
        _value(where, c, key, lambda v, a=low, b=high: _whole(v) and a <= v <= b, f"a whole number in [{low}, {high}]")
    for key in ("gamma", "delta"):
        _value(where, c, key, _inside, "a number between 0 and 1")
    _value(where, c, "upper", lambda v: _number(v) and 0 <= v <= 1, "a number in [0, 1]")
    _value(where, c, "assumes", lambda v: isinstance(v, list) and all(isinstance(a, str) for a in v), "strings")


def _belief(where: str, b: dict[str, Any], n: int) -> None:
    _keys(where, b, CutNormalBelief)
    _array(where, b, "x_mean", (n,), f"[{n}]")
    _array(where, b, "x_sd", (n,), f"[{n}]", low=0.0)
    p = len(_array(where, b, "theta_mean", (None,), "[p]"))
    _array(where, b, "theta_sd", (p,), f"[{p}]", low=0.0)
    flags = f"{p} times true or false"
    _value(
        where,
        b,
        "per_stretch",
        lambda v: isinstance(v, list) and len(v) == p and all(type(f) is bool for f in v),
        flags,
    )
    for key in ("stretch_s", "cut"):
        if key in b:
            _value(where, b, key, _positive, "a finite number above 0")


def _scene(where: str, s: dict[str, Any]) -> None:
    _keys(where, s, Scene)
    obstacles = _value(where, s, "obstacles", lambda v: isinstance(v, list), "a list")
    for part, cls, value in [
        (f"{where}.goal", Goal, s["goal"]),
        *((f"{where}.obstacles[{i}]", Obstacle, o) for i, o in enumerate(obstacles)),
    ]:
        if not isinstance(value, dict):
            raise DataError(f"{part} is {_short(value)}, expected an object. {_AGAIN}")
        _keys(part, value, cls)
        for key in value:
            _value(part, value, key, _number, "a finite number")
    _array(where, s, "bounds", (4,), "[xlo, ylo, xhi, yhi]")
    if "stretch_s" in s:
        _value(where, s, "stretch_s", _positive, "seconds above 0")


# ---------------------------------------------------------------- single values
def _number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < float("inf")


def _whole(v: Any) -> bool:
    return isinstance(v, int) and not isinstance(v, bool)


def _positive(v: Any) -> bool:
    return _number(v) and v > 0


def _inside(v: Any) -> bool:
    return _number(v) and 0 < v < 1


def _short(v: Any) -> str:
    text = repr(v)
    return text if len(text) <= 60 else text[:57] + "..."


def _value(where: str, d: dict[str, Any], key: str, holds: Callable[[Any], bool], expected: str) -> Any:
    if key not in d:
        raise DataError(f"{where}: {key} is missing, expected {expected}. {_AGAIN}")
    if not holds(d[key]):
        raise DataError(f"{where}: {key} is {_short(d[key])}, expected {expected}. {_AGAIN}")
    return d[key]


def _object(where: str, d: dict[str, Any], key: str) -> dict[str, Any]:
    return _value(where, d, key, lambda v: isinstance(v, dict), "an object")


def _array(
    where: str, d: dict[str, Any], key: str, shape: Collection[int | None], said: str, low: float = -np.inf
) -> Array:
    value = _value(where, d, key, lambda v: isinstance(v, list), f"numbers {said}")
    try:
        found = np.array(value)
    except ValueError:  # ragged
        raise DataError(f"{where}: {key} has rows of unequal length, expected numbers {said}. {_AGAIN}") from None
    if found.ndim != len(shape) or any(want not in (None, has) for want, has in zip(shape, found.shape, strict=True)):
        raise DataError(f"{where}: {key} has shape {list(found.shape)}, expected {said}. {_AGAIN}")
    if found.dtype.kind not in "if" or not np.isfinite(found).all() or (found.size and found.min() < low):
        least = "" if low == -np.inf else f" of at least {low:g}"
        raise DataError(f"{where}: {key} is not all finite numbers{least}. {_AGAIN}")
    return found.astype(float)


def _keys(where: str, d: dict[str, Any], cls: type) -> None:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in d:
        if key not in fields:
            raise DataError(f"{where}: unknown key {key!r}, expected {', '.join(fields)}. {_AGAIN}")
    for name, f in fields.items():
        if name not in d and f.default is f.default_factory is dataclasses.MISSING:
            raise DataError(f"{where}: {name} is missing. {_AGAIN}")
