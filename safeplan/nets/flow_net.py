"""The flow of a system over a short time, as a network: where a state goes, and how much volume shrinks on the way."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from safeplan.errors import ConfigError
from safeplan.nets.mlp import MLP

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "tanh": nn.Tanh, "relu": nn.ReLU}


class FlowNet(nn.Module):
    """`(x [P, n], theta [P, p], tau [P]) -> (state [P, n], log-gain [P])` after `tau` seconds, 0 <= tau <= segment_s.

    state = x + tau N_x and log-gain = tau N_g, so both are exact at tau = 0. Inputs and outputs are scaled by buffers
    that `fit_scales` sets from data.

    Args:
        n, p: states and parameters. hidden: widths of the layers. segment_s: longest duration (s).
        residual: False predicts the state itself and leaves inputs as they are, the published network [density_corl].
    """

    center: Tensor
    spread: Tensor
    scale: Tensor
    horizon_s = float("inf")  # up to when it may be asked

    def __init__(
        self,
        n: int,
        p: int,
        hidden: Sequence[int] = (64, 64, 64),
        segment_s: float = 1.0,
        *,
        activation: str = "silu",
        residual: bool = True,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ConfigError(f"flow net: activation={activation}, expected one of {', '.join(ACTIVATIONS)}")
        if not segment_s > 0:
            raise ConfigError(f"flow net: segment_s={segment_s}, expected seconds above 0")
        self.n, self.p, self.segment_s, self.residual = n, p, float(segment_s), residual
        self.body = MLP(n + p + 1, n + 1, hidden, ACTIVATIONS[activation], init=lambda layer: layer)  # torch's own
        for name, size, value in (("center", n + p, 0.0), ("spread", n + p, 1.0), ("scale", n + 1, 1.0)):
            self.register_buffer(name, torch.full((size,), value))

    @torch.no_grad()
    def fit_scales(self, inputs: Tensor, change: Tensor) -> None:
        """Scales from states and parameters `[M, n + p]` and from what changes over a segment, `[M, n + 1]`."""
        sd = inputs.std(0)
        self.center.copy_(inputs.mean(0))
        self.spread.copy_(torch.where(sd > 1e-9, 1.5 * sd, 1.0))
        self.scale.copy_(change.square().mean(0).sqrt())

    def units(self, tau: Tensor, begin: Tensor) -> Tensor:
        """What an error counts in, `[n + 1]`: at every time the same."""
        return self.scale.clamp_min(1e-9)

    def forward(self, x: Tensor, theta: Tensor, tau: Tensor, begin: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As above; when it begins makes no difference, since the equations do not depend on time."""
        if not self.residual:
            out = self.body(torch.cat([x, theta, tau[:, None]], -1))
            return out[:, : self.n], out[:, self.n] * tau
        share = (tau / self.segment_s)[:, None]
        inputs = (torch.cat([x, theta], -1) - self.center) / self.spread
        out = self.body(torch.cat([inputs, 2 * share - 1], -1)) * self.scale * share
        return x + out[:, : self.n], out[:, self.n]
