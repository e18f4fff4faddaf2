"""Feedback guidance: the scale follows how likely the sample already is to have the condition."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from safeplan.diffusion.guidance import COND, NULL, Branch, Context, Guidance, Guided, Paper, Predictions
from safeplan.errors import ConfigError
from safeplan.guidance.papers import FBG
from safeplan.guidance.scale import gain
from safeplan.guidance.vector import dims
from safeplan.schema import in_range


class _Seen(NamedTuple):
    """log p(c|x) `[B]`; where each field would have led, x / a, `[B, ...]`; 1 / variance of that step, `[]`."""

    log_p: Tensor
    by_cond: Tensor
    by_null: Tensor
    precision: Tensor


@dataclass(frozen=True, eq=False)
class FeedbackGuidance(Guidance):
    """CFG of scale w = p / (p - (1 - pi)), p an estimate of p(c|x) that is kept per sample.

    A model that is right with probability pi is assumed: p falls to its floor where the step that was taken looks more
    like the null model's, and w rises to `w_max`; where the condition is met, w nears 1 / pi.

    Args:
        pi: trust in the conditional model, in (0, 1); 1 is no guidance.
        temperature: weight of each step's evidence. drift: added to log p at each step.
    """

    pi: float = 0.95
    w_max: float = 10.0
    temperature: float = 1.0
    drift: float = 0.0
    reference: Branch = NULL

    paper: ClassVar[Paper | None] = FBG
    equation: ClassVar[str] = "posterior estimate of each sample and scale p / (p - (1 - pi))"

    def __post_init__(self) -> None:
        in_range(self, "feedback", {"finite": "pi w_max temperature drift"})
        if not 0 < self.pi <= 1 or not self.w_max > 1 / self.pi:
            raise ConfigError(f"feedback: pi = {self.pi}, w_max = {self.w_max}; give 0 < pi <= 1 and w_max > 1 / pi")

    @property
    def requires(self) -> frozenset[str]:
        return self.reference.requires

    @property
    def floor(self) -> float:
        """The log p at which w is w_max."""
        return math.log((1 - self.pi) * self.w_max / (self.w_max - 1)) if self.pi < 1 else -math.inf

    def init(self, ctx: Context) -> Any:
        zero = torch.zeros_like(ctx.x)
        log_p = torch.zeros(len(ctx.x), dtype=torch.float64, device=ctx.x.device)
        return _Seen(log_p, zero, zero, torch.zeros_like(ctx.a))

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        return (self.reference,) if self.pi < 1 else ()

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if self.pi == 1:
            return guided, state
        c, u = predictions.x0(COND), predictions.x0(self.reference)
        here = ctx.x / ctx.a.clamp_min(1e-12).to(c.dtype)

        def far(v: Tensor) -> Tensor:
            return (here - v).double().square().sum(dims(c))

        # at a = 0 nothing has been seen: the precision that the state holds is 0 then
        evidence = 0.5 * state.precision * (far(state.by_null) - far(state.by_cond))
        log_p = (state.log_p + self.temperature * evidence + self.drift).clamp(self.floor, 0.0)
        p = log_p.exp()
        w = p / (p - (1 - self.pi))
        rho2 = (ctx.sigma_next / ctx.sigma) ** 2 if ctx.sigma != math.inf else 0.0
        stay = rho2 * here if rho2 else torch.zeros_like(here)
        variance = ctx.sigma_next**2 * (1 - rho2)
        precision = torch.full_like(ctx.a, 1 / variance if variance > 0 else 0.0)
        seen = _Seen(log_p, stay + (1 - rho2) * c, stay + (1 - rho2) * u, precision)
        return guided.shift(gain(w - 1, c) * (c - u)), seen
