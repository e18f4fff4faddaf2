"""DiRecT: denoise, correct the aim by the cost, renoise with the noise as it was."""

from collections.abc import Callable

from torch import Tensor

from safeplan.guidance.energy import Energy
from safeplan.guidance.scale import ALWAYS, Interval, Scale


def direct(
    energy: Callable[[Tensor], Tensor], scale: Scale = 1.0, iterations: int = 2, interval: Interval = ALWAYS
) -> Energy:
    """argmin_v scale E(v) + |v - x0|^2 / (2 (sigma^2 - sigma'^2)) as the aim; the noise direction stays.

    The cost acts on the clean estimate alone [direct]. The weight is the noise that the step takes out, so that the
    strength does not grow with the number of steps, as it does for an aim without one.
    """
    return Energy(energy, scale, metric="step", iterations=iterations, fields="aim", interval=interval)
