"""What learners of one denoising network share: a step of descent, its moving average, and resuming."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from safeplan.nets import ema_update


class Schedule(Protocol):
    """Settings with a learning rate."""

    @property
    def lr(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def decay_updates(self) -> int: ...


class Descent(Protocol):
    """Settings of a step."""

    @property
    def clip_grad(self) -> float: ...
    @property
    def ema_rate(self) -> float: ...


def learning_rate(c: Schedule, step: int) -> float:
    """Linear warm-up, then cosine to a tenth."""
    rate = c.lr * min(1.0, (step + 1) / max(c.warmup, 1))
    if c.decay_updates:
        rate *= 0.55 + 0.45 * math.cos(math.pi * min(step / c.decay_updates, 1.0))
    return rate


class EmaLearner:
    """Network, its exponential moving average, and optimiser.

    Attributes:
        updates: steps done.
    """

    net: nn.Module
    ema: nn.Module
    optimiser: torch.optim.Optimizer
    updates: int

    def descend(self, loss: Tensor, settings: Descent, lr: float) -> Mapping[str, Tensor]:
        """One step down `loss`; the average moves faster at first."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), settings.clip_grad)
        self.optimiser.param_groups[0]["lr"] = lr
        self.optimiser.step()
        self.updates += 1
        ema_update(self.ema, self.net, max(settings.ema_rate, 1.0 / (self.updates + 1)))
        return {"loss": loss.detach(), "grad_norm": norm.detach()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        return {
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates = state["updates"]
