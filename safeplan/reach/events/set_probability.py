"""Probability that a system is in a set that may move: at each stored time, and at any time, also in between."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from safeplan.dynamics.equations import Equations
from safeplan.dynamics.systems import Case
from safeplan.errors import ConfigError
from safeplan.reach.events.occupancy import Occupancy, occupancy
from safeplan.reach.events.replicates import binomial_interval, scrambles, share_interval
from safeplan.reach.motion import BLOCK, Motion, motion
from safeplan.reach.sets import Region
from safeplan.types import Array, Belief, Draw, Reference

Method = Literal["sobol", "iid"]


@dataclass(frozen=True)
class SetProbability:
    """P(in the set at any time from 0 to the horizon): `estimate`, and an interval `[low, high]` at `confidence`.

    An unknown state (NaN, inf) counts as inside in the estimate and the upper end, and as outside in the lower one.
    The upper end counts particles that may or may not have touched the set between stored times. Both are about the
    integrator's path: its error, of fourth order in the RK4 step, is not part of the interval.

    Args:
        any_upper: estimate that counts those undecided too.
        stored: estimate of P(inside at any stored time).
        per_time, per_low, per_high: `[T]` at `times [T]` (s), each an interval of its own.
        lost: share of particles that end as NaN or inf.
        n: particles in all.
    """

    estimate: float
    low: float
    high: float
    any_upper: float
    stored: float
    per_time: Array
    per_low: Array
    per_high: Array
    times: Array
    lost: float
    n: int
    method: str
    confidence: float


def probability(
    system: Case | Equations,
    belief: Belief | None,
    region: Region,
    reference: Reference | None = None,
    *,
    n: int = 8192,
    seed: int = 0,
    method: Method = "sobol",
    replicates: int = 8,
    confidence: float = 0.95,
    depth: int = 12,
) -> SetProbability:
    """Probability of a set; see `probabilities`."""
    settings = {"n": n, "seed": seed, "method": method, "replicates": replicates}
    return probabilities(system, belief, [region], reference, **settings, confidence=confidence, depth=depth)[0]


def probabilities(
    system: Case | Equations,
    belief: Belief | None,
    regions: Sequence[Region],
    reference: Reference | None = None,
    *,
    n: int = 8192,
    seed: int = 0,
    method: Method = "sobol",
    replicates: int = 8,
    confidence: float = 0.95,
    depth: int = 12,
) -> list[SetProbability]:
    """Probabilities of many sets from the same particles, which move once.

    Args:
        belief, reference: None: the case's own. The feedback sees the exact state.
        n: particles; for "sobol" a power of two times `replicates`.
        method: "iid": independent particles, Clopper-Pearson intervals, exact for particles that are decided.
            "sobol": independent scrambles and Student-t intervals over them, narrower and approximate.
        depth: halvings of an RK4 step between stored times, see `occupancy`.
    Raises:
        CapabilityError: "sobol" with a belief without `push`, or an n that does not split.
        ConfigError: another method, n < 1, or no belief or reference.
        ShapeError: a region has an axis that the system lacks; a belief or a reference does not fit.
    """
    m = motion(system, belief, reference)
    if method not in ("sobol", "iid") or n < 1:
        raise ConfigError(f"probability: method = {method!r}, n = {n}; give 'sobol' or 'iid' and n of at least 1")
    draws = scrambles(m.belief, n, m.stretches, seed, replicates) if method == "sobol" else _blocks(m, n, seed)
    counts: list[list[Array]] = [[] for _ in regions]
    times = np.arange(m.steps + 1) * m.h
    for draw in draws:
        for mine in counts:
            mine.append(np.zeros((3, len(times) + 3), int))
        for path in m.paths(draw):
            lengths = {axes: path.length(axes) for axes in {r.axes for r in regions if max(r.axes) < m.loop.n}}
            for mine, region in zip(counts, regions, strict=True):
                mine[-1] += _count(occupancy(region, path, depth=depth, length=lengths.get(region.axes)))
    return [_summary(np.array(c), times, n, method, confidence) for c in counts]


def _blocks(m: Motion, n: int, seed: int) -> Iterator[Draw]:
    rng = np.random.default_rng(seed)
    return (m.belief.sample(min(BLOCK, n - i), m.stretches, rng) for i in range(0, n, BLOCK))


def _count(o: Occupancy) -> Array:
    """Counts `[3, T + 3]`: surely inside, inside or unknown, possibly inside; at each time, at any time, at any stored
    time, lost."""
    inside, lost = o.inside.sum(axis=1), o.lost.sum()
    sure = (o.inside & ~o.lost).sum(axis=1)  # a particle that breaks is not believed before that either
    stored = o.inside.any(axis=0).sum()
    rows = (sure, (o.known & ~o.lost).sum()), (inside, o.entered.sum()), (inside, (o.entered | o.undecided).sum())
    return np.array([[*per_time, any_time, stored, lost] for per_time, any_time in rows])


def _summary(counts: Array, times: Array, n: int, method: str, confidence: float) -> SetProbability:
    total = counts.sum(axis=0)
    if method == "iid":
        low, high = (binomial_interval(total[i, :-2], n, confidence)[e] for i, e in ((0, 0), (2, 1)))
    else:
        low, high = (share_interval(counts[:, i, :-2], n // len(counts), confidence)[e] for i, e in ((0, 0), (2, 1)))
    *per_time, any_time, stored, lost = total[1] / n
    return SetProbability(
        estimate=float(any_time),
        low=float(low[-1]),
        high=float(high[-1]),
        any_upper=float(total[2, -3] / n),
        stored=float(stored),
        per_time=np.array(per_time),
        per_low=low[:-1],
        per_high=high[:-1],
        times=times,
        lost=float(lost),
        n=n,
        method=method,
        confidence=confidence,
    )
