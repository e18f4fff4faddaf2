"""Arrays of an NPZ file or of an HDF5 file such as D4RL's, groups included."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from safeplan.data.hdf5 import DAMAGED
from safeplan.data.layout import Array
from safeplan.errors import DataError


def read_npz(path: Path) -> tuple[dict[str, Array], list[str]]:
    """Arrays by name, and names of those that are no columns.

    Raises:
        DataError: not an NPZ file, or Python objects in it, which are never unpickled.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"archive {path}: not an NPZ file. Write it with np.savez(path, **arrays)")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            members = {n: _array(path, n, file) for n in file.files}
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError, zlib.error) as e:
        raise DataError(f"archive {path}: cannot be read as NPZ ({e}). Write it anew with np.savez") from e
    columns, left_out = _columns({n: a for n, a in members.items() if isinstance(a, np.ndarray)})
    return columns, [*left_out, *(n for n, a in members.items() if not isinstance(a, np.ndarray))]


def _array(path: Path, name: str, file: "np.lib.npyio.NpzFile") -> Array | bytes:
    """A member; one that numpy did not write comes as its bytes."""
    try:
        return file[name]
    except ValueError as e:
        if "allow_pickle" not in str(e):
            raise
        raise DataError(
            f"archive {path}: {name!r} holds Python objects, expected an array of numbers. "
            "Write a dictionary of arrays as np.savez(path, **arrays), ragged episodes one after the other"
        ) from e


def read_hdf5(path: Path) -> tuple[dict[str, Array], list[str]]:
    """Arrays by name, `infos/cost` for those in groups, and names of those that are no columns.

    Raises:
        DataError: not an HDF5 file.
    """
    import h5py

    arrays: dict[str, Array] = {}

    def visit(name: str | bytes, item: object) -> None:
        name = name if isinstance(name, str) else name.decode("utf-8", "replace")
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item[()])

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except DAMAGED as e:
        raise DataError(f"archive {path}: cannot be read as HDF5 ({e}). Copy it again or write it anew") from e
    return _columns(arrays)


def _columns(arrays: dict[str, Array]) -> tuple[dict[str, Array], list[str]]:
    """`(N, 1)` as `(N,)`; single values and what belongs to no row (D4RL's `metadata/...`) are left out."""
    kept = {k: v for k, v in arrays.items() if v.ndim and not k.startswith("metadata/")}
    return {k: _flat(v) for k, v in kept.items()}, [k for k in arrays if k not in kept]


def _flat(value: Array) -> Array:
    return value[:, 0] if value.ndim == 2 and value.shape[1] == 1 else value
