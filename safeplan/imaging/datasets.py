"""Labelled images: MNIST, Fashion-MNIST and CIFAR-10, all as 32 x 32 uint8, from a folder or the official address.

A folder of the user's comes first, then `$SAFEPLAN_DATA`, then the cache; what is nowhere is downloaded and checked.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safeplan.data.catalog import DATA
from safeplan.data.download import download
from safeplan.errors import DataError
from safeplan.imaging.formats import read_cifar, read_idx, read_npz
from safeplan.types import Array

SIZE = 32  # pixels; MNIST and Fashion-MNIST are padded from 28
CACHE = "SAFEPLAN_CACHE"  # environment variable: where downloads are kept; default ~/.cache/safeplan
CIFAR = "cifar-10-python.tar.gz"
_PARTS = {"train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")}
_PARTS["test"] = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")


@dataclass(frozen=True)
class Spec:
    """What is known of an image set: channels, class names, official address, SHA-256 of its files."""

    channels: int
    classes: tuple[str, ...]
    url: str
    sha256: dict[str, str]


SETS = {
    "mnist": Spec(
        1,
        tuple("0123456789"),
        "https://ossci-datasets.s3.amazonaws.com/mnist/",  # LeCun's own page no longer serves the files
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    "fashion": Spec(
        1,
        ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
    "cifar10": Spec(
        3,
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        "https://www.cs.toronto.edu/~kriz/",
        {CIFAR: "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"},
    ),
}


@dataclass(frozen=True)
class ImageSet:
    """Images `[N, C, 32, 32]` uint8, labels `[N]` int64, class names, and a hash of it all."""

    name: str
    images: Array
    labels: Array
    classes: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 of images and labels."""
        sha = hashlib.sha256(f"{self.name} {self.images.shape}".encode())
        sha.update(np.ascontiguousarray(self.images).tobytes())
        sha.update(np.ascontiguousarray(self.labels).tobytes())
        return sha.hexdigest()


def to_unit(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_bytes(x: Tensor) -> Tensor:
    """[-1, 1] to uint8, cut at the ends, rounded.

    Raises:
        DataError: a value is not finite.
    """
    check_finite("to_bytes", x)
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def check_finite(who: str, x: Tensor) -> None:
    """Raise DataError for images `[N, ...]` with NaN or infinity, which would be cut to ordinary grey."""
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).reshape(len(x), -1).any(1).sum())
        raise DataError(f"{who}: {bad} of {len(x)} images are not finite. Lower the scale of what guides them")


def load_images(name: str, split: str = "train", folder: str | Path | None = None) -> ImageSet:
    """One split of an image set.

    Args:
        name: mnist, fashion or cifar10. split: train or test.
        folder: searched first, and alone: what is not there is not downloaded.

    Raises:
        DataError: an unknown name; a file is missing and cannot be downloaded, corrupt, or of the wrong shape.
    """
    if name not in SETS or split not in _PARTS:
        raise DataError(f"images {name!r}, split {split!r}: use one of {', '.join(SETS)}, split train or test")
    found = _find(name, split, folder)
    if found is None and folder is not None:
        raise DataError(f"{name}: no {' or '.join(_wanted(name, split))} under {folder}. Put them there, or give none")
    files = [_download(name, f) for f in _wanted(name, split)] if found is None else found
    if files[0].suffix == ".npz":
        images, labels = read_npz(files[0])
    elif name == "cifar10":
        images, labels = read_cifar(files[0], split)
    else:
        images, labels = read_idx(files[0])[:, None], read_idx(files[1])
    spec, labels = SETS[name], np.asarray(labels).astype(np.int64)
    shape = images.shape[1:]
    if images.ndim != 4 or shape[0] != spec.channels or shape[1] != shape[2] or shape[1] > SIZE or shape[1] % 2:
        raise DataError(
            f"{files[0]}: images are {shape}, expected {spec.channels} channel(s) and at most {SIZE} pixels"
        )
    if len(labels) != len(images) or not len(labels) or labels.min() < 0 or labels.max() >= len(spec.classes):
        raise DataError(
            f"{files[-1]}: {len(labels)} labels for {len(images)} images, or not 0..{len(spec.classes) - 1}"
        )
    pad = (SIZE - shape[1]) // 2
    return ImageSet(name, np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad))), labels, spec.classes)


def cache_dir() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "safeplan")


def _wanted(name: str, split: str) -> tuple[str, ...]:
    return (CIFAR,) if name == "cifar10" else _PARTS[split]


def _find(name: str, split: str, folder: str | Path | None) -> list[Path] | None:
    """The files of a split where they lie, or None."""
    for place, bare in _places(name, folder):
        choices = [[place / CIFAR], [place / "cifar-10-batches-py"], [place]]
        if name != "cifar10":  # as distributed, or unpacked
            plain = [n.removesuffix(".gz") for n in _wanted(name, split)]
            prefixes = [f"{name}-", ""] if bare else [f"{name}-"]
            choices = [[place / f"{p}{n}{end}" for n in plain] for p in prefixes for end in (".gz", "")]
        for files in choices:
            if all(f.is_file() or (f / "test_batch").is_file() for f in files):
                return files
        packed = sorted(place.glob(f"{name}_{split}*.npz"))
        if packed:
            return packed[:1]
    return None


def _places(name: str, folder: str | Path | None) -> Iterator[tuple[Path, bool]]:
    """Folders to look in, and whether files there need not say in their name which set they belong to."""
    inside = {"mnist": "MNIST/raw", "fashion": "FashionMNIST/raw", "cifar10": "cifar10"}[name]  # as torchvision has it
    if folder is not None:
        yield from ((Path(folder), True), (Path(folder) / name, True), (Path(folder) / inside, True))
        return
    if os.environ.get(DATA):
        root = Path(os.environ[DATA])
        yield from ((root / name, True), (root / inside, True), (root, False), (root / "images_small", False))
    yield cache_dir() / name, True


def _download(name: str, file: str) -> Path:
    """The file in the cache, downloaded and checked when it is not there yet."""
    spec, path = SETS[name], cache_dir() / name / file
    if not path.is_file():
        remedy = f"Put {file} into a folder and give data.path=FOLDER, or into {name}/ under the folder in ${DATA}"
        download(spec.url + file, path, sha256=spec.sha256[file], remedy=remedy)
    return path
