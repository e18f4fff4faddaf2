"""Behaviour cloning: do what the log does, or what its safe episodes do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from safeplan.baselines.offline.facts import Facts, episode_sums
from safeplan.baselines.offline.rival import Rival, transitions
from safeplan.batches import TransitionSource
from safeplan.data import Log
from safeplan.errors import DataError
from safeplan.nets import MLP
from safeplan.schema import in_range


@dataclass(frozen=True)
class BcConfig:
    """As the DSRL benchmark's code has them [dsrl]."""

    batch: int = 512  # rows per update
    lr: float = 1e-3  # Adam
    hidden: int = 256  # width of the two hidden layers
    normalize: bool = False  # observations to zero mean and unit variance (not in that code)

    def __post_init__(self) -> None:
        in_range(self, "bc", {"count": "batch hidden", "positive": "lr"})


class Bc(Rival):
    """`tanh(net(s))` regressed on the log's actions by squared error: the conditional mean.

    Not a Gaussian head: evaluation acts on the mean, and the likelihood of a squashed Gaussian is unbounded where
    logs hold full throttle, which many do. The cost limit plays no part.
    """

    kind = "bc"
    Settings = BcConfig
    acting = ("actor",)
    limited = False

    def build(self) -> dict[str, nn.Module]:
        width = self.settings.hidden
        return {"actor": MLP(self.facts.obs_size, self.facts.act_size, (width, width))}

    def optimise(self) -> dict[str, torch.optim.Optimizer]:
        return self.adam(actor=self.settings.lr)

    def learn(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        guess = self.choose(self.encode(batch["observations"]), generator)
        return {"loss_actor": self.step("actor", (guess - batch["actions"]).square().mean())}

    def choose(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        return torch.tanh(self.nets["actor"](obs))

    @classmethod
    def source(cls, log: Log, facts: Facts, settings: Any, device: str | torch.device) -> TransitionSource:
        return TransitionSource(
            transitions(log, rows=safe_rows(log, facts.cost_limit)), settings.batch, log.digest(), device
        )


class BcSafe(Bc):
    """The same on the episodes whose cost is within the limit, "BC-Safe" of [dsrl]."""

    kind = "bc_safe"
    limited = True


def safe_rows(log: Log, limit: float) -> np.ndarray:
    """Rows of the episodes whose cost is at most `limit`; all for inf.

    Raises:
        DataError: there is no such episode.
    """
    costs = episode_sums(log, log.costs)
    rows = np.flatnonzero(np.repeat(costs <= limit, np.diff(log.episodes, axis=1)[:, 0]))
    if not len(rows):
        raise DataError(
            f"bc_safe: no episode of the log costs at most {limit:g}, the least is {costs.min():g}. "
            "Give a larger limit, or use bc"
        )
    return rows
