"""Rows and words of the command line that dsrl_table.py and rival_gates.py share. Import it, do not run it."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dsrl_methods import METHODS, how


def kept(path: Path, kinds: Mapping[str, type], begun: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and rows of a study; both empty where it has not `begun`.

    Raises:
        DataError: rows of methods that are made in another way now; no study, though it has begun.
    """
    from safeplan.errors import DataError
    from safeplan.evaluation.study import read_study

    if not begun and not (path.is_file() and b"\n" in path.read_bytes()):
        return {}, []
    header, rows = read_study(path, kinds)
    if stale := [f"{r['planner']}, seed {r['seed']}" for r in rows if not current(r)]:
        raise DataError(
            f"study {path} holds rows of methods that are made in another way now ({len(stale)}, the first "
            f"{stale[0]}): delete these lines, and their folders under --runs, to run their jobs again"
        )
    return header, rows


def current(row: Mapping[str, Any]) -> bool:
    """Whether a row's method is still made as it was."""
    method = row["planner"].partition("/")[2]
    return method in METHODS and row["how"] == how(method)


def trained_so_far(rows: list[dict[str, Any]]) -> dict[str, int]:
    """TASK/METHOD -> updates of its trainings, so that a study that goes on elsewhere makes as many there."""
    mine = [r for r in rows if current(r) and METHODS[r["planner"].partition("/")[2]].trains]
    return {r["planner"]: r["updates"] for r in sorted(mine, key=lambda r: -r["seed"])}


def count(text: str) -> int:
    """A whole number above 0, of the command line."""
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r}: give a whole number above 0")
    return int(text)


def some(p: ArgumentParser, what: str, text: str | None, by: str, known: Iterable[str]) -> list[str]:
    """The names in `text`; nothing without text. Leaves with an error for one that is not `known`."""
    given = text.split(by) if text else []
    if unknown := [g for g in given if g not in known]:
        p.error(f"unknown {what} {unknown[0]!r}: choose from {', '.join(known)}")
    return given
