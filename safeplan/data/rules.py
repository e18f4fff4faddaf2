"""What makes arrays no log: one place for the rules, asked by whatever reads, writes, checks or imports one.

Every fault is one sentence that names the key, the value and the remedy. A fault refuses the log; what only deserves a
look is in `hints`.
"""

from collections.abc import Collection, Mapping

import numpy as np

from safeplan.data.layout import FLAGS, KEYS, LENGTHS, MATRICES, Array, rows_where
from safeplan.data.order import NUMBERED, misordered

LARGEST = float(np.finfo(np.float32).max)
ACTION_SLACK = 1e-3  # how far rounding may carry an action out of [-1, 1]


def faults(columns: Mapping[str, Array], reported: Collection[str] = ()) -> list[str]:
    """Everything that is wrong with these arrays, each with its remedy; empty when they make a `Log`.

    Args:
        reported: keys of which it is not to be said that they are missing.
    """
    found, sound = soundness(columns, reported)
    return [*found, *bad_values(sound), *bad_actions(sound), *misordered(sound), *merged(sound)]


def soundness(columns: Mapping[str, Array], reported: Collection[str] = ()) -> tuple[list[str], dict[str, Array]]:
    """Missing keys, wrong types, shapes and lengths; and the columns that have none of these."""
    missing = [k for k in KEYS if k not in columns and k not in reported]
    found = [f"key {k!r} is missing: the file must hold {', '.join(KEYS)}" for k in missing]
    sound: dict[str, Array] = {}
    rows = {k: len(v) for k, v in columns.items() if v.ndim}
    n = rows.get("observations", max(rows.values(), default=0))
    if n == 0:
        found.append("the log has no rows, only an episode of zero length: record at least one step")
    for key, value in columns.items():
        want = 2 if key in MATRICES else 1
        if value.dtype.kind not in "fiub":
            found.append(f"key {key!r} has type {value.dtype}, expected numbers: convert it")
        elif value.ndim != want:
            layout = "(N, size)" if want == 2 else "(N,) or (N, 1)"
            found.append(f"key {key!r} has shape {value.shape}, expected {layout}: reshape it")
        elif len(value) != n and key != LENGTHS:
            found.append(f"key {key!r} has {len(value)} rows, expected {n} as in 'observations': cut all keys alike")
        else:
            sound[key] = value
    for key in [k for k in MATRICES if k in sound and not sound[k].shape[1]]:
        found.append(f"key {key!r} has shape {sound.pop(key).shape}, no column at all: record at least one number")
    a, b = sound.get("observations"), sound.get("next_observations")
    if a is not None and b is not None and a.shape[1] != b.shape[1]:
        found.append(
            f"key 'next_observations' has {b.shape[1]} columns, 'observations' has {a.shape[1]}: "
            "record the same observation in both"
        )
        sound.pop("next_observations")
    return found, sound


def in_rows(bad: Array, n: int) -> str:
    """`in K of N rows, first in row I`; rows count from 0."""
    return f"in {len(bad)} of {n} rows, first in row {bad[0]}"


def _beyond(v: Array) -> Array:
    return np.abs(v).reshape(len(v), -1).max(-1, initial=0.0) > LARGEST


def bad_values(sound: Mapping[str, Array]) -> list[str]:
    """NaN and infinity, flags that are neither 0 nor 1, negative costs."""
    found = []
    for key, value in sound.items():
        if value.dtype.kind != "f":
            continue
        bad = rows_where(lambda v: ~np.isfinite(v).reshape(len(v), -1).all(-1), value)
        if len(bad):
            found.append(f"key {key!r} holds NaN or infinity {in_rows(bad, len(value))}: drop those episodes")
            continue
        if value.itemsize > 4 and len(bad := rows_where(_beyond, value)):
            where = in_rows(bad, len(value))
            found.append(f"key {key!r} exceeds {LARGEST:.2g}, the largest float32, {where}: change the unit")
    for key in FLAGS:
        value = sound.get(key)
        if value is None or value.dtype.kind == "b":
            continue
        bad = rows_where(lambda v: np.isfinite(v) & (v != 0) & (v != 1), value)
        if len(bad):
            found.append(
                f"key {key!r} is neither 0 nor 1 {in_rows(bad, len(value))} ({value[bad[0]]:g}): "
                "it says whether an episode ends, store it as bool"
            )
    costs = sound.get("costs")
    if costs is not None:
        bad = rows_where(lambda v: v < 0, costs)
        if len(bad):
            found.append(
                f"key 'costs' is negative {in_rows(bad, len(costs))} ({costs[bad[0]]:g}): a cost is 0 where all is "
                "well and above 0 where not; turn its sign, or keep only its positive part"
            )
    return found


def merged(sound: Mapping[str, Array]) -> list[str]:
    """Episodes whose numbers are one number in float32."""
    found = []
    for key in [k for k in NUMBERED if k in sound]:
        a = sound[key]
        bad = np.flatnonzero((a[1:] != a[:-1]) & (np.diff(a.astype(np.float32)) == 0))
        if len(bad):
            found.append(
                f"key {key!r} changes after row {bad[0]} from {a[bad[0]]} to {a[bad[0] + 1]}, which is one number in "
                "float32: number the episodes from 0"
            )
    return found


def bad_actions(sound: Mapping[str, Array]) -> list[str]:
    """Actions outside [-1, 1]."""
    actions = sound.get("actions")
    if actions is None:
        return []
    bad = rows_where(lambda v: ((v > 1.0 + ACTION_SLACK) | (v < -1.0 - ACTION_SLACK)).any(-1), actions)
    if not len(bad):
        return []
    first = actions[bad[0]]
    worst = int(np.argmax(np.abs(first)))
    return [
        f"key 'actions' is outside [-1, 1] {in_rows(bad, len(actions))} (entry {worst}: {first[worst]:g}): rescale "
        "them to the action bounds, as `safeplan data import` does with action_low=[...] action_high=[...]"
    ]
