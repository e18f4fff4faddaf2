"""What deserves a look in a log that may be used all the same: a hint never keeps a log from being read."""

from collections.abc import Callable, Mapping

import numpy as np

from safeplan.data.layout import FLAGS, KEYS, LENGTHS, MATRICES, Array, by_slice, ends, spans
from safeplan.data.order import NUMBERED, follows
from safeplan.data.rules import soundness

SHOWN = 8  # numbers listed before "..."
COARSE = 0.01  # of a column's standard deviation that rounding to float32 may reach


def hints(columns: Mapping[str, Array]) -> list[str]:
    """All hints about the columns that are sound; each needs some of them and is silent without."""
    sound = soundness(columns, KEYS)[1]
    if not all(len(v) for v in sound.values()):
        return []
    return [text for needs, hint in HINTS if set(needs) <= sound.keys() for text in hint(sound)]


def listed(numbers: Array) -> str:
    """`3, 5, 8`, cut after a few."""
    return ", ".join(f"{float(n):g}" for n in numbers[:SHOWN]) + (", ..." if len(numbers) > SHOWN else "")


def unfinished(columns: Mapping[str, Array]) -> list[str]:
    """A last episode without an end mark, or none at all."""
    end = ends(columns)
    if end[-1]:
        return []
    if not end.any():
        return [f"no row is marked as an end: all {len(end)} rows count as one unfinished episode"]
    first = int(spans(end)[-1, 0])
    return [f"the last episode has no end mark: rows {first} to {len(end) - 1} count as cut off, not as ended"]


def both_marks(columns: Mapping[str, Array]) -> list[str]:
    """Rows that end for two reasons."""
    both = np.flatnonzero(columns["terminals"].astype(bool) & columns["timeouts"].astype(bool))
    if not len(both):
        return []
    return [f"{len(both)} rows are both terminal and time-out, first row {both[0]}: they count as terminal"]


def single_rows(columns: Mapping[str, Array]) -> list[str]:
    """Episodes of one row, as two end marks in a row leave them."""
    episodes = spans(ends(columns))
    bad = np.flatnonzero(np.diff(episodes, axis=1)[:, 0] == 1)
    if not len(bad):
        return []
    row = int(episodes[bad[0], 0])
    return [f"{len(bad)} of {len(episodes)} episodes are one row long, first row {row}: is its end marked twice?"]


def going_on(columns: Mapping[str, Array]) -> list[str]:
    """Episodes that go on behind their end."""
    end = ends(columns)[:-1]
    observations = columns["observations"]
    on = np.flatnonzero(follows(observations, columns["next_observations"]) & end)
    if not len(on) or (observations == observations[:1]).all():
        return []
    return [
        f"{len(on)} of {int(end.sum())} episodes go on in the next one, first after row {on[0]}: was there no reset, "
        "or is the end marked in the wrong row?"
    ]


def constant(columns: Mapping[str, Array]) -> list[str]:
    """Columns that never change."""
    found = []
    for key in [k for k in ("observations", "actions", "rewards") if k in columns and len(columns[k]) > 1]:
        value = columns[key].reshape(len(columns[key]), -1)
        same = np.flatnonzero(value.min(0) == value.max(0))
        if len(same):
            where = f"entries {listed(same)} of {value.shape[1]}" if key in MATRICES else f"{float(value[0, 0]):g}"
            found.append(f"key {key!r} never changes ({where}): nothing can be learned from it")
    return found


def coarse(columns: Mapping[str, Array]) -> list[str]:
    """Numbers that hardly change beside their size: float32, which a log holds, rounds the change away."""
    found = []
    for key in [k for k in columns if k not in (*FLAGS, *NUMBERED, LENGTHS, "next_observations")]:
        if columns[key].dtype.itemsize <= 4 or not len(columns[key]):
            continue
        value = columns[key].reshape(len(columns[key]), -1)
        with np.errstate(over="ignore", invalid="ignore"):  # what no float32 holds is a fault, told elsewhere
            spread = value.std(0, dtype=np.float64)
            error = by_slice(lambda v: np.abs(v - v.astype(np.float32)).max(0, keepdims=True), value).max(0)
        lost = np.flatnonzero((error > COARSE * spread) & (spread > 0))
        if len(lost):
            entries = f"entries {listed(lost)} of {value.shape[1]}"
            where = entries if key in MATRICES else f"about {float(value[0, 0]):g}"
            share = float((error[lost] / spread[lost]).max())
            found.append(
                f"key {key!r} loses digits in float32 ({where}): rounding reaches {share:.0%} of their standard "
                "deviation; subtract an offset first, such as the place where the log begins"
            )
    return found


def costless(columns: Mapping[str, Array]) -> list[str]:
    """Costs that tell nothing apart."""
    share = float((columns["costs"] > 0).mean())
    if 0 < share < 1:
        return []
    return [f"{'every row costs something' if share else 'no row costs anything'}: nothing here tells safe from unsafe"]


def duplicated(columns: Mapping[str, Array]) -> list[str]:
    """Episodes that occur more than once, by a 64-bit hash of observations and actions."""
    episodes = spans(ends(columns))
    rows = np.zeros(len(columns["actions"]), np.uint64)
    draw = np.random.default_rng(0)
    for key in ("observations", "actions"):
        factors = draw.integers(1, 2**63, columns[key].shape[1], np.uint64)
        rows += by_slice(lambda v, f: (bits(v) * f).sum(-1, dtype=np.uint64), columns[key], factors)
    place = np.arange(len(rows)) - np.repeat(episodes[:, 0], np.diff(episodes, axis=1)[:, 0])
    mixed = (rows ^ (rows >> np.uint64(29))) * (place.astype(np.uint64) * np.uint64(2) + np.uint64(1))
    sums = np.add.reduceat(mixed ^ (mixed >> np.uint64(31)), episodes[:, 0])
    keys = np.stack([sums, np.diff(episodes, axis=1)[:, 0].astype(np.uint64)], 1)
    _, first, counts = np.unique(keys, axis=0, return_index=True, return_counts=True)
    extra = int(counts.sum() - len(counts))
    if not extra:
        return []
    which = int(np.sort(first[counts > 1])[0])
    return [f"{extra} of {len(episodes)} episodes are copies of others, first of episode {which}: they count double"]


def bits(value: Array) -> Array:
    """What numbers look like in float32, as whole numbers."""
    return np.ascontiguousarray(value, np.float32).view(np.uint32).astype(np.uint64)


def skipped_numbers(columns: Mapping[str, Array]) -> list[str]:
    """Episode numbers that are left out: episodes of zero length, or taken out."""
    found = []
    for key in [k for k in NUMBERED if k in columns]:
        there = np.unique(columns[key])
        gaps = np.flatnonzero(np.diff(there) > 1)
        if len(gaps):
            found.append(
                f"key {key!r} leaves out numbers, first after {there[gaps[0]]:g}: episodes of zero length, or taken out"
            )
    return found


HINTS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Array]], list[str]]], ...] = (
    (FLAGS, unfinished),
    (FLAGS, both_marks),
    (FLAGS, single_rows),
    ((*FLAGS, "observations", "next_observations"), going_on),
    ((), constant),
    ((), coarse),
    (("costs",), costless),
    ((*FLAGS, "observations", "actions"), duplicated),
    ((), skipped_numbers),
)
