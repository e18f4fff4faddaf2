"""Rescaled guidance: the spread of the conditional prediction, given back after guidance has inflated it."""

from dataclasses import dataclass
from typing import Any, ClassVar

from safeplan.diffusion.convert import over
from safeplan.diffusion.guidance import COND, Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.errors import ConfigError
from safeplan.guidance.metric import move
from safeplan.guidance.papers import RESCALE
from safeplan.guidance.scale import ALWAYS, Interval, check_interval
from safeplan.guidance.vector import dims


@dataclass(frozen=True, eq=False)
class Rescale(Guidance):
    """`phi x0 std(c) / std(x0) + (1 - phi) x0`, stands after the guidance that it tames. phi in [0, 1], 0 is off.

    Standard deviations run over all dimensions but the first; samples of one entry, which have none, are left alone.
    After a method that parts the fields (CFG++) the aim alone is rescaled: the noise direction stays that method's.
    """

    phi: float = 0.7
    interval: Interval = ALWAYS

    paper: ClassVar[Paper | None] = RESCALE
    equation: ClassVar[str] = "eq. 16"

    def __post_init__(self) -> None:
        check_interval(self.interval)
        if not 0 <= self.phi <= 1:
            raise ConfigError(f"rescale: phi = {self.phi}; give 0 (off) to 1 (the spread of c)")

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        c, y = predictions.x0(COND), guided.x0
        if self.phi == 0 or not in_interval(ctx.sigma, self.interval) or y[0].numel() < 2:
            return guided, state
        spread = y.std(dims(y), keepdim=True)
        factor = over(c.std(dims(c), keepdim=True), spread, tiny=0.0).where(spread > 0, 1.0)
        return move(guided, self.phi * (factor - 1) * y, "both" if y is guided.anchor else "aim"), state
