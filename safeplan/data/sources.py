"""Foreign files by their format: CSV, NPZ, HDF5, Minari."""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

from safeplan.data.archives import read_hdf5, read_npz
from safeplan.data.layout import Array
from safeplan.data.minari_sets import PREFIX, read_minari
from safeplan.data.tables import read_table
from safeplan.errors import DataError

READERS = {".csv": read_table, ".tsv": read_table, ".npz": read_npz, ".hdf5": read_hdf5, ".h5": read_hdf5}


@dataclass(frozen=True)
class Foreign:
    """What a file holds under its own names, its SHA-256, and the bounds of actions where it states them itself."""

    name: str
    arrays: dict[str, Array]
    left_out: list[str]
    digest: str
    bounds: tuple[Array, Array] | None = None


def read_foreign(source: str) -> Foreign:
    """Read a file in any of the formats.

    Raises:
        DataError: no such file, an unknown format, or a file that is not what its name says.
    """
    path = Path(source)
    if path.is_dir() and path.suffix.lower() in READERS:
        raise DataError(f"source {source}: a folder. Give the path of a file in one of: {', '.join(READERS)}")
    if source.startswith(PREFIX) or path.is_dir():
        arrays, left_out, bounds, folder = read_minari(source)
        return Foreign(source, arrays, left_out, file_digest(folder), bounds)
    if path.suffix.lower() not in READERS:
        known = ", ".join(READERS)
        raise DataError(f"source {source}: unknown format. Give a file in {known}, a Minari folder, or {PREFIX}ID")
    if not path.is_file():
        raise DataError(f"source {source}: no such file. Give the path of a file in one of: {', '.join(READERS)}")
    try:
        arrays, left_out = READERS[path.suffix.lower()](path)
    except csv.Error as e:
        raise DataError(f"source {source}: cannot be read ({e}). Write it anew as CSV") from e
    return Foreign(source, arrays, left_out, file_digest(path))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder and their names."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    parts = [f"{p.relative_to(path)} {file_digest(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
