"""Guidance by the gradient of a function of the noisy sample: noisy classifiers and exact (intermediate) energies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from safeplan.diffusion.convert import over
from safeplan.diffusion.guidance import Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.guidance.papers import CLASSIFIER, QGPO
from safeplan.guidance.scale import ALWAYS, Interval, Scale, check_interval, check_scale, equals, gain, scale_at

Noisy = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x [B, ...], a, s) -> [B] or [B, K]


@dataclass(frozen=True, eq=False)
class Potential(Guidance):
    """x0 + scale (s^2/a) grad_x log p(x, a, s): the change of score that `log_prob` asks for, exact when it is exact.

    No network gradient is taken: `log_prob: (x [B, ...], a, s) -> [B]` must know noisy samples. Nothing moves at a = 0.
    """

    log_prob: Noisy
    scale: Scale = 1.0
    interval: Interval = ALWAYS

    def __post_init__(self) -> None:
        check_scale(type(self).__name__, scale=self.scale)
        check_interval(self.interval)

    def value(self, x: Tensor, ctx: Context) -> Tensor:
        """What is climbed, `[B]`."""
        return self.log_prob(x, ctx.a, ctx.s)

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        scale = scale_at(self.scale, ctx.sigma)
        if equals(scale, 0) or not in_interval(ctx.sigma, self.interval):
            return guided, state
        g = torch.func.grad(lambda x: self.value(x, ctx).sum())(ctx.x)
        return guided.shift(gain(scale, g) * over(ctx.s**2, ctx.a).to(g.dtype) * g), state


@dataclass(frozen=True, eq=False)
class ClassifierGuidance(Potential):
    """Potential of a noisy classifier: `log_prob` gives logits `[B, K]`, the wanted class is the leaf `label`."""

    label: str = "label"

    paper: ClassVar[Paper | None] = CLASSIFIER
    equation: ClassVar[str] = "algorithm 2"

    @property
    def requires(self) -> frozenset[str]:
        return frozenset({f"leaf:{self.label}"})

    def value(self, x: Tensor, ctx: Context) -> Tensor:
        y = ctx.conds["cond"].leaves[self.label]
        return self.log_prob(x, ctx.a, ctx.s).log_softmax(1).gather(1, y[:, None])[:, 0]


@dataclass(frozen=True, eq=False)
class ExactEnergy(Potential):
    """Tilts the model by exp(-E) when `log_prob` is minus the intermediate energy -log E[exp(-E(x0)) | x].

    Contrastive energy prediction learns it from actions of the log. The nominal scale is then 1.
    """

    paper: ClassVar[Paper | None] = QGPO
    equation: ClassVar[str] = "the exact intermediate energy"
