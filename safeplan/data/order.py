"""Are the rows in time order, and do the episodes end where they say? All checks take columns of sound shape."""

from collections.abc import Mapping

import numpy as np

from safeplan.data.layout import FLAGS, LENGTHS, Array, ends, rows_where, spans

TIMES = ("time", "t", "step", "timestep", "timesteps")  # columns that grow within an episode
NUMBERED = ("episode", "episode_id", "trajectory")  # columns that number the episodes
CLOSE, ROUNDING = 1e-4, 1e-6  # numbers this close are the same: share of their column's spread, and of their value
PROBED = 10_000  # rows, evenly spread, that tell the spread
SORT = "sort the rows by episode and time (`safeplan data import` does it with sort=true)"


def misordered(columns: Mapping[str, Array]) -> list[str]:
    """Every contradiction about time order and ends, each with its remedy."""
    found = zero_lengths(columns)
    if not set(FLAGS) <= columns.keys() or not len(columns["terminals"]):
        return found
    end = ends(columns)
    found += wrong_lengths(columns, end)
    if {"observations", "next_observations"} <= columns.keys():
        found += broken_chain(columns["observations"], columns["next_observations"], end)
    for key in TIMES:
        if key in columns:
            found += backwards(key, columns[key], end)
    for key in NUMBERED:
        if key in columns:
            found += misnumbered(key, columns[key], end)
    return found


def follows(a: Array, b: Array) -> Array:
    """Rows `t` with `b[t] == a[t + 1]` up to rounding, as a mask `[N - 1]`: does the next observation come next?"""
    probe = a[:: max(1, len(a) // PROBED)].astype(np.float64)
    spread = CLOSE * np.where(np.isfinite(probe), probe, 0.0).std(0)
    same = np.ones(len(a) - 1, bool)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity have a fault of their own
        same[rows_where(lambda x, y: (gap(x, y) > spread + ROUNDING * np.abs(x)).any(-1), a[1:], b[:-1])] = False
    return same


def gap(x: Array, y: Array) -> Array:
    """`|x - y|` in floats, whatever numbers both are."""
    return np.abs(np.subtract(x, y, dtype=np.result_type(x, y, np.float32)))


def broken_chain(a: Array, b: Array, end: Array) -> list[str]:
    """Rows inside an episode whose next observation is not that of the following row."""
    bad = np.flatnonzero(~follows(a, b) & ~end[:-1])
    if not len(bad):
        return []
    row, n = int(bad[0]), len(end)
    with np.errstate(invalid="ignore"):
        entry = int(np.nanargmax(gap(b[row], a[row + 1])))
    seen = (
        f"key 'next_observations' is not the observation of the following row in {len(bad)} of {n} rows, first in row "
        f"{row} (entry {entry}: {float(b[row, entry]):g} against {float(a[row + 1, entry]):g})"
    )
    if not end.any():
        return [f"no row is marked as the end of an episode, yet {seen}: mark the last row of each in 'timeouts'"]
    return [f"{seen}, inside an episode: {SORT}, or mark the row before each jump in 'timeouts'"]


def backwards(key: str, time: Array, end: Array) -> list[str]:
    """Rows of an episode after which time runs backwards."""
    bad = np.flatnonzero((time[1:] < time[:-1]) & ~end[:-1])
    if not len(bad):
        return []
    row = int(bad[0])
    return [
        f"key {key!r} runs backwards inside an episode in {len(bad)} of {len(end)} rows, first after row {row} "
        f"({time[row]:g}, then {time[row + 1]:g}): {SORT}, or mark the last row of every episode in 'timeouts'"
    ]


def misnumbered(key: str, number: Array, end: Array) -> list[str]:
    """Episode numbers that come back, or that contradict the end marks."""
    changes = number[1:] != number[:-1]
    found = []
    runs = number[np.concatenate([[0], np.flatnonzero(changes) + 1])]
    first = np.unique(runs, return_index=True)[1]
    again = np.setdiff1d(np.arange(len(runs)), first)
    if len(again):
        row = int(np.flatnonzero(changes)[again[0] - 1]) + 1
        found.append(
            f"key {key!r}: episode {number[row]:g} comes back in row {row}, after others: {SORT}; if two recordings "
            "share the number, number their episodes apart"
        )
    unmarked, torn = np.flatnonzero(changes & ~end[:-1]), np.flatnonzero(~changes & end[:-1])
    if len(unmarked):
        found.append(
            f"key {key!r} changes after {len(unmarked)} rows that are no end in 'terminals' or 'timeouts', first after "
            f"row {unmarked[0]}: mark the last row of every episode"
        )
    if len(torn):
        found.append(
            f"key {key!r} goes on after {len(torn)} rows that are an end in 'terminals' or 'timeouts', first after row "
            f"{torn[0]}: unmark them, or number the episodes anew"
        )
    return found


def zero_lengths(columns: Mapping[str, Array]) -> list[str]:
    """Episodes of `episode_lengths` without a row."""
    lengths = columns.get(LENGTHS)
    bad = np.zeros(0, int) if lengths is None else np.flatnonzero(lengths < 1)
    if lengths is None or not len(bad):
        return []
    return [
        f"key {LENGTHS!r} holds {len(bad)} episodes of zero length, first episode {bad[0]} ({lengths[bad[0]]:g} rows): "
        "leave them out"
    ]


def wrong_lengths(columns: Mapping[str, Array], end: Array) -> list[str]:
    """`episode_lengths` that contradict the end marks."""
    lengths = columns.get(LENGTHS)
    marked = np.diff(spans(end), axis=1)[:, 0]
    if lengths is None or np.array_equal(lengths := lengths[lengths > 0], marked):
        return []
    k = min(len(lengths), len(marked))
    differing = np.flatnonzero(lengths[:k] != marked[:k])
    where = f"episode {differing[0]}" if len(differing) else f"the number of episodes ({len(lengths)}, {len(marked)})"
    return [
        f"key {LENGTHS!r} and the end marks in 'terminals' and 'timeouts' disagree, first in {where}: "
        "correct the one that is wrong"
    ]
