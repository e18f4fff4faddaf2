"""Logs in the DSRL HDF5 layout: flat arrays, episodes one after the other in time order [dsrl, table 7].

Seven required keys; any other numeric key with one number per row (a stored violation `h`, say) is kept in `extra`.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from safeplan.data.layout import KEYS, LENGTHS, MATRICES, Array, cast, ends, spans, squeezed
from safeplan.data.order import NUMBERED
from safeplan.data.rules import faults
from safeplan.errors import DataError

if TYPE_CHECKING:
    import h5py

OTHER = (".csv", ".tsv", ".npz")  # formats that are imported first
DAMAGED = (OSError, RuntimeError, ValueError, KeyError, TypeError)  # what h5py says of a damaged file


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
        return ends(self.columns)

    @property
    def episodes(self) -> Array:
        """`[E, 2]` first row and one past the last row of every episode; an unfinished last episode counts."""
        return spans(self.ends)

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


def refuse(what: str, found: list[str]) -> None:
    """Raise DataError with all faults, if there are any."""
    if found:
        raise DataError(f"{what}: {len(found)} fault(s):\n" + "\n".join(f"  - {f}" for f in found))


@dataclass(frozen=True)
class Raw:
    """A file as it is: its columns before any cast, notes, what is odd about keys, keys that no log has room for."""

    path: Path
    columns: Mapping[str, Array]
    attrs: Mapping[str, str | int | float]
    odd: Mapping[str, str]
    ignored: tuple[str, ...]

    def faults(self) -> list[str]:
        """Everything for which `read_log` refuses the file."""
        return [*self.odd.values(), *faults(self.columns, self.odd)]

    def log(self) -> Log:
        """The log. Raises DataError with all faults."""
        refuse(f"log {self.path}", self.faults())
        columns = {k: cast(k, v) for k, v in self.columns.items() if k != LENGTHS}
        return Log(**{k: columns.pop(k) for k in KEYS}, extra=columns, attrs=self.attrs)


def read_raw(path: str | Path) -> Raw:
    """Read one DSRL file without judging it.

    Raises:
        DataError: no such file, or not HDF5.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"log {path}: {what}. Give the path of an .hdf5 file in the DSRL layout")
    if path.suffix in OTHER:
        raise DataError(f"log {path}: not HDF5. Import it first: safeplan data import {path} out=FILE.hdf5")
    odd: dict[str, str] = {}
    columns: dict[str, Array] = {}
    ignored = []
    try:
        with h5py.File(path, "r") as file:
            attrs = {k: v for k in file.attrs if (v := _note(file.attrs[k])) is not None}
            for key in map(str, file):
                item = file.get(key)  # None: a link that leads nowhere
                if isinstance(item, h5py.Dataset) and (key in KEYS or _is_column(item)):
                    columns[key] = squeezed(key, np.asarray(item[()]))
                elif key in KEYS:
                    what = "leads nowhere" if item is None else "is a group, expected an array: flatten it"
                    odd[key] = f"key {key!r} {what}"
                else:
                    ignored.append(key)
    except DAMAGED as e:
        raise DataError(f"log {path}: cannot be read as HDF5 ({e}). Copy it again or write it anew") from e
    return Raw(path, columns, attrs, odd, tuple(ignored))


def _note(value: object) -> str | int | float | None:
    """An attribute that is one text or number; None for what a log has no use for."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.generic) and value.dtype.kind in "fiub":
        return value.item()
    return value if isinstance(value, str) else None


def _is_column(item: "h5py.Dataset") -> bool:
    return item.dtype.kind in "fiub" and (item.ndim == 1 or (item.ndim == 2 and item.shape[1] == 1))


def read_log(path: str | Path) -> Log:
    """Read one DSRL file.

    Raises:
        DataError: no such file, not HDF5, or any fault of its arrays; all faults are listed in one error.
    """
    return read_raw(path).log()


def write_log(path: str | Path, log: Log) -> Path:
    """Write a log, gzip-packed; the file appears whole or not at all.

    Raises:
        DataError: the arrays do not make a log, or the path cannot be written.
    """
    import h5py

    path = Path(path)
    columns = {k: squeezed(k, np.asarray(v)) for k, v in log.columns.items()}
    odd = [k for k in columns if not k.strip(".") or "/" in k]
    refuse(f"log {path}", [*faults(columns), *(f"key {k!r} cannot be the name of an array: rename it" for k in odd)])
    temp = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(temp, "w") as file:
            for key, value in columns.items():
                packed = {"compression": "gzip", "compression_opts": 4, "track_times": False}
                file.create_dataset(key, data=cast(key, value), **packed)
            for key, value in log.attrs.items():
                file.attrs[key] = value
        os.replace(temp, path)
    except OSError as e:
        raise DataError(f"log {path}: cannot be written ({e}). Give a path in a folder that may be written") from e
    finally:
        if temp.exists():
            temp.unlink()
    return path


def concatenate(logs: list[Log]) -> Log:
    """One log after the other; a last row without an end mark gets a time-out. Only columns that all have are kept.

    Episodes that are numbered are numbered anew. Raises DataError: no logs, or different sizes.
    """
    if not logs:
        raise DataError("concatenate: no logs given")
    for key in MATRICES:
        if len(sizes := {log.columns[key].shape[1] for log in logs}) > 1:
            raise DataError(
                f"concatenate: {key!r} have {' and '.join(map(str, sorted(sizes)))} entries: join equal ones"
            )
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
    lengths = np.diff(spans(ends(joined)), axis=1)[:, 0]
    for key in set(NUMBERED) & joined.keys():
        joined[key] = np.repeat(np.arange(len(lengths), dtype=np.float32), lengths)
    return Log(**{k: joined.pop(k) for k in KEYS}, extra=joined, attrs=logs[0].attrs)
