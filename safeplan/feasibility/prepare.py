"""From a log to the columns that FISOR learns from."""

import numpy as np
import torch
from torch import Tensor

from safeplan.data import ACTION_SLACK, Log, reward_scale
from safeplan.errors import DataError
from safeplan.feasibility.config import FisorConfig
from safeplan.feasibility.losses import relabel

EDGE = 1e-5  # actions are kept this far inside [-1, 1]


def columns(log: Log, config: FisorConfig) -> dict[str, Tensor]:
    """`observations`, `next_observations` `[N, S]`, `actions [N, A]`, `rewards`, `h`, `masks` `[N]`, all float32.

    With `config.budget` also `costs [N]`, with `config.condition_dropout` also `returns [N]` (see `return_ranks`).

    Raises:
        DataError: actions outside [-1, 1]; `violation="column"` and the log has no column `h`.
    """
    if np.abs(log.actions).max() > 1.0 + ACTION_SLACK:
        raise DataError(
            f"log: actions reach {np.abs(log.actions).max():.3g}, expected [-1, 1]. Rescale them to the action bounds"
        )
    if config.violation == "column":
        if "h" not in log.extra:
            raise DataError(
                "log: no column 'h', which policy.violation=column reads (h > 0 where the constraint is violated). "
                "Add it, or use policy.violation=relabel, which needs only the costs"
            )
        h = torch.from_numpy(log.extra["h"])
    else:
        h = relabel(torch.from_numpy(early(log, config.lead)), config.violating, config.satisfying)
    done = log.terminals if config.timeouts_bootstrap else log.ends
    scale = reward_scale(log) if config.scale_rewards else 1.0
    return {
        "observations": torch.from_numpy(log.observations),
        "next_observations": torch.from_numpy(log.next_observations),
        "actions": torch.from_numpy(log.actions).clamp(-1.0 + EDGE, 1.0 - EDGE),
        "rewards": torch.from_numpy(log.rewards) * scale,
        "h": h,
        "masks": torch.from_numpy(1.0 - done.astype(np.float32)),
        **({"costs": torch.from_numpy(log.costs)} if config.budget > 0 else {}),
        **({"returns": return_ranks(log, done, config.gamma)} if config.condition_dropout > 0 else {}),
    }


def early(log: Log, lead: int) -> np.ndarray:
    """Costs `[N]`, each also at the `lead` steps of its episode before it.

    A critic finds the edge of the feasible set to within a few steps of time, and may err on the wrong side; with a
    lead it errs on the safe one. Its price: near an edge that can be kept at will, such as a speed limit, what the
    driver went on to do counts against the state, and the policy stays further away than it needs to.
    """
    costs = log.costs.copy()
    for a, b in log.episodes:
        for k in range(1, min(lead, b - a - 1) + 1):
            costs[a : b - k] = np.maximum(costs[a : b - k], log.costs[a + k : b])
    return costs


def return_ranks(log: Log, done: np.ndarray, gamma: float) -> Tensor:
    """Share of the log's rows that earn no more than each, `[N]` in (0, 1]: 1 is the best of the log.

    What a row earns is the discounted mean of the rewards from it to the end of its episode, so that rows shortly
    before a time-out do not look poor. After `done [N]` nothing is earned, for ever.
    """
    from scipy.signal import lfilter  # slow to import, and few need it
    from scipy.stats import rankdata

    weights, mean = np.where(done, 1.0 / (1.0 - gamma), 1.0), np.empty(len(log))
    for a, b in log.episodes:
        backwards = np.stack([log.rewards[a:b], weights[a:b]])[:, ::-1]
        earned, weight = np.asarray(lfilter([1.0], [1.0, -gamma], backwards))[:, ::-1]
        mean[a:b] = earned / weight
    return torch.from_numpy((rankdata(mean, method="max") / len(log)).astype(np.float32))
