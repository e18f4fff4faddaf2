"""Adaptive guidance: the reference is asked until it agrees with the conditional prediction, then never again."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from safeplan.diffusion.guidance import COND, Branch, Context, Guidance, Guided, Paper, Predictions
from safeplan.errors import ConfigError
from safeplan.guidance.bands import FACFG, FDG
from safeplan.guidance.cfg import CFG
from safeplan.guidance.papers import ADAPTIVE
from safeplan.guidance.vector import cosine


@dataclass(frozen=True, eq=False)
class AdaptiveGuidance(Guidance):
    """`base` until cos(c, ref) exceeds `threshold`; from the next evaluation on the conditional prediction alone.

    The cosine is that of the x0 predictions: on eps it is near 1 from the first step on in EDM's frame. It is
    taken per sample, or as the smallest of the batch when `per_sample` is false (then all rows stop together).
    threshold > 1 is `base`; -1 stops after one evaluation: with Heun the corrector of that step is unguided already.

    Args:
        base: CFG or a relative of it (APG, AutoGuidance, FACFG, ...). Not CFG++, whose noise is the reference's: the
            anchor would jump where the reference goes.
        sigma_arm: agreement counts only at noise levels up to here.
    """

    base: CFG | FACFG | FDG = field(default_factory=CFG)
    threshold: float = 0.99
    per_sample: bool = True
    sigma_arm: float = float("inf")

    paper: ClassVar[Paper | None] = ADAPTIVE
    equation: ClassVar[str] = "the cosine rule that ends guidance, on x0"

    def __post_init__(self) -> None:
        if not isinstance(self.base, (CFG, FACFG, FDG)):
            raise ConfigError(
                f"adaptive: base is {type(self.base).__name__}; only CFG and its relatives, such as APG, "
                "can go on without their reference: give one of those"
            )
        if math.isnan(self.threshold):
            raise ConfigError(f"adaptive: threshold is {self.threshold}; give a cosine, above 1 to never stop")

    @property
    def requires(self) -> frozenset[str]:
        return self.base.requires

    def init(self, ctx: Context) -> Any:
        return torch.zeros(len(ctx.x), dtype=torch.bool, device=ctx.x.device), self.base.init(ctx)

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        done, inner = state
        return tuple(Branch(b.cond, b.net, b.perturb, ~done) for b in self.base.needs(ctx, inner))

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        done, inner = state
        asks = self.base.needs(ctx, inner)
        moved, inner = self.base(guided, predictions, ctx, inner)
        if not asks:  # outside its interval, or standing still as CFG-Zero* does at first
            return moved, (done, inner)
        keep = done.reshape(-1, *[1] * (ctx.x.ndim - 1))
        x0 = torch.where(keep, guided.x0, moved.x0)
        same = guided.x0 is guided.anchor and moved.x0 is moved.anchor
        out = Guided(x0, x0 if same else torch.where(keep, guided.anchor, moved.anchor))
        if ctx.sigma <= self.sigma_arm:
            c = cosine(predictions.x0(COND), predictions.x0(self.base.reference))
            c = c if self.per_sample else torch.where(done, torch.inf, c).amin().expand_as(c)
            done = done | (c > self.threshold)
        return out, (done, inner)
