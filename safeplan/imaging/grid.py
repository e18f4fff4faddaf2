"""Samples as one labelled picture."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from safeplan.errors import ShapeError
from safeplan.imaging.datasets import to_bytes

SCALE, GAP, CAPTION = 2, 4, 12  # pixels per pixel; around each image; height of a caption


def save_grid(path: str | Path, images: Tensor, names: Sequence[str], columns: int = 10) -> Path:
    """Write images `[N, C, H, W]` in [-1, 1] (C is 1 or 3), row by row, each under its name; PNG, temp then rename.

    Raises:
        ShapeError: not as many names as images, or another number of channels.
    """
    from PIL import Image, ImageDraw

    if images.ndim != 4 or len(names) != len(images) or not len(names) or images.shape[1] not in (1, 3):
        raise ShapeError(f"save_grid: images {tuple(images.shape)}, {len(names)} names; give [N, 1 or 3, H, W] and N")
    path, columns = Path(path), min(columns, len(names))
    pixels = to_bytes(images.cpu()).permute(0, 2, 3, 1)
    wide, high = SCALE * pixels.shape[2] + GAP, SCALE * pixels.shape[1] + GAP + CAPTION
    sheet = Image.new("RGB", (columns * wide + GAP, -(-len(names) // columns) * high + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (tile, name) in enumerate(zip(pixels.expand(-1, -1, -1, 3).numpy(), names, strict=True)):
        x, y = GAP + i % columns * wide, GAP + i // columns * high
        draw.text((x, y), name, fill="black", font_size=10)
        size = (SCALE * tile.shape[1], SCALE * tile.shape[0])
        sheet.paste(Image.fromarray(tile).resize(size, Image.Resampling.NEAREST), (x, y + CAPTION))
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.tmp")
    sheet.save(temp, "PNG")
    os.replace(temp, path)
    return path
