"""Synthetic images and a tiny model that has seen none: enough for shapes, masks and resume."""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import nn

from safeplan.imaging import ImageConfig, ImageModel, ImageSet, LabelUNet

TINY = ImageConfig(width=8, levels=2, patch=4, head_width=8, batch=4, warmup=2)


def synthetic_set(n: int = 40, channels: int = 1, seed: int = 0) -> ImageSet:
    """Noise with a bright quarter that tells the label, 0 to 3."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 60, (n, channels, 32, 32), dtype=np.uint8), np.arange(n) % 4
    for image, k in zip(images, labels, strict=True):
        image[:, 16 * (k // 2) : 16 * (k // 2) + 16, 16 * (k % 2) : 16 * (k % 2) + 16] += 150
    return ImageSet("mnist", images, labels.astype(np.int64), ("a", "b", "c", "d"))


def tiny_net(classes: int = 4, config: ImageConfig = TINY) -> LabelUNet:
    """Random weights, the output layer too, which would start at 0."""
    torch.manual_seed(0)
    net = LabelUNet(1, classes, config)
    nn.init.normal_(net.unet.conv_out.weight, std=0.2)
    return net.eval().requires_grad_(False)


def tiny_model(predict: str = "edm") -> ImageModel:
    return ImageModel(tiny_net(), "mnist", ("a", "b", "c", "d"), 1, predict, 0.5)


def write_idx(path: Path, array: np.ndarray) -> Path:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    raw = head + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def write_mnist(folder: Path, n: int = 6, prefix: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Both splits in the official layout; 28 x 28 synthetic images."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), np.arange(n) % 10
    for split in ("train", "t10k"):
        write_idx(folder / f"{prefix}{split}-images-idx3-ubyte.gz", x)
        write_idx(folder / f"{prefix}{split}-labels-idx1-ubyte.gz", y)
    return x, y
