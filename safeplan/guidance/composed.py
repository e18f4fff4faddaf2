"""Composed conditions: several at once, some of them negative."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from safeplan.diffusion.guidance import NULL, Branch, Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.guidance.papers import COMPOSED
from safeplan.guidance.scale import ALWAYS, Interval, Scale, check_interval, check_scale, equals, gain, scale_at


@dataclass(frozen=True, eq=False)
class Composed(Guidance):
    """x0 + sum_k w_k (c_k - u) over further conditions of the run, by name; w_k < 0 steers away.

    Goes beside a CFG for the main condition. One evaluation per condition, and the null one; none where all w_k are 0.
    """

    weights: Mapping[str, Scale] = field(default_factory=dict)
    interval: Interval = ALWAYS

    paper: ClassVar[Paper | None] = COMPOSED
    equation: ClassVar[str] = "algorithm 1"

    def __post_init__(self) -> None:
        check_interval(self.interval)
        check_scale("Composed", **self.weights)

    @property
    def requires(self) -> frozenset[str]:
        on = [Branch(k) for k, w in self.weights.items() if not equals(w, 0)]
        return frozenset().union(*(b.requires for b in (NULL, *on))) if on else frozenset()

    def _on(self, sigma: float) -> dict[Branch, float | Tensor]:
        """The branches that count at `sigma`, with their weights."""
        if not in_interval(sigma, self.interval):
            return {}
        weights = {Branch(k): scale_at(w, sigma) for k, w in self.weights.items()}
        return {b: w for b, w in weights.items() if not equals(w, 0)}

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        on = self._on(ctx.sigma)
        return (NULL, *on) if on else ()

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        for branch, w in self._on(ctx.sigma).items():
            d = predictions.x0(branch) - predictions.x0(NULL)
            guided = guided.shift(gain(w, d) * d)
        return guided, state
