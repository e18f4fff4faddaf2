"""Adaptive projected guidance: what saturates is taken out of the difference."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from safeplan.diffusion.guidance import COND, Context, Paper, Predictions
from safeplan.errors import ConfigError
from safeplan.guidance.cfg import CFG
from safeplan.guidance.papers import APG_PAPER
from safeplan.guidance.vector import rms, split
from safeplan.schema import in_range


@dataclass(frozen=True, eq=False)
class APG(CFG):
    """CFG on x0 with momentum, then a clamp, then less of what is parallel to the conditional prediction.

    m = (c - ref) + momentum m_prev; d = m min(1, r / rms(m)); x0 + (w - 1)(d_orthogonal + eta d_parallel).
    eta = 1, r = inf, momentum = 0 is CFG. The paper's thresholds are norms: r here is theirs over sqrt(entries),
    so that one setting serves samples of all sizes (SDXL 15 -> 0.0586).

    Args:
        w, reference, interval: those of CFG.
        eta: share kept of the parallel part.
        r: threshold on the RMS of the difference.
        momentum: negative ones push back what recurs.
        only: dimensions that norms and products run over, such as (1,) for the time of `[B, H, D]`; None: all.
    """

    eta: float = 0.0
    r: float = float("inf")
    momentum: float = 0.0
    only: tuple[int, ...] | None = None

    paper: ClassVar[Paper | None] = APG_PAPER
    equation: ClassVar[str] = "momentum, clamp, projection on the conditional prediction, on x0"

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range(self, "apg", {"finite": "eta"})
        if not self.r > 0 or not abs(self.momentum) < 1:
            raise ConfigError(f"apg: r = {self.r}, momentum = {self.momentum}; give r > 0 and momentum in (-1, 1)")

    def init(self, ctx: Context) -> Any:
        return torch.zeros_like(ctx.x) if self.momentum else None

    def shape(self, d: Tensor, predictions: Predictions, ctx: Context, state: Any) -> tuple[Tensor, Any]:
        if state is not None:
            d = state = d + self.momentum * state.to(d.dtype)
        if self.r != float("inf"):
            d = d * (self.r / rms(d, self.only).clamp_min(self.r)).to(d.dtype)
        parallel, orthogonal = split(d, predictions.x0(COND), self.only)
        return orthogonal + self.eta * parallel, state
