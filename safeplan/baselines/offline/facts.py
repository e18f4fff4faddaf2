"""What a log says about its task, and sums along its episodes."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from safeplan.data import Log
from safeplan.data.hdf5 import faults
from safeplan.errors import ConfigError, DataError
from safeplan.types import Array


@dataclass(frozen=True)
class Facts:
    """Sizes S and A, the cost limit (None: none), and what the log's episodes reach; JSON through `to_dict`.

    Attributes:
        longest: steps of the longest episode.
        return_scale, cost_scale: largest |return| and largest cost of an episode; 1 where all are 0.
        frontier: (cost, return) of the episodes that no other beats in both, costs rising.
    """

    obs_size: int
    act_size: int
    limit: float | None
    longest: int
    return_scale: float
    cost_scale: float
    frontier: tuple[tuple[float, float], ...]

    @staticmethod
    def of(log: Log, limit: float) -> "Facts":
        """Raises ConfigError for a limit that is NaN or negative, DataError as `check_log`."""
        check_log(log)
        if not limit >= 0:
            raise ConfigError(f"cost limit is {limit}, expected a number of at least 0 (inf: none)")
        returns, costs = episode_sums(log, log.rewards), episode_sums(log, log.costs)
        return Facts(
            log.observations.shape[1],
            log.actions.shape[1],
            None if math.isinf(limit) else float(limit),
            int(np.diff(log.episodes, axis=1).max()),
            float(np.abs(returns).max()) or 1.0,
            float(costs.max()) or 1.0,
            pareto(costs, returns),
        )

    @staticmethod
    def from_dict(d: Mapping[str, Any]) -> "Facts":
        return Facts(**{**d, "frontier": tuple((float(c), float(r)) for c, r in d["frontier"])})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def cost_limit(self) -> float:
        """The limit as a number, inf for none."""
        return math.inf if self.limit is None else self.limit

    def best_within(self, limit: float) -> tuple[float, float]:
        """(cost, return) of the log's best episode whose cost is within `limit`.

        Raises:
            DataError: there is none.
        """
        return best_within(self.frontier, limit)


def best_within(frontier: tuple[tuple[float, float], ...], limit: float) -> tuple[float, float]:
    """The last point of a frontier whose cost is within `limit`; DataError when there is none."""
    within = [point for point in frontier if point[0] <= limit]
    if not within:
        raise DataError(
            f"no episode of the log costs at most {limit:g}, the least is {frontier[0][0]:g}. Give a larger limit"
        )
    return within[-1]


def pareto(costs: Array, returns: Array) -> tuple[tuple[float, float], ...]:
    """(cost, return) of the episodes `[E]` that no other beats in both, both rising."""
    points: list[tuple[float, float]] = []
    for cost, value in sorted(zip(costs.tolist(), returns.tolist(), strict=True), key=lambda p: (p[0], -p[1])):
        if not points or value > points[-1][1]:
            points.append((cost, value))
    return tuple(points)


def check_log(log: Log) -> None:
    """DataError that lists all faults of a log."""
    if found := faults(log.columns):
        raise DataError(f"log: {len(found)} fault(s):\n" + "\n".join(f"  - {f}" for f in found))


def episode_sums(log: Log, column: Array) -> Array:
    """Sums `[E]`, float64, of `column [N]` over each episode."""
    return np.add.reduceat(column.astype(np.float64), log.episodes[:, 0])


def to_go(log: Log, column: Array) -> Array:
    """`[N]` float64: the sum of `column [N]` from each row to the end of its episode, that row included."""
    total = np.cumsum(column.astype(np.float64))
    index = np.repeat(np.arange(len(log.episodes)), np.diff(log.episodes, axis=1)[:, 0])
    return total[log.episodes[index, 1] - 1] - total + column


def threshold(limit: float, gamma: float, steps: int) -> float:
    """The discounted cost that corresponds to `limit` over an episode of `steps` steps: its cost spread evenly.

    `limit (1 - gamma^H) / ((1 - gamma) H)`, as the DSRL benchmark sets it for all critics [dsrl]; inf for inf.
    """
    return limit * (1.0 - gamma**steps) / ((1.0 - gamma) * steps)
