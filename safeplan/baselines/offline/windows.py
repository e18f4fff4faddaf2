"""Windows of consecutive rows with what is still to come, for methods that see sequences."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeplan.baselines.offline.facts import to_go
from safeplan.baselines.offline.rival import transitions
from safeplan.data import Log


def sequence_columns(log: Log, returns: float, costs: float) -> dict[str, Tensor]:
    """Per row: `observations`, `actions`, `costs`, `to_return` and `to_cost` (over `returns` and `costs`), `time` (step
    of its episode), `episode` (its number)."""
    episodes = log.episodes
    index = np.repeat(np.arange(len(episodes)), np.diff(episodes, axis=1)[:, 0])
    plain = transitions(log)
    return {k: plain[k] for k in ("observations", "actions", "costs")} | {
        "to_return": torch.from_numpy((to_go(log, log.rewards) / returns).astype(np.float32)),
        "to_cost": torch.from_numpy((to_go(log, log.costs) / costs).astype(np.float32)),
        "time": torch.from_numpy(np.arange(len(log)) - episodes[index, 0]),
        "episode": torch.from_numpy(index),
    }


def padded(columns: dict[str, Tensor], rows: int) -> dict[str, Any]:
    """`rows` rows of zeros more, of episode -1: windows may run past the last episode."""
    out = {k: torch.cat([v, v.new_zeros((rows, *v.shape[1:]))]) for k, v in columns.items()}
    out["episode"][len(out["episode"]) - rows :] = -1
    return out
