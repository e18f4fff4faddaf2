"""DiRecT: denoise, correct the aim by the cost, renoise with the noise as it was."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from safeplan.diffusion.guidance import Paper
from safeplan.guidance.energy import Energy
from safeplan.guidance.papers import DIRECT
from safeplan.guidance.scale import ALWAYS, Interval, Scale


@dataclass(frozen=True, eq=False)
class DiRecT(Energy):
    """The correction of DiRecT, as `direct` makes it: `Energy` that moves the aim alone, in the metric of the step."""

    metric: str = "step"
    iterations: int = 2
    fields: str = "aim"

    paper: ClassVar[Paper | None] = DIRECT
    equation: ClassVar[str] = "the correction of the clean estimate, by Newton's method"


def direct(
    energy: Callable[[Tensor], Tensor], scale: Scale = 1.0, iterations: int = 2, interval: Interval = ALWAYS
) -> DiRecT:
    """argmin_v scale E(v) + |v - x0|^2 / (2 (sigma^2 - sigma'^2)) as the aim; the noise direction stays.

    The cost acts on the clean estimate alone [direct]; the weight is the noise that the step takes out. It wants
    ancestral sampling (`ddpm`), which renews the noise: the strength grows slowly with the steps, and samples stop at
    the minimum of E. Steps that keep their noise (Euler, DDIM, Heun) add up all pushes from high noise on: the strength
    grows fast, and samples pass the minimum. Means of N(0, 1) under E = 2 (v - 1.5)^2, scale 0.05, cosine path, after
    20, 80 and 320 steps: ddpm 0.65, 0.75, 0.86; Euler 1.36, 2.07, 2.99.
    """
    return DiRecT(energy, scale, iterations=iterations, interval=interval)
