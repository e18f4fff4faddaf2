"""Exponential moving averages of parameters: EMA weights and target networks."""

import torch
from torch import nn


@torch.no_grad()
def ema_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target <- (1 - tau) target + tau source, in place, all parameters at once; buffers are copied."""
    torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
        list(target.parameters()), list(source.parameters()), tau
    )
    for t, s in zip(target.buffers(), source.buffers(), strict=True):
        t.copy_(s)
