"""CFG++: aim at the guided prediction, renoise with the unconditional one; and the same strength on any grid."""

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from safeplan.diffusion.guidance import COND, NULL, Branch, Context, Guidance, Guided, Paper, Predictions
from safeplan.diffusion.paths import Grid
from safeplan.guidance.cfg import CFG
from safeplan.guidance.papers import CFGPP
from safeplan.guidance.scale import Scale, check_scale, gain, scale_at


@dataclass(frozen=True, eq=False)
class CFGpp(Guidance):
    """x0 + (lam - 1)(c - u), anchor - (c - u): alone, it aims at u + lam (c - u) and keeps the noise that u sees.

    lam in [0, 1]: 0 is unconditional. With a first-order step it equals CFG of scale lam / (1 - rho),
    rho = sigma'/sigma, so that it grows with the number of steps; `cfgpp_scale` makes a scale that does not.
    The null branch is needed at every step: it defines the noise.
    """

    lam: Scale = 0.6
    reference: Branch = NULL

    paper: ClassVar[Paper | None] = CFGPP
    equation: ClassVar[str] = "algorithm 2"

    def __post_init__(self) -> None:
        check_scale(type(self).__name__, lam=self.lam)

    @property
    def requires(self) -> frozenset[str]:
        return self.reference.requires

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        return (self.reference,)

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        d = predictions.x0(COND) - predictions.x0(self.reference)
        return guided.shift(-d).aim(gain(scale_at(self.lam, ctx.sigma), d) * d), state


def cfgpp_scale(lam: float, grid: Grid) -> Callable[[float], float]:
    """sigma -> lam / (1 - rho): the CFG scale that equals CFG++ on `grid`, at every other noise level in between.

    On the grid itself `CFG(cfgpp_scale(lam, grid))` and `CFGpp(lam)` give the same samples with first-order steps; on a
    finer one the strength stays that of the reference grid [cfgpp].
    """
    sigma = grid.sigma
    known = sorted((s, t / s if s != math.inf else 0.0) for s, t in pairwise(sigma))
    levels, ratios = [s for s, _ in known], [r for _, r in known]

    def scale(at: float) -> float:
        i = bisect.bisect_left(levels, at)
        if i == len(levels):
            rho = ratios[-1]
        elif i == 0 or levels[i] == at:
            rho = ratios[i]
        elif levels[i] == math.inf:  # the step's end is linear in the angle atan(sigma), the time of the cosine path
            top, end = math.atan(levels[i - 1]), math.atan(ratios[i - 1] * levels[i - 1])
            part = (math.atan(at) - top) / (math.pi / 2 - top)
            rho = math.tan(end + part * (top - end)) / at
        else:  # linear in log sigma
            part = math.log(at / levels[i - 1]) / math.log(levels[i] / levels[i - 1])
            rho = ratios[i - 1] + part * (ratios[i] - ratios[i - 1])
        return lam / (1 - rho)

    return scale


def step_invariant_cfgpp(lam: float, grid: Grid, reference: Branch = NULL) -> CFG:
    """CFG++ whose strength is that of `lam` on the reference `grid`, however many steps are taken."""
    return CFG(cfgpp_scale(lam, grid), reference)
