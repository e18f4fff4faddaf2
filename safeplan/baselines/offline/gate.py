"""What a rival must show before it is compared with: that it learned what its kind can learn from a log."""

import math
from typing import NamedTuple

import numpy as np

from safeplan.baselines.offline import RIVALS
from safeplan.baselines.offline.facts import episode_sums
from safeplan.data import Log
from safeplan.errors import ConfigError, DataError
from safeplan.types import Array

CLONES = ("bc", "bc_safe")


class Gate(NamedTuple):
    """Verdict and its numbers, in returns of episodes. `needed` is a lower and an upper bound on `reached`."""

    method: str
    passed: bool
    reached: float
    needed: tuple[float, float]
    reference: float


def gate(
    method: str, log: Log, returns: Array, *, limit: float = math.inf, within: float = 0.1, share: float = 0.9
) -> Gate:
    """Whether the `returns [n]` of a trained method's episodes are what `log` promises.

    A clone (bc, bc_safe) must come within `within` spreads (best minus worst episode of the log) of the mean return
    of the episodes that it was shown: all, or those that cost at most `limit`. Any other method, trained and run
    without a limit, must reach `share` of the way from the log's worst return to the mean of its best tenth.

    Raises:
        ConfigError: an unknown method, or a limit for one that is judged without.
        DataError: no returns, or NaN among them; no episode within `limit`.
    """
    if method not in RIVALS:
        raise ConfigError(f"gate: rival {method!r} is unknown. Choose one of: {', '.join(RIVALS)}")
    if method != "bc_safe" and not math.isinf(limit):
        raise ConfigError(f"gate: {method} is judged without a limit, got limit={limit:g}. Leave it out")
    returns = np.asarray(returns, float)
    if returns.ndim != 1 or not len(returns) or not np.isfinite(returns).all():
        raise DataError(f"gate: returns of {method} are {returns.shape}, expected [n], at least one, all finite")
    shown, costs = episode_sums(log, log.rewards), episode_sums(log, log.costs)
    worst, spread, reached = float(shown.min()), float(shown.max() - shown.min()), float(returns.mean())
    if method in CLONES:
        if not (costs <= limit).any():
            raise DataError(f"gate: no episode of the log costs at most {limit:g}, the least is {costs.min():g}")
        reference = float(shown[costs <= limit].mean())
        needed = (reference - within * spread, reference + within * spread)
    else:
        tenth = np.sort(shown)[-max(1, round(0.1 * len(shown))) :]
        reference = float(tenth.mean())
        needed = (worst + share * (reference - worst), math.inf)
    return Gate(method, needed[0] <= reached <= needed[1], reached, needed, reference)
