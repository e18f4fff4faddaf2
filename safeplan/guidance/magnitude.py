"""MAMBO-G: the scale is damped where the difference is large against the null prediction."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from safeplan.diffusion.convert import over
from safeplan.diffusion.guidance import Context, Paper, Predictions
from safeplan.guidance.cfg import CFG
from safeplan.guidance.papers import MAMBO_PAPER
from safeplan.guidance.vector import norm
from safeplan.schema import in_range


@dataclass(frozen=True, eq=False)
class MAMBO(CFG):
    """CFG with w - 1 times exp(-alpha |c - u| / |u|), norms over each sample, on x0; alpha >= 0, 0 is CFG."""

    alpha: float = 8.0

    paper: ClassVar[Paper | None] = MAMBO_PAPER
    equation: ClassVar[str] = "exponential damping by the size of the difference, on x0"

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range(self, "mambo", {"not negative": "alpha"})

    def shape(self, d: Tensor, predictions: Predictions, ctx: Context, state: Any) -> tuple[Tensor, Any]:
        size = norm(d)
        ratio = over(size, norm(predictions.x0(self.reference)), tiny=0.0)
        return torch.exp(-self.alpha * ratio).to(d.dtype) * d, state
