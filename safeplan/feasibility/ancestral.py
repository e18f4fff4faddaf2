"""FISOR's sampler where nothing guides it: `diffusion.ddpm` without what only guidance needs.

A choice of action is thirty small matrix products; what is computed around them counts. The first layer's share of the
observation and of the step is computed once, and the levels of the grid are numbers, not tensors.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from safeplan.diffusion import Grid
from safeplan.nets.fisor_mlp import FisorMLP
from safeplan.rng import randn


def ancestral(
    net: FisorMLP,
    grid: Grid,
    obs: Tensor,
    noise: Tensor,
    generators: Sequence[torch.Generator],
    trunk: Callable[[Tensor], Tensor],
) -> Tensor:
    """`[B, A]` in [-1, 1] from `noise [B, A]` for encoded `obs [B, S]`; draws and result of `ddpm` [ddpm, fisor].

    `ddpm(..., variance="beta", clip=(-1, 1))`, rounding apart. `trunk`: `net.trunk`, or the same compiled.
    """
    t = torch.arange(grid.steps - 1, -1, -1, dtype=obs.dtype, device=obs.device)
    of_obs, of_t, w = net.first_layer(obs, t)
    x = noise
    for k in range(grid.steps):
        a, s, a2, s2 = grid.a[k], grid.s[k], grid.a[k + 1], grid.s[k + 1]
        beta = max(s**2 - (a / a2 * s2) ** 2, 0.0)
        keep = math.sqrt(max(s2**2 - (s2 / s) ** 2 * beta, 0.0))
        eps = trunk(torch.addmm(of_obs + of_t[k], x, w))
        x = (a2 / a * x).add_(eps, alpha=keep - s * a2 / a)
        if s2 > 0:  # the last step draws no noise
            z = randn(list(generators), tuple(x.shape[1:]), dtype=x.dtype, device=x.device)
            x.add_(z, alpha=math.sqrt(beta))
        x.clamp_(-1.0, 1.0)
    return x
