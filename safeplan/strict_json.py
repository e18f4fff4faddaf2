"""JSON as its standard has it: NaN and infinities are written as the strings "NaN", "Infinity", "-Infinity"."""

import json
import math
import os
from pathlib import Path
from typing import Any


def strict(value: Any) -> Any:
    """`value` with every number that is not finite as its string, tuples as lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {k: strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [strict(v) for v in value]
    return value


def dumps(value: Any, **options: Any) -> str:
    """Strict JSON of `value`."""
    return json.dumps(strict(value), allow_nan=False, **options)


def loads(text: str | bytes) -> Any:
    """The inverse of `dumps`; bare NaN and Infinity, which older files hold, become their strings too.

    Raises:
        ValueError: no JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=str)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write(path: str | Path, value: Any, indent: int | None = 1) -> None:
    """Write strict JSON."""
    write_text(path, dumps(value, indent=indent) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write under a temporary name, then rename: a file is there whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
