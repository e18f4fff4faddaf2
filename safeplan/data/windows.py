"""Windows of consecutive steps that never cross the end of an episode, as index arrays."""

import numpy as np

from safeplan.data.hdf5 import Log
from safeplan.errors import DataError

Array = np.ndarray


def windows(log: Log, horizon: int, stride: int = 1, keep: Array | None = None) -> Array:
    """First rows `[W]` of all windows of `horizon` rows, every `stride`-th within an episode.

    Args:
        keep: optional `[N]` mask; a window is kept only when all its rows are true (only safe stretches, say).

    Raises:
        DataError: no window fits.
    """
    if horizon < 1 or stride < 1:
        raise DataError(f"windows: horizon {horizon} and stride {stride} must be at least 1")
    parts = [np.arange(a, b - horizon + 1, stride) for a, b in log.episodes]
    starts = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    if keep is not None:
        bad = np.concatenate([[0], np.cumsum(~np.asarray(keep, bool))])
        starts = starts[bad[starts + horizon] == bad[starts]]
    if not len(starts):
        longest = int(np.diff(log.episodes, axis=1).max(initial=0))
        raise DataError(
            f"windows: no window of {horizon} steps in {len(log)} rows (longest episode {longest}). "
            "Use a shorter horizon or longer episodes"
        )
    return starts.astype(np.int64)


def gather(array: Array, starts: Array, horizon: int) -> Array:
    """Rows `[B, H, ...]` of `array [N, ...]` for windows that begin at `starts [B]`."""
    return array[np.asarray(starts)[:, None] + np.arange(horizon)]
