"""FISOR's residual noise network."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from safeplan.nets.dropout import Dropout
from safeplan.nets.mish import Mish, mish
from safeplan.nets.mlp import xavier

FEW = 64  # rows from 16 up to which a CPU multiplies faster with the weights first: products then run along their rows


class Block(nn.Module):
    """dropout -> LayerNorm -> Dense 4w -> mish -> Dense w, and the residual."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout: nn.Module = Dropout(dropout)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for layer in (self.up, self.down):  # flax's default: normal cut at two sd, variance 1 / inputs
            sd = 1 / math.sqrt(layer.in_features) / 0.87962566103423978
            nn.init.trunc_normal_(layer.weight, std=sd, a=-2 * sd, b=2 * sd)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.dropout(x))
        few = x.ndim == 2 and 16 <= len(x) <= FEW and x.device.type == "cpu" and x.dtype == torch.float32
        if few and not torch.is_grad_enabled():
            u = torch.addmm(self.up.bias[:, None], self.up.weight, h.mT)
            return x + torch.addmm(self.down.bias[:, None], self.down.weight, mish(u)).mT
        if x.device.type == "cpu":  # there the bias is added on the way
            return x + self.down(mish(nn.functional.linear(h, self.up.weight), self.up.bias))
        return x + self.down(mish(self.up(h)))


class FisorMLP(nn.Module):
    """Noise network for actions [fisor]: `(x [B, A], t [B], {"obs": [B, S]}) -> eps [B, A]`.

    t is the integer step 0 .. T-1, not normalised; its features are [cos, sin](2 pi w t) with learned w ~ N(0, 0.2^2).

    Args:
        returns: it is also told the return to earn, `[B]`, as the leaf "returns" or as `told` puts it into "obs". That
            leaf alone can be switched off: the network is trained with its observation always present.
    """

    learned_null = True

    def __init__(
        self,
        actions: int,
        observations: int,
        width: int = 256,
        blocks: int = 3,
        time_features: int = 64,
        time_width: int = 128,
        dropout: float = 0.1,
        returns: bool = False,
    ) -> None:
        super().__init__()
        self.nullable = returns
        self.w = nn.Parameter(0.2 * torch.randn(time_features // 2))
        self.time = nn.Sequential(
            xavier(nn.Linear(time_features, time_width)), Mish(), xavier(nn.Linear(time_width, time_width))
        )
        self.inp = xavier(nn.Linear(actions + observations + 2 * returns + time_width, width))
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(blocks))
        self.out = xavier(nn.Linear(width, actions))

    def time_features(self, t: Tensor) -> Tensor:
        """`[B]` steps -> `[B, time_features]`."""
        phase = 2 * math.pi * t[:, None] * self.w
        return torch.cat([torch.cos(phase), torch.sin(phase)], -1)

    def forward(
        self, x: Tensor, t: Tensor, leaves: Mapping[str, Tensor], null: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        obs, temb = leaves["obs"], self.time(self.time_features(t))
        if "returns" in leaves:
            obs = told(obs, leaves["returns"], (null or {}).get("returns"))
        return self.trunk(self.inp(torch.cat([x, obs, temb], -1)))

    def trunk(self, h: Tensor) -> Tensor:
        """What follows the first layer, `[B, width] -> [B, A]`."""
        for block in self.blocks:
            h = block(h)
        return self.out(mish(h))

    def first_layer(self, obs: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first layer in the parts that repeat over a sampler's steps: it is `x @ w + of_obs[i] + of_t[k]`.

        Args:
            obs: `[B, S]`, or what `told` makes of it. t: `[T]` steps.

        Returns:
            of_obs `[B, width]`, of_t `[T, width]`, w `[A, width]`.
        """
        of_x, of_obs, of_t = self.inp.weight.split(
            (self.out.out_features, obs.shape[-1], self.time[-1].out_features), 1
        )
        temb = self.time(self.time_features(t))
        return torch.addmm(self.inp.bias, obs, of_obs.mT), temb @ of_t.mT, of_x.mT


def told(obs: Tensor, returns: Tensor, off: Tensor | None = None) -> Tensor:
    """Observations `[B, S]` and the returns to earn `[B]` as one input, `[B, S + 2]`; no return where `off [B]`."""
    on = torch.ones_like(returns) if off is None else (~off).to(returns.dtype)
    return torch.cat([obs, (on * returns)[:, None], on[:, None]], -1)
