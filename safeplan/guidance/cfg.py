"""Classifier-free guidance, with a noise interval and any branch as the reference."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from safeplan.diffusion.convert import like
from safeplan.diffusion.guidance import COND, NULL, Branch, Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.errors import ConfigError
from safeplan.guidance.papers import CFG_PAPER

Scale = float | Tensor | Callable[[float], float]


def scale_at(scale: Scale, sigma: float) -> float | Tensor:
    """A number, a per-sample tensor `[B]`, or a function of sigma, at `sigma`."""
    return scale(sigma) if callable(scale) and not isinstance(scale, Tensor) else scale


def check_interval(interval: tuple[float, float]) -> None:
    """ConfigError unless 0 <= low <= high."""
    if not 0 <= interval[0] <= interval[1]:
        raise ConfigError(f"guidance interval {interval}: give (low, high) in sigma with 0 <= low <= high")


@dataclass(frozen=True, eq=False)
class CFG(Guidance):
    """x0 + (w - 1)(c - ref): w = 1 is off, w = 0 the reference alone (when it is the only method).

    Args:
        w: number, function of sigma, or tensor `[B]`.
        reference: null (CFG), "neg" (negative condition), another network (autoguidance), a perturbation (PAG).
        interval: (low, high) in sigma, both inclusive; the reference is not evaluated outside [interval].
    """

    w: Scale = 2.0
    reference: Branch = NULL
    interval: tuple[float, float] = (0.0, float("inf"))

    paper: ClassVar[Paper | None] = CFG_PAPER
    equation: ClassVar[str] = "eq. 6"

    def __post_init__(self) -> None:
        check_interval(self.interval)

    @property
    def requires(self) -> frozenset[str]:
        off = isinstance(self.w, (int, float)) and self.w == 1
        return frozenset() if off else self.reference.requires

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        w = scale_at(self.w, ctx.sigma)
        off = (isinstance(w, (int, float)) and w == 1) or not in_interval(ctx.sigma, self.interval)
        return () if off else (self.reference,)

    def shape(self, d: Tensor, predictions: Predictions, ctx: Context, state: Any) -> tuple[Tensor, Any]:
        """What relatives (APG, FA-CFG, ...) do to the difference c - ref before it is scaled."""
        return d, state

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if not self.needs(ctx, state):
            return guided, state
        d, state = self.shape(predictions.x0(COND) - predictions.x0(self.reference), predictions, ctx, state)
        w = scale_at(self.w, ctx.sigma)
        gain = like(w - 1, d).to(d.dtype) if isinstance(w, torch.Tensor) else w - 1
        return guided.shift(gain * d), state
