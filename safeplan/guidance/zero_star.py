"""CFG-Zero*: the null velocity is optimally scaled, and the first steps stand still."""

from dataclasses import dataclass
from typing import Any, ClassVar

from safeplan.diffusion.convert import over
from safeplan.diffusion.guidance import COND, Context, Guided, Paper, Predictions
from safeplan.guidance.cfg import CFG
from safeplan.guidance.papers import CFG_ZERO
from safeplan.guidance.scale import gain, scale_at
from safeplan.guidance.vector import dot
from safeplan.schema import in_range


@dataclass(frozen=True, eq=False)
class CFGZeroStar(CFG):
    """On flow velocities v: alpha v_u + w (v_c - alpha v_u) with alpha = <v_c, v_u> / |v_u|^2.

    For the first `zero` of the steps, a share in [0, 1), the velocity is 0, whatever stands before it in the chain: x
    keeps its value in the flow's frame. Works in any frame (x is moved to the flow's at equal sigma), is meant for flow
    models.
    """

    zero: float = 0.04

    paper: ClassVar[Paper | None] = CFG_ZERO
    equation: ClassVar[str] = "optimized scale and zero-init"

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range(self, "zero_star", {"in [0, 1)": "zero"})

    def _still(self, ctx: Context) -> bool:
        return ctx.step < self.zero * ctx.steps

    def needs(self, ctx: Context, state: Any):
        return () if self._still(ctx) else super().needs(ctx, state)

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        c = predictions.x0(COND)
        total = (ctx.a + ctx.s).to(c.dtype)
        t, there = (ctx.s / (ctx.a + ctx.s)).to(c.dtype), ctx.x / total  # x in the flow's frame
        if self._still(ctx):
            return Guided(there, there), state
        if not self.needs(ctx, state):
            return guided, state
        vc, vu = (there - c) / t, (there - predictions.x0(self.reference)) / t
        alpha = over(dot(vc, vu), dot(vu, vu), tiny=0.0).to(c.dtype)
        w = gain(scale_at(self.w, ctx.sigma), c)
        v = alpha * vu + w * (vc - alpha * vu)
        return guided.shift((there - t * v) - c), state
