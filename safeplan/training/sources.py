"""Where `train` gets its batches."""

from typing import Protocol

from torch import Tensor

from safeplan.batches import TransitionSource, WindowSource

__all__ = ["Source", "TransitionSource", "WindowSource"]


class Source(Protocol):
    """Where `train` gets its batches."""

    digest: str  # hash of the data; checkpoints carry it, and a resumed run must find the same

    def batch(self, step: int, seed: int) -> dict[str, Tensor]:
        """Batch number `step` under `seed`."""
        ...
