"""Constraints h(x0) >= 0 on the denoised estimate: barriers, tubes that constrict, projections."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from safeplan.diffusion.convert import over
from safeplan.diffusion.guidance import Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.errors import ConfigError
from safeplan.guidance.metric import apply_metric, check_fields, check_metric, move
from safeplan.guidance.papers import CONSTRICTING, PDM, SAFEDIFFUSER
from safeplan.guidance.scale import ALWAYS, Interval, check_interval
from safeplan.guidance.vector import dot
from safeplan.schema import in_range


@dataclass(frozen=True, eq=False)
class Barrier(Guidance):
    """The least move, in the metric, that lifts the worst constraint to 0: x0 + [-h]_+ M grad h / (grad h^T M grad h).

    In the posterior metric the move stays where the model's samples are (smooth, on the data): one VJP per iteration.
    The paper moves the noisy sample, in the Euclidean metric, by what its barrier condition asks of one step.

    Args:
        h: physical `[B, ...]` -> `[B]` or `[B, m]`, non-negative where it is safe.
        metric: see `metric.apply_metric`.
        iterations: the worst constraint of each sample is handled once in each.
        fields: "both" changes the score; "aim" keeps the noise direction (its strength grows with the steps).
    """

    h: Callable[[Tensor], Tensor]
    metric: str = "posterior"
    iterations: int = 1
    sigma_data: float = 1.0
    fields: str = "both"
    interval: Interval = ALWAYS

    paper: ClassVar[Paper | None] = SAFEDIFFUSER
    equation: ClassVar[str] = "least move to h >= 0 in closed form, on x0; posterior metric: safeplan"

    def __post_init__(self) -> None:
        check_interval(self.interval)
        in_range(self, "barrier", {"positive": "sigma_data"})
        check_metric("barrier", self.metric)
        check_fields("barrier", self.fields)
        if self.iterations < 1:
            raise ConfigError(f"barrier: {self.iterations} iterations; give at least 1")

    @property
    def grad(self) -> bool:
        return self.metric == "posterior"

    @property
    def requires(self) -> frozenset[str]:
        return frozenset({"gradient"} if self.grad else ())

    def slack(self, ctx: Context) -> float:
        """How far below 0 a constraint may be at this noise level."""
        return 0.0

    def worst(self, v: Tensor, ctx: Context) -> Tensor:
        """The least constraint of each sample `[B]`."""
        h = self.h(ctx.physical(v))
        return h if h.ndim == 1 else h.flatten(1).amin(1)

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if not in_interval(ctx.sigma, self.interval):
            return guided, state
        x0, total = guided.x0.detach(), torch.zeros_like(guided.x0)
        for _ in range(self.iterations):
            g = torch.func.grad(lambda v: self.worst(v, ctx).sum())(x0 + total)
            h = self.worst(x0 + total, ctx)
            short = (-h - self.slack(ctx)).clamp_min(0).reshape(-1, *[1] * (x0.ndim - 1))
            m = apply_metric(self.metric, g, predictions, ctx, self.sigma_data)
            total = total + over(short.double(), dot(g, m), tiny=1e-12).to(x0.dtype) * m
        return move(guided, total, self.fields), state


@dataclass(frozen=True, eq=False)
class ConstrictingBarrier(Barrier):
    """A barrier in a tube of `width * sigma'`, sigma' the noise after the step: loose at noise, tight at the data.

    Euclidean by default, as its paper has it.
    """

    metric: str = "identity"
    width: float = 1.0

    paper: ClassVar[Paper | None] = CONSTRICTING
    equation: ClassVar[str] = "the constricting tube, on x0; the worst constraint in closed form"

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range(self, "tube", {"not negative": "width"})

    def slack(self, ctx: Context) -> float:
        return self.width * ctx.sigma_next


@dataclass(frozen=True, eq=False)
class Project(Guidance):
    """x0 -> `projection(x0)`, `[B, ...]` in the model's own units; last in a chain, so that nothing undoes it.

    fields: "both" changes the score; "aim" keeps the noise direction (its strength grows with the steps).
    """

    projection: Callable[[Tensor], Tensor]
    fields: str = "both"
    interval: Interval = ALWAYS

    paper: ClassVar[Paper | None] = PDM
    equation: ClassVar[str] = "the projected sampling step, on x0"

    def __post_init__(self) -> None:
        check_interval(self.interval)
        check_fields("project", self.fields)

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if not in_interval(ctx.sigma, self.interval):
            return guided, state
        d = self.projection(guided.x0) - guided.x0
        return move(guided, d, self.fields), state
