"""Composed conditions: several at once, some of them negative."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from safeplan.diffusion.guidance import NULL, Branch, Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.guidance.papers import COMPOSED
from safeplan.guidance.scale import ALWAYS, Interval, Scale, check_interval, gain, scale_at


@dataclass(frozen=True, eq=False)
class Composed(Guidance):
    """x0 + sum_k w_k (c_k - u) over further conditions of the run, by name; w_k < 0 steers away.

    Goes beside a CFG for the main condition. One evaluation per condition, and the null one.
    """

    weights: Mapping[str, Scale] = field(default_factory=dict)
    interval: Interval = ALWAYS

    paper: ClassVar[Paper | None] = COMPOSED
    equation: ClassVar[str] = "algorithm 1"

    def __post_init__(self) -> None:
        check_interval(self.interval)

    @property
    def requires(self) -> frozenset[str]:
        return frozenset().union(*(b.requires for b in self._branches())) if self.weights else frozenset()

    def _branches(self) -> tuple[Branch, ...]:
        return (NULL, *(Branch(k) for k in self.weights))

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        return self._branches() if self.weights and in_interval(ctx.sigma, self.interval) else ()

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if not self.needs(ctx, state):
            return guided, state
        u = predictions.x0(NULL)
        for name, w in self.weights.items():
            d = predictions.x0(Branch(name)) - u
            guided = guided.shift(gain(scale_at(w, ctx.sigma), d) * d)
        return guided, state
