"""How wrong fitted-Q evaluation is where the truth can be flown: its error, an interval of that, and what it is worth.

Fitted-Q evaluation bootstraps where a log timed out, so it estimates the sum over an endless flight. The truth is
flown, so it ends: `horizon` says after how many steps only a given share of the discounted weight is left.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from safeplan.errors import ConfigError, DataError
from safeplan.evaluation.fqe import Estimate
from safeplan.evaluation.stats import CONFIDENCE, Interval
from safeplan.types import Array


@dataclass(frozen=True)
class Bias:
    """An estimate beside the truth, both in the signal's own unit.

    bias: estimate - truth, with Welch's interval of both errors. relative: bias over the spread (standard deviation) of
    the log's own episodes, None where they do not differ. covers: the estimate's interval contains the mean flown.
    """

    estimate: Interval
    truth: Interval
    bias: Interval
    relative: float | None
    covers: bool


def horizon(gamma: float, left: float) -> int:
    """Steps after which at most the share `left` of all discounted weight is still to come.

    Raises:
        ConfigError: one of them is not inside (0, 1).
    """
    for name, value in (("gamma", gamma), ("left", left)):
        if not 0 < value < 1:
            raise ConfigError(f"horizon: {name} is {value}, expected inside (0, 1)")
    return math.ceil(math.log(left) / math.log(gamma))


def compare(estimate: Estimate, flown: Array, logged: Array, confidence: float = CONFIDENCE) -> Bias:
    """The estimate against flights of the same policy.

    Args:
        flown: discounted sums `[n]` of independent flights. logged: those of the log's episodes `[E]`.

    Raises:
        DataError: fewer than two flights or episodes, or sums that are not finite.
    """
    for name, sums in (("flown", flown), ("logged", logged)):
        if sums.ndim != 1 or len(sums) < 2 or not np.isfinite(sums).all():
            raise DataError(f"fqe bias: {name} sums have shape {sums.shape}; give two or more, all of them finite")
    members, n = estimate.members, len(flown)
    # members are bootstrap samples: their variance is the estimate's own, not to be divided by their number
    parts = np.array([members.var(ddof=1), flown.var(ddof=1) / n])
    truth = _interval(float(flown.mean()), parts[1:], np.array([n - 1]), confidence)
    error = estimate.value.estimate - truth.estimate
    spread = float(logged.std(ddof=1))
    return Bias(
        estimate=estimate.value,
        truth=truth,
        bias=_interval(error, parts, np.array([len(members) - 1, n - 1]), confidence),
        relative=error / spread if spread > 0 else None,
        covers=estimate.value.low <= truth.estimate <= estimate.value.high,
    )


def _interval(centre: float, variances: Array, freedom: Array, confidence: float) -> Interval:
    """Student's interval; degrees of freedom of a sum of variances by Welch and Satterthwaite."""
    total = float(variances.sum())
    if total == 0:
        return Interval(centre, centre, centre)
    df = total**2 / float((variances**2 / freedom).sum())
    half = float(stats.t.ppf(0.5 + confidence / 2, df)) * math.sqrt(total)
    return Interval(centre, centre - half, centre + half)
