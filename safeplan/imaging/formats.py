"""Files that image sets come in: IDX (MNIST and its kin), CIFAR's pickles, `.npz`. Reading runs no code from a file."""

import gzip
import io
import math
import pickle
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.errors import DataError
from safeplan.types import Array

# all that a pickled array of bytes needs; anything else in the file is refused
_HARMLESS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def read_idx(path: str | Path) -> Array:
    """The uint8 array of an IDX file, gzipped or not.

    Raises:
        DataError: missing, corrupt, not uint8, or cut short.
    """
    path = Path(path)
    raw = _bytes(path)
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as e:
            raise DataError(f"{path}: corrupt gzip ({e}). Delete it and get it again") from e
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"{path}: no IDX file of bytes (it starts with {raw[:4].hex() or 'nothing'}). Get it again")
    n = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(n)]
    if len(raw) != 4 + 4 * n + math.prod(shape):
        raise DataError(f"{path}: {len(raw)} bytes do not hold an array of shape {shape}. Delete it and get it again")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * n).reshape(shape)


def read_cifar(path: str | Path, split: str) -> tuple[Array, Array]:
    """Images `[N, 3, 32, 32]` uint8 and labels `[N]` from `cifar-10-python.tar.gz` or its unpacked folder.

    Raises:
        DataError: missing, corrupt, or holding anything but arrays and lists.
    """
    path = Path(path)
    names = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    if path.is_dir():
        parts = [_unpickle(_bytes(path / n), path / n) for n in names]
    else:
        raw = _bytes(path)
        try:
            with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
                members = {Path(m.name).name: m for m in tar.getmembers() if m.isfile()}
                files = [tar.extractfile(members[n]) for n in names]
                parts = [_unpickle(f.read(), path) for f in files if f is not None]
        except (tarfile.TarError, OSError, EOFError, KeyError, zlib.error) as e:
            raise DataError(f"{path}: corrupt, or no CIFAR-10 archive ({e!r}). Delete it and get it again") from e
    try:
        x = np.concatenate([np.asarray(p[b"data"], np.uint8).reshape(-1, 3, 32, 32) for p in parts])
        y = np.concatenate([np.asarray(p[b"labels"], np.int64) for p in parts])
    except (KeyError, TypeError, ValueError) as e:
        raise DataError(f"{path}: no CIFAR-10 batch ({e!r}). Get cifar-10-python.tar.gz again") from e
    return x, y


def read_npz(path: str | Path) -> tuple[Array, Array]:
    """Images `[N, C, H, W]` uint8 and labels from an `.npz` with `x` (`[N, H, W]` or `[N, H, W, C]`) and `y`.

    Raises:
        DataError: missing, corrupt, or without these arrays.
    """
    path = Path(path)
    try:
        with np.load(io.BytesIO(_bytes(path)), allow_pickle=False) as file:
            x, y = file["x"], file["y"]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise DataError(f"{path}: no .npz with arrays x and y ({e}). Write it with numpy.savez(x=..., y=...)") from e
    if x.dtype != np.uint8 or x.ndim not in (3, 4):
        raise DataError(f"{path}: x is {x.dtype} of shape {x.shape}, expected uint8 [N, H, W] or [N, H, W, C]")
    return x[:, None] if x.ndim == 3 else np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror}). Give the folder that holds it") from e


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return super().find_class(module, name)


def _unpickle(raw: bytes, path: Path) -> dict[Any, Any]:
    try:
        return _Arrays(io.BytesIO(raw), encoding="bytes").load()
    except Exception as e:  # a corrupt pickle raises nearly anything
        raise DataError(f"{path}: corrupt or not to be trusted ({e}). Delete it and get it again") from e
