"""From the columns of a foreign file to a log: names, order, ends, actions, next observations; all of it told."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from safeplan.data.hdf5 import Log, refuse
from safeplan.data.hints import coarse
from safeplan.data.layout import KEYS, LENGTHS, Array, cast, spans
from safeplan.data.names import DONE, USUAL, Picked, pick, usual_text
from safeplan.data.order import misordered, zero_lengths
from safeplan.data.rules import bad_actions, bad_values, soundness
from safeplan.data.scaling import scaled
from safeplan.data.sources import Foreign
from safeplan.errors import DataError
from safeplan.schema import DataImportConfig

Columns = dict[str, Array]
EXACT = 2.0**53  # from here on floats skip whole numbers


@dataclass(frozen=True)
class Converted:
    """A log, the names that its columns had, what was done to the rows, what was lost by it, and what was left out."""

    log: Log
    names: Mapping[str, list[str]]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]


def convert(source: Foreign, cfg: DataImportConfig) -> Converted:
    """Make a log of a foreign file.

    Raises:
        DataError: columns that cannot be told, or any fault that `read_log` would find; all of a stage at once.
        ConfigError: action bounds that do not fit the actions.
    """
    what, notes, warnings = f"import {source.name}", [], []
    picked, found = pick(source.arrays, cfg.columns)
    found = [f"{f}; left out: {', '.join(source.left_out)}" if source.left_out else f for f in found]
    found += usual_text(source.left_out, picked)
    if "episode" in picked.columns and (np.abs(picked.columns["episode"].astype(float)) >= EXACT).any():
        found.append("episode numbers of 2^53 and more cannot be told apart: number the episodes from 0")
    if LENGTHS in picked.rest:
        found += numbered_by_lengths(picked, source.arrays[LENGTHS])
    unsound, sound = soundness(picked.columns, KEYS) if picked.columns else ([], {})
    refuse(what, [*found, *unsound, *bad_values(sound)])
    columns = dict(picked.columns)
    rest = {k: source.arrays[k] for k in picked.rest}
    taken = {*KEYS, LENGTHS, "episode", "time", *(name for key in picked.denied for name in USUAL[key])}
    n = len(columns["observations"])
    more = {k: v for k, v in rest.items() if v.shape == (n,) and v.dtype.kind in "fiub" and k not in taken}
    gone = (*source.left_out, *(k for k in rest if k not in more))
    more = ungrouped(what, more, taken)
    if cfg.sort:
        columns, more = in_order(what, columns, more, notes)
    add_ends(what, columns, picked, notes)
    columns["actions"] = scaled(columns["actions"], cfg, source.bounds, notes)
    far = [f"{f}. Simulators that cut them: clip=true" for f in bad_actions(columns)]
    refuse(what, [*bad_values(more), *far, *misordered(columns | more)])
    columns |= more
    if "next_observations" not in columns:
        columns = with_next_observations(what, columns, notes, warnings)
    renumber(columns)
    warnings += coarse(columns)
    columns = {k: cast(k, v) for k, v in columns.items()}
    log = Log(*(columns.pop(k) for k in KEYS), extra=columns)
    return Converted(log, picked.names, tuple(notes), tuple(warnings), gone)


def numbered_by_lengths(picked: Picked, lengths: Array) -> list[str]:
    """Episode numbers from `episode_lengths`, put into `picked`; faults where they do not fit."""
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        return [f"key {LENGTHS!r} is {lengths.dtype} {lengths.shape}, expected whole numbers, one for each episode"]
    found = zero_lengths({LENGTHS: lengths})
    rows = len(picked.columns.get("observations", ()))
    if not found and int(lengths.sum()) != rows:
        found.append(
            f"key {LENGTHS!r} adds up to {int(lengths.sum())} rows, there are {rows}: correct it or leave it out"
        )
    if not found and "episode" not in picked.columns:
        picked.columns["episode"] = np.repeat(np.arange(len(lengths)), lengths.astype(int))
    return found


def ungrouped(what: str, more: Columns, taken: set[str]) -> Columns:
    """Further columns under names that have room in a flat file: `infos.speed` for `infos/speed`."""
    out: Columns = {}
    for key, value in more.items():
        name = key.replace("/", ".").strip(".")
        if not name or name in out or name in taken:
            refuse(what, [f"column {key!r} would be called {name!r}, which is taken or empty: rename it"])
        out[name] = value
    return out


def in_order(what: str, columns: Columns, more: Columns, notes: list[str]) -> tuple[Columns, Columns]:
    """All columns by episode and time."""
    time, episode = columns.get("time"), columns.get("episode")
    if time is None:
        raise DataError(f"{what}: sort=true needs a column of times: name it with columns.time=NAME")
    if episode is None and len(np.unique(time)) < len(time):
        refuse(what, ["sort=true: times occur twice, so episodes must be told apart: name columns.episode=NAME"])
    if episode is not None:
        refuse(what, shared_numbers(episode, time))
    by = np.lexsort([time] if episode is None else [time, episode])  # type: ignore[list-item]
    moved = int((by != np.arange(len(by))).sum())
    notes.append(f"{moved} rows changed their place when sorted by {'episode and ' if episode is not None else ''}time")
    return {k: v[by] for k, v in columns.items()}, {k: v[by] for k, v in more.items()}


def shared_numbers(episode: Array, time: Array) -> list[str]:
    """An episode that has a time twice and whose time turns back: two recordings, where a coarse clock never turns."""
    filed, by = np.argsort(episode, kind="stable"), np.lexsort([time, episode])
    same = np.diff(episode[filed]) == 0  # in both orders, as episodes lie in blocks
    turned = np.unique(episode[filed][1:][same & (np.diff(time[filed]) < 0)])
    twice = np.flatnonzero(same & (np.diff(time[by]) == 0) & np.isin(episode[by][1:], turned))
    if not len(twice):
        return []
    a, b = sorted(by[twice[0] : twice[0] + 2])
    return [
        f"sort=true: episode {episode[a]:g} has time {time[a]:g} twice, in rows {a} and {b}, and turns back: where two "
        "recordings share a number, number their episodes apart or import them one by one"
    ]


def add_ends(what: str, columns: Columns, picked: Picked, notes: list[str]) -> None:
    """Make `terminals`, `timeouts` and `costs` complete."""
    n = len(columns["observations"])
    for key, says in (("costs", "every row costs 0"), ("terminals", "no episode ends by itself")):
        if key in picked.denied:
            columns[key] = np.zeros(n, np.float32)
            notes.append(f"columns.{key}=none: {says}")
    given = "timeouts" in columns
    terminal = columns["terminals"].astype(bool)
    timeout = columns["timeouts"].astype(bool) if given else np.zeros(n, bool)
    done = picked.names.get("terminals", [""])[0]
    if done in DONE and given:
        notes.append(f"{int((terminal & timeout).sum())} rows are done by time-out: not terminal")
        terminal = terminal & ~timeout
    elif done in DONE:
        notes.append(f"all rows that are {done} count as terminal: if some only ran out of time, name columns.timeouts")
    last = np.zeros(n, bool)
    last[-1] = True
    if "episode" in columns:
        last[:-1] = columns["episode"][1:] != columns["episode"][:-1]
    elif not (terminal | timeout).any() and not {"timeouts", "episode"} & picked.denied:
        refuse(what, ["no row ends an episode: name columns.timeouts or columns.episode; one single episode: none"])
    new = last & ~terminal & ~timeout
    if new.any():
        notes.append(f"{int(new.sum())} episodes had no end mark: their last row counts as a time-out")
    columns |= {"terminals": terminal, "timeouts": timeout | new}


def with_next_observations(what: str, columns: Columns, notes: list[str], warnings: list[str]) -> Columns:
    """Next observations from the following row. After the last row of an episode nothing is known: a terminal row
    keeps its own observation, as no value is read there; another one is dropped, and the row before it ends instead.
    """
    seen, terminal = columns["observations"], columns["terminals"]
    following = np.concatenate([seen[1:], seen[-1:]])
    following[terminal] = seen[terminal]
    episodes = spans(terminal | columns["timeouts"])
    drop = episodes[~terminal[episodes[:, 1] - 1]]
    short = np.flatnonzero(np.diff(drop, axis=1)[:, 0] == 1)
    if len(short):
        refuse(
            what,
            [
                f"{len(short)} episodes are one row long and end without a terminal, first row {drop[short[0], 0]}: "
                "without next_observations their length is zero. Leave them out, or give columns.next_observations"
            ],
        )
    notes.append(
        f"next observations are those of the following rows; the last rows of {len(drop)} episodes that time out are "
        f"dropped, as what follows them is unknown; {int(terminal.sum())} terminal rows keep their own observation"
    )
    lost = np.zeros(len(seen), bool)
    lost[drop[:, 1] - 1] = columns["costs"][drop[:, 1] - 1] > 0
    if lost.any():
        cure = "mark them terminal if the episodes ended there, or give columns.next_observations"
        if not (columns["costs"][~lost] > 0).any():
            refuse(what, [f"all {int(lost.sum())} rows that cost something are last rows, which are dropped: {cure}"])
        warnings.append(f"{int(lost.sum())} of the dropped rows cost something, which is lost: {cure}")
    timeouts = columns["timeouts"].copy()
    timeouts[drop[:, 1] - 2] = True
    keep = np.ones(len(seen), bool)
    keep[drop[:, 1] - 1] = False
    return {k: v[keep] for k, v in {**columns, "next_observations": following, "timeouts": timeouts}.items()}


def renumber(columns: Columns) -> None:
    """Episodes from 0 and times from the start of each: float32 has no room for large numbers."""
    episodes = spans(columns["terminals"] | columns["timeouts"])
    lengths = np.diff(episodes, axis=1)[:, 0]
    if "episode" in columns:
        columns["episode"] = np.repeat(np.arange(len(episodes)), lengths)
    if "time" in columns:
        columns["time"] = columns["time"] - np.repeat(columns["time"][episodes[:, 0]], lengths)
