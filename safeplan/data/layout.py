"""The keys of the DSRL layout [dsrl, table 7], and what their end marks say."""

from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray

MATRICES = ("observations", "next_observations", "actions")
NUMBERS = ("rewards", "costs")
FLAGS = ("terminals", "timeouts")
KEYS = (*MATRICES, *NUMBERS, *FLAGS)
LENGTHS = "episode_lengths"  # optional `[E]`: rows of every episode
SLICE = 1 << 16  # rows looked at together, so that large logs are not copied whole


def ends(columns: Mapping[str, Array]) -> Array:
    """`[N]` true on the last row of an episode."""
    return columns["terminals"].astype(bool) | columns["timeouts"].astype(bool)


def spans(end: Array) -> Array:
    """`[E, 2]` first row and one past the last row of every episode; an unfinished last episode counts."""
    stop = np.flatnonzero(end) + 1
    if len(end) and (not len(stop) or stop[-1] != len(end)):
        stop = np.append(stop, len(end))
    return np.stack([np.concatenate([[0], stop[:-1]]), stop], axis=-1).astype(np.int64)


def rows_where(test: Callable[..., Array], *arrays: Array) -> Array:
    """Rows in which `test` holds; it gets slices of the arrays, all with the same rows, and answers for each row."""
    n = len(arrays[0])
    parts = [np.flatnonzero(test(*(a[i : i + SLICE] for a in arrays))) + i for i in range(0, n, SLICE)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def by_slice(f: Callable[..., Array], array: Array, *fixed: Array) -> Array:
    """`f(array, *fixed)`, one answer per row, slice by slice."""
    return np.concatenate([f(array[i : i + SLICE], *fixed) for i in range(0, len(array), SLICE)])


def cast(key: str, value: Array) -> Array:
    """Float32 or bool, without a copy where it is that already."""
    return np.ascontiguousarray(value.astype(bool if key in FLAGS else np.float32, copy=False))


def squeezed(key: str, value: Array) -> Array:
    """A column of shape `(N, 1)` as `(N,)`; matrices stay as they are."""
    return value[:, 0] if key not in MATRICES and value.ndim == 2 and value.shape[1] == 1 else value
