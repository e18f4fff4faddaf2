"""TCFG: of the null score only what lies along the main direction of both scores is kept."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from safeplan.diffusion.convert import over
from safeplan.diffusion.guidance import COND, Context, Guided, Paper, Predictions
from safeplan.guidance.cfg import CFG
from safeplan.guidance.papers import TCFG_PAPER
from safeplan.guidance.scale import gain, scale_at
from safeplan.guidance.vector import dot


def main_direction(c: Tensor, u: Tensor) -> Tensor:
    """First right-singular vector of the two rows [c; u], `[B, ...]`, from their 2 x 2 Gram matrix in float64."""
    cc, uu, cu = dot(c, c), dot(u, u), dot(c, u)
    angle = 0.5 * torch.atan2(2 * cu, cc - uu)  # the first eigenvector of [[cc, cu], [cu, uu]]
    v = torch.cos(angle) * c.double() + torch.sin(angle) * u.double()
    return over(v, dot(v, v).sqrt(), tiny=0.0)


@dataclass(frozen=True, eq=False)
class TCFG(CFG):
    """CFG on scores whose null score is projected on the first right-singular vector of [c; u]."""

    paper: ClassVar[Paper | None] = TCFG_PAPER
    equation: ClassVar[str] = "null score on the first singular vector of both scores"

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if not self.needs(ctx, state):
            return guided, state
        c0, u0 = predictions.x0(COND), predictions.x0(self.reference)
        # the score times s^2: the direction does not care about its length
        c, u = (ctx.a.to(c0.dtype) * v - ctx.x for v in (c0, u0))
        axis = main_direction(c, u)
        kept = (dot(u, axis) * axis).to(c0.dtype)
        w = gain(scale_at(self.w, ctx.sigma), c0)
        d = kept + w * (c - kept) - c
        return guided.shift(over(d, ctx.a.to(d).expand_as(d))), state
