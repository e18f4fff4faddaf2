"""Which columns of a file are observations, actions, rewards ...: by the names in use, or by those given."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from safeplan.data.layout import MATRICES, Array
from safeplan.data.order import NUMBERED, TIMES
from safeplan.errors import DataError
from safeplan.schema import ColumnsConfig, did_you_mean

NONE = "none"  # what the user writes for: there is no such column
USUAL = {  # key -> names in use; a matrix may also be split: NAME_0, NAME_1 ...
    "observations": ("observations", "observation", "obs", "states", "state"),
    "next_observations": ("next_observations", "next_observation", "next_obs", "next_states", "next_state"),
    "actions": ("actions", "action", "act"),
    "rewards": ("rewards", "reward"),
    "costs": ("costs", "cost", "infos/cost", "infos/costs"),
    "terminals": ("terminals", "terminal", "terminations", "termination", "terminated"),
    "timeouts": ("timeouts", "timeout", "truncations", "truncation", "truncated"),
    "episode": NUMBERED,
    "time": TIMES,
}
DONE = ("dones", "done")  # ends of either kind; terminal are those that are no time-outs
NEEDED = ("observations", "actions", "rewards")  # what `none` cannot be said of
OPTIONAL = ("next_observations", "timeouts", "episode", "time")


@dataclass(frozen=True)
class Picked:
    """Columns by key and the names they are made of, keys that the user says there are none of, names not used."""

    columns: dict[str, Array]
    names: dict[str, list[str]]
    denied: frozenset[str]
    rest: tuple[str, ...]


def pick(raw: Mapping[str, Array], asked: ColumnsConfig) -> tuple[Picked, list[str]]:
    """Columns by key, and what could not be settled, each with its remedy.

    Args:
        raw: all arrays of a file, `[N]` or `[N, k]`, by their own names.
    """
    columns: dict[str, Array] = {}
    names: dict[str, list[str]] = {}
    denied, found = set(), []
    for key, usual in USUAL.items():
        given = _as_list(getattr(asked, key))
        if given == [NONE]:
            denied.add(key)
            if key in NEEDED:
                found.append(f"columns.{key}=none: a log cannot be without {key}, name them")
            continue
        try:
            mine = _asked(key, given, raw) if given else _usual(key, usual, raw)
            if mine:
                names[key], columns[key] = mine, _joined(key, mine, raw)
            elif key not in OPTIONAL:
                found.append(
                    f"no column for {key!r}: name it with columns.{key}=NAME"
                    f"{'' if key in NEEDED else f', or say columns.{key}=none'}. "
                    f"There are: {', '.join(raw)}"
                )
        except DataError as e:
            found.append(str(e))
    used = {n for mine in names.values() for n in mine}
    return Picked(columns, names, frozenset(denied), tuple(n for n in raw if n not in used)), found


def usual_text(left_out: Iterable[str], picked: Picked) -> list[str]:
    """Columns without numbers that are a gap in a matrix that is split: `obs_1` beside `obs_0` and `obs_2`."""
    found = []
    for name in left_out:
        base, _, number = name.rpartition("_")
        key = next((k for k in MATRICES if base in USUAL[k] and number.isdigit()), None)
        if key and key not in picked.denied and all(n.startswith(f"{base}_") for n in picked.names.get(key, ())):
            found.append(
                f"column {name!r} holds no numbers, and by its name it belongs to {key!r}: write numbers with decimal "
                f"points, or name the columns with columns.{key}=[...]"
            )
    return found


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _asked(key: str, patterns: Iterable[str], raw: Mapping[str, Array]) -> list[str]:
    """Names that the user's patterns stand for, in the order of the patterns."""
    out: list[str] = []
    for pattern in patterns:
        mine = [pattern] if pattern in raw else _in_order([n for n in raw if fnmatchcase(n, pattern)])
        if not mine:
            raise DataError(
                f"columns.{key}: no column {pattern!r}.{did_you_mean(pattern, raw)} There are: {', '.join(raw)}"
            )
        out += [n for n in mine if n not in out]
    return out


def _usual(key: str, usual: Iterable[str], raw: Mapping[str, Array]) -> list[str]:
    """The names in use that are there; `done` only where nothing says which ends are terminal."""
    candidates = [[n] for n in usual if n in raw]
    if key in MATRICES:
        split = [[n for n in raw if re.fullmatch(rf"{re.escape(base)}_\d+", n)] for base in usual]
        candidates += [_without_gap(key, _in_order(s)) for s in split if s]
    if key == "terminals" and not candidates:
        candidates = [[n] for n in DONE if n in raw]
    if len(candidates) > 1 and key not in ("episode", "time"):  # further clocks are kept under their own names
        both = " and ".join(repr(c[0]) for c in candidates)
        raise DataError(f"{both} could all be {key!r}: say which with columns.{key}=NAME")
    return candidates[0] if candidates else []


def _in_order(names: list[str]) -> list[str]:
    """By the number at the end where all have one, else as they come."""
    ends = [re.search(r"(\d+)$", n) for n in names]
    return [n for _, n in sorted((int(m[1]), n) for m, n in zip(ends, names, strict=True) if m)] if all(ends) else names


def _without_gap(key: str, names: list[str]) -> list[str]:
    numbers = [int(n.rpartition("_")[2]) for n in names]
    for before, after, name in zip(numbers, numbers[1:], names[1:], strict=False):
        if after != before + 1:
            raise DataError(
                f"{name.rpartition('_')[0]}_{before + 1} is missing between {before} and {after}: "
                f"add the column, or name all with columns.{key}=[...]"
            )
    return names


def _joined(key: str, names: list[str], raw: Mapping[str, Array]) -> Array:
    """One array of several columns; matrices are `[N, k]`."""
    parts = [raw[n] for n in names]
    if key not in MATRICES and len(parts) > 1:
        raise DataError(f"columns.{key} names {len(parts)} columns, {', '.join(names)}: one number a row, so name one")
    if key not in MATRICES:
        return parts[0]
    if len(parts) == 1 and parts[0].ndim != 1:
        return parts[0]
    flat = [p[:, None] if p.ndim == 1 else p for p in parts]
    if len({len(p) for p in flat}) > 1 or any(p.ndim != 2 for p in flat):
        shapes = ", ".join(f"{n} {p.shape}" for n, p in zip(names, parts, strict=True))
        raise DataError(f"columns.{key}: {shapes} do not make one matrix: all need the same rows")
    return np.concatenate(flat, axis=1)
