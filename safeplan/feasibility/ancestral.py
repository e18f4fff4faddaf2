"""FISOR's sampler where nothing guides it: `diffusion.ddpm` without what only guidance needs.

A choice of action is thirty small matrix products; what is computed around them counts. The first layer's share of the
observation and of the step is computed once, the levels of the grid are numbers, not tensors, and all noise is drawn
before the first step, so that a compiler makes one piece of the whole.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from safeplan.diffusion import Grid
from safeplan.nets.fisor_mlp import FisorMLP


def ancestral(net: FisorMLP, grid: Grid, obs: Tensor, noise: Tensor, fresh: Sequence[Tensor]) -> Tensor:
    """`[B, A]` in [-1, 1] from `noise [B, A]` for encoded `obs [B, S]`; the result of `ddpm` [ddpm, fisor].

    `ddpm(..., variance="beta", clip=(-1, 1))`, rounding apart.

    Args:
        fresh: noise `[B, A]` of every step but the last, which adds none, in the order in which `ddpm` draws it.
    """
    t = torch.arange(grid.steps - 1, -1, -1, dtype=obs.dtype, device=obs.device)
    of_obs, of_t, w = net.first_layer(obs, t)
    x = noise
    for k in range(grid.steps):
        a, s, a2, s2 = grid.a[k], grid.s[k], grid.a[k + 1], grid.s[k + 1]
        beta = max(s**2 - (a / a2 * s2) ** 2, 0.0)
        keep = math.sqrt(max(s2**2 - (s2 / s) ** 2 * beta, 0.0))
        eps = net.trunk(torch.addmm(of_obs + of_t[k], x, w))
        x = a2 / a * x + (keep - s * a2 / a) * eps
        if k + 1 < grid.steps:
            x = x + math.sqrt(beta) * fresh[k]
        x = x.clamp(-1.0, 1.0)
    return x
