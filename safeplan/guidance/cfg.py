"""Classifier-free guidance, with a noise interval and any branch as the reference."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from safeplan.diffusion.guidance import COND, NULL, Branch, Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.guidance.papers import CFG_PAPER
from safeplan.guidance.scale import (
    ALWAYS,
    Interval,
    Scale,
    check_interval,
    check_scale,
    cite_interval,
    equals,
    gain,
    scale_at,
)


@dataclass(frozen=True, eq=False)
class CFG(Guidance):
    """x0 + (w - 1)(c - ref): w = 1 is off, w = 0 the reference alone (when it is the only method).

    Args:
        w: number, function of sigma, or tensor `[B]`.
        reference: null (CFG), "neg" (negative condition), another network (autoguidance), a perturbation (PAG).
        interval: (low, high) in sigma, both inclusive; the reference is not evaluated outside [interval].

    Raises:
        ConfigError: a scale that is not finite, or low above high. In the run, ShapeError: w has not one entry per row.
    """

    w: Scale = 2.0
    reference: Branch = NULL
    interval: Interval = ALWAYS

    paper: ClassVar[Paper | None] = CFG_PAPER
    equation: ClassVar[str] = "eq. 6"

    def __post_init__(self) -> None:
        check_scale(type(self).__name__, w=self.w)
        check_interval(self.interval)

    @property
    def requires(self) -> frozenset[str]:
        off = isinstance(self.w, (int, float)) and self.w == 1
        return frozenset() if off else self.reference.requires

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        off = equals(scale_at(self.w, ctx.sigma), 1) or not in_interval(ctx.sigma, self.interval)
        return () if off else (self.reference,)

    def shape(self, d: Tensor, predictions: Predictions, ctx: Context, state: Any) -> tuple[Tensor, Any]:
        """What relatives (APG, ...) do to the difference c - ref before it is scaled by w - 1."""
        return d, state

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if not self.needs(ctx, state):
            return guided, state
        d, state = self.shape(predictions.x0(COND) - predictions.x0(self.reference), predictions, ctx, state)
        return guided.shift(gain(scale_at(self.w, ctx.sigma) - 1, d) * d), state

    def citation(self) -> str:
        return cite_interval(super().citation(), self.interval)
