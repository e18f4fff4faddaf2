"""What learners of one network with a falling learning rate share: a step down, and resuming."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer


class NetLearner:
    """A network, its optimiser and the number of updates done; `config` as the `Learner` protocol has it."""

    net: nn.Module
    optimiser: Optimizer
    config: dict[str, Any]
    updates: int = 0

    def step(self, loss: Tensor, lr: float) -> None:
        """One step down the gradient of `loss` at learning rate `lr`."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.param_groups[0]["lr"] = lr
        self.optimiser.step()
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "optimiser": self.optimiser.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates = state["updates"]

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {f"net.{k}": v for k, v in self.net.state_dict().items()}, self.config
