"""Batches that depend on (seed, step) alone, so that a resumed run sees what an unkilled one would have seen."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeplan.errors import DataError
from safeplan.rng import torch_rng


def _on(device: str | torch.device, columns: Mapping[str, Any]) -> dict[str, Tensor]:
    moved = {k: (v if isinstance(v, Tensor) else torch.as_tensor(np.asarray(v))).to(device) for k, v in columns.items()}
    rows = {k: len(v) for k, v in moved.items()}
    if len(set(rows.values())) != 1 or 0 in rows.values():
        raise DataError(f"source: columns must have the same number of rows, at least 1; found {rows}")
    return moved


class TransitionSource:
    """Rows drawn uniformly with replacement; all columns `[N, ...]` live on the device.

    Row numbers are drawn on the CPU, so every device sees the same batches; with `draw_on_device` nothing is copied
    there, and batches depend on the kind of device too.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        size: int,
        digest: str = "",
        device: str | torch.device = "cpu",
        *,
        draw_on_device: bool = False,
    ):
        self.columns, self.size, self.digest, self.device = _on(device, columns), size, digest, device
        self.drawn = device if draw_on_device else "cpu"
        self.rows = len(next(iter(self.columns.values())))

    def batch(self, step: int, seed: int) -> dict[str, Tensor]:
        """Columns of `size` rows."""
        generator = torch_rng(seed, "batch", step, device=self.drawn)
        index = torch.randint(self.rows, (self.size,), generator=generator, device=self.drawn).to(self.device)
        return {k: v.index_select(0, index) for k, v in self.columns.items()}


class WindowSource:
    """Windows of `horizon` rows, drawn uniformly with replacement from the first rows `starts [W]`.

    `columns [N, ...]` give `[B, H, ...]`; `labels [W, ...]`, one entry per window, give `[B, ...]`.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        starts: Any,
        horizon: int,
        size: int,
        digest: str = "",
        device: str | torch.device = "cpu",
        labels: Mapping[str, Any] | None = None,
    ):
        self.columns, self.size, self.digest, self.device = _on(device, columns), size, digest, device
        self.labels = _on(device, labels) if labels else {}
        self.starts = torch.as_tensor(np.asarray(starts), dtype=torch.int64).to(device)
        self.offsets = torch.arange(horizon, device=device)
        rows = len(next(iter(self.columns.values())))
        if not len(self.starts) or int(self.starts.max()) + horizon > rows:
            raise DataError(f"source: {len(self.starts)} windows of {horizon} rows do not fit in {rows} rows")

    def batch(self, step: int, seed: int) -> dict[str, Tensor]:
        """Columns of `size` windows."""
        draw = torch.randint(len(self.starts), (self.size,), generator=torch_rng(seed, "batch", step)).to(self.device)
        index = self.starts[draw][:, None] + self.offsets
        return {k: v[index] for k, v in self.columns.items()} | {k: v[draw] for k, v in self.labels.items()}
