"""Logs in the DSRL HDF5 layout: flat arrays, episodes one after the other in time order [dsrl, table 7].

Seven required keys; any other numeric key with one number per row (a stored violation `h`, say) is kept in `extra`.
"""

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from safeplan.errors import DataError

Array = np.ndarray

MATRICES = ("observations", "next_observations", "actions")
NUMBERS = ("rewards", "costs")
FLAGS = ("terminals", "timeouts")
KEYS = (*MATRICES, *NUMBERS, *FLAGS)


@dataclass(frozen=True)
class Log:
    """N transitions: observations and next_observations `[N, S]`, actions `[N, A]` in [-1, 1], the rest `[N]`.

    Floats are float32, `terminals` and `timeouts` bool. `extra`: further columns `[N]`; `attrs`: notes (seed, origin).
    """

    observations: Array
    next_observations: Array
    actions: Array
    rewards: Array
    costs: Array
    terminals: Array
    timeouts: Array
    extra: Mapping[str, Array] = field(default_factory=dict)
    attrs: Mapping[str, str | int | float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def ends(self) -> Array:
        """`[N]` true on the last transition of an episode."""
        return self.terminals | self.timeouts

    @property
    def episodes(self) -> Array:
        """`[E, 2]` first row and one past the last row of every episode; an unfinished last episode counts."""
        stop = np.flatnonzero(self.ends) + 1
        if len(self) and (not len(stop) or stop[-1] != len(self)):
            stop = np.append(stop, len(self))
        return np.stack([np.concatenate([[0], stop[:-1]]), stop], axis=-1).astype(np.int64)

    @property
    def columns(self) -> dict[str, Array]:
        """All arrays by key, the seven first."""
        return {**{k: getattr(self, k) for k in KEYS}, **self.extra}

    def digest(self) -> str:
        """SHA-256 of all columns; checkpoints carry it."""
        sha = hashlib.sha256()
        for key, value in sorted(self.columns.items()):
            sha.update(f"{key} {value.dtype} {value.shape} ".encode())
            sha.update(np.ascontiguousarray(value).data.cast("B") if value.size else b"")
        return sha.hexdigest()


def _cast(key: str, value: Array) -> Array:
    """Float32 or bool, with `(N, 1)` squeezed to `(N,)` for columns."""
    if key not in MATRICES and value.ndim == 2 and value.shape[1] == 1:
        value = value[:, 0]
    return np.ascontiguousarray(value.astype(bool if key in FLAGS else np.float32))


def faults(columns: Mapping[str, Array], reported: Collection[str] = ()) -> list[str]:
    """Everything that is wrong with these arrays, each with its remedy; empty when they make a `Log`."""
    missing = [k for k in KEYS if k not in columns and k not in reported]
    found = [f"key {k!r} is missing: the file must hold {', '.join(KEYS)}" for k in missing]
    rows = {k: len(v) for k, v in columns.items() if v.ndim}
    n = rows.get("observations", max(rows.values(), default=0))
    if n == 0:
        found.append("the log has no rows: record at least one episode")
    for key, value in columns.items():
        want = 2 if key in MATRICES else 1
        if value.ndim != want:
            layout = "(N, size)" if want == 2 else "(N,) or (N, 1)"
            found.append(f"key {key!r} has shape {value.shape}, expected {layout}: reshape it")
        elif len(value) != n:
            found.append(f"key {key!r} has {len(value)} rows, expected {n} as in 'observations': cut all keys alike")
        if value.ndim and value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = np.asarray(~np.isfinite(value).reshape(len(value), -1).all(-1))
            found.append(
                f"key {key!r} holds NaN or infinity in {int(bad.sum())} of {len(bad)} rows, "
                f"first in row {int(np.argmax(bad))}: drop those episodes"
            )
    a, b = columns.get("observations"), columns.get("next_observations")
    if a is not None and b is not None and a.ndim == b.ndim == 2 and a.shape[1] != b.shape[1]:
        found.append(
            f"key 'next_observations' has {b.shape[1]} columns, 'observations' has {a.shape[1]}: "
            "record the same observation in both"
        )
    return found


def _refuse(path: str | Path, found: list[str]) -> None:
    if found:
        raise DataError(f"log {path}: {len(found)} fault(s):\n" + "\n".join(f"  - {f}" for f in found))


def read_log(path: str | Path) -> Log:
    """Read one DSRL file.

    Raises:
        DataError: no such file, not HDF5, or any fault of its arrays; all faults are listed in one error.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise DataError(f"log {path}: no such file. Give the path of an .hdf5 file in the DSRL layout")
    odd: dict[str, str] = {}
    columns: dict[str, Array] = {}
    try:
        with h5py.File(path, "r") as file:
            attrs = {k: v if isinstance(v, str) else v.item() for k, v in file.attrs.items() if np.ndim(v) == 0}
            for key, item in file.items():
                if not isinstance(item, h5py.Dataset):
                    odd[key] = f"key {key!r} is a group, expected an array: flatten it"
                elif item.dtype.kind not in "fiub":
                    odd[key] = f"key {key!r} has type {item.dtype}, expected numbers: convert it"
                elif key in KEYS or item.ndim == 1 or (item.ndim == 2 and item.shape[1] == 1):
                    columns[key] = _cast(key, np.asarray(item[()]))
    except OSError as e:
        raise DataError(f"log {path}: cannot be read as HDF5 ({e}). Copy it again or write it anew") from e
    _refuse(path, [text for key, text in odd.items() if key in KEYS] + faults(columns, odd))
    return Log(**{k: columns.pop(k) for k in KEYS}, extra=columns, attrs=attrs)


def write_log(path: str | Path, log: Log) -> Path:
    """Write a log, gzip-packed; the file appears whole or not at all.

    Raises:
        DataError: the arrays do not make a log.
    """
    import h5py

    path = Path(path)
    columns = {k: _cast(k, np.asarray(v)) for k, v in log.columns.items()}
    _refuse(path, faults(columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temp, "w") as file:
            for key, value in columns.items():
                file.create_dataset(key, data=value, compression="gzip", compression_opts=4, track_times=False)
            for key, value in log.attrs.items():
                file.attrs[key] = value
        os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)
    return path


def concatenate(logs: list[Log]) -> Log:
    """One log after the other; a last row without an end mark gets a time-out. Only columns that all have are kept."""
    if not logs:
        raise DataError("concatenate: no logs given")
    shared = set.intersection(*(set(log.extra) for log in logs))
    parts: dict[str, list[Array]] = {k: [] for k in (*KEYS, *sorted(shared))}
    for log in logs:
        for key in parts:
            value = log.columns[key]
            if key == "timeouts" and len(value) and not log.ends[-1]:
                value = value.copy()
                value[-1] = True
            parts[key].append(value)
    joined = {k: np.concatenate(v) for k, v in parts.items()}
    return Log(**{k: joined.pop(k) for k in KEYS}, extra=joined, attrs=logs[0].attrs)
