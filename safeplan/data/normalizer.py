"""Mean and spread of a log's columns, and the range that it covers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from safeplan.errors import DataError, ShapeError

Array = np.ndarray
FLOOR = 1e-6  # a column that never changes keeps its unit


@dataclass(frozen=True)
class Normalizer:
    """`encode(x) = (x - mean) / std` on the last axis, for arrays and tensors `[..., D]`.

    `low`, `high` `[D]` are the range seen by `fit`: the support of the data, in physical units.
    """

    mean: Array
    std: Array
    low: Array
    high: Array

    def __post_init__(self) -> None:
        for name in ("mean", "std", "low", "high"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float32))
        shapes = {self.mean.shape, self.std.shape, self.low.shape, self.high.shape}
        if len(shapes) != 1 or self.mean.ndim != 1:
            raise ShapeError(f"normalizer: mean, std, low and high have shapes {sorted(shapes)}, expected one [D]")
        if not (self.std > 0).all():
            raise DataError(f"normalizer: std holds {self.std.min()}, every entry must be above 0")

    @staticmethod
    def fit(x: Array) -> "Normalizer":
        """From rows `[N, D]`. Raises DataError on an empty or non-finite array."""
        x = np.asarray(x)
        if x.ndim != 2 or not len(x):
            raise ShapeError(f"normalizer.fit: x is {x.shape}, expected [N, D] with N > 0")
        if not np.isfinite(x).all():
            raise DataError("normalizer.fit: x holds NaN or infinity. Drop those rows first")
        mean, std = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
        return Normalizer(mean, np.where(std > FLOOR, std, 1.0), x.min(0), x.max(0))

    @staticmethod
    def identity(size: int) -> "Normalizer":
        """Changes nothing, and covers everything."""
        wide = np.full(size, np.finfo(np.float32).max, np.float32)
        return Normalizer(np.zeros(size), np.ones(size), -wide, wide)

    def extended(self, low: float, high: float) -> "Normalizer":
        """One column more, which is left as it is and covers [low, high]."""
        more = {"mean": 0.0, "std": 1.0, "low": low, "high": high}
        return Normalizer(**{k: np.append(getattr(self, k), np.float32(v)) for k, v in more.items()})

    def _pair(self, x: Any) -> tuple[Any, Any]:
        if x.shape[-1] != len(self.mean):
            raise ShapeError(f"normalizer: last axis has {x.shape[-1]} entries, expected {len(self.mean)}")
        if isinstance(x, np.ndarray):
            return self.mean, self.std
        return x.new_tensor(self.mean), x.new_tensor(self.std)

    def encode(self, x: Any) -> Any:
        """Physical units to normalised, `[..., D]`."""
        mean, std = self._pair(x)
        return (x - mean) / std

    def decode(self, x: Any) -> Any:
        """Normalised to physical units, `[..., D]`."""
        mean, std = self._pair(x)
        return x * std + mean

    def supports(self, x: Array, margin: float = 0.05) -> Array:
        """`[...]` true where every entry of `x [..., D]` lies in the data's range, widened by `margin` of its width."""
        x = np.asarray(x)
        self._pair(x)
        slack = margin * np.maximum(self.high.astype(float) - self.low, FLOOR)
        return np.asarray(((x >= self.low - slack) & (x <= self.high + slack)).all(-1))

    def to_dict(self) -> dict[str, Array]:
        return {"mean": self.mean, "std": self.std, "low": self.low, "high": self.high}

    @staticmethod
    def from_dict(d: Mapping[str, Any]) -> "Normalizer":
        return Normalizer(*(np.asarray(d[k]) for k in ("mean", "std", "low", "high")))
