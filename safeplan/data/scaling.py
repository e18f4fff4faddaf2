"""Actions into [-1, 1], by bounds that somebody has stated."""

import numpy as np

from safeplan.data.layout import Array
from safeplan.errors import ConfigError
from safeplan.schema import DataImportConfig


def scaled(actions: Array, cfg: DataImportConfig, own: tuple[Array, Array] | None, notes: list[str]) -> Array:
    """Actions `[N, A]` with `low` as -1 and `high` as 1. Without bounds they stay as they are.

    Args:
        own: bounds `[A]` that the file itself states; the user's go before them.
        notes: gets a line for whatever is done.

    Raises:
        ConfigError: not one number, and not one for each entry.
    """
    size = actions.shape[1]
    if cfg.action_low:
        low, high, whose = _per_entry(cfg.action_low, size), _per_entry(cfg.action_high, size), "as asked for"
    elif own is not None:
        low, high, whose = _per_entry(own[0].tolist(), size), _per_entry(own[1].tolist(), size), "as the source states"
    else:
        low, high, whose = -np.ones(size), np.ones(size), ""
    if not (np.array_equal(low, -np.ones(size)) and np.array_equal(high, np.ones(size))):
        notes.append(f"actions from {low.tolist()} .. {high.tolist()} to [-1, 1], {whose}")
        actions = 2.0 * (actions - low) / (high - low) - 1.0
    if cfg.clip:
        cut = int((np.abs(actions) > 1.0).any(-1).sum())
        notes.append(f"actions of {cut} rows were cut to their bounds")
        actions = np.clip(actions, -1.0, 1.0)
    return actions


def _per_entry(values: list[float], size: int) -> Array:
    if len(values) not in (1, size):
        raise ConfigError(
            f"action_low, action_high: {len(values)} numbers for actions of {size} entries: give 1 or {size}"
        )
    return np.broadcast_to(np.array(values, float), size)
