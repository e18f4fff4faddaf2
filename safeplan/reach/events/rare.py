"""Probability of a rare entry into a set, by multilevel splitting [subset_simulation].

The belief is a map from standard normals, and the score of a draw is the least level along its path; see `splitting`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import t as student

from safeplan.dynamics.equations import Equations
from safeplan.dynamics.systems import Case
from safeplan.errors import CapabilityError, ConfigError
from safeplan.reach.certificates.binomial import clopper_pearson
from safeplan.reach.events.splitting import Ladder, Score, pilot, run
from safeplan.reach.motion import BLOCK, Motion, densify, motion
from safeplan.reach.sets import Region, levels
from safeplan.types import Array, Belief, Reference


@dataclass(frozen=True)
class RareProbability:
    """P(ever in the set) with an interval at `confidence`.

    `runs [R]` are independent and unbiased; the interval is Student's of their mean on a log scale, approximate. With
    one level they are plain Monte Carlo, and it is Clopper-Pearson's. Where no run reaches the set, `high` is what 0 of
    all particles allow from the last level that was reached: a rule of thumb, no bound. `simulations` counts all paths,
    those of the pilot too.
    """

    estimate: float
    low: float
    high: float
    runs: Array
    ladder: Ladder
    simulations: int
    confidence: float


def rare_probability(
    system: Case | Equations,
    belief: Belief | None,
    region: Region,
    reference: Reference | None = None,
    *,
    n: int = 1000,
    seed: int = 0,
    replicates: int = 8,
    moves: int = 4,
    share: float = 0.2,
    between: int = 1,
    confidence: float = 0.95,
    ladder: Ladder | None = None,
) -> RareProbability:
    """Unbiased estimate of the probability of ever being in `region`; an unknown state (NaN, inf) counts as inside.

    Args:
        n: particles on each level of each run.
        moves: steps of each particle on each level.
        share: of the pilot's particles that get to the next level.
        between: times that are looked at between stored ones (a cubic's values; a set thinner than what a particle
            moves in between may be jumped over: `probability` rules that out, at common risks).
        ladder: of an earlier call; no pilot then.
    Raises:
        CapabilityError: a belief without `push`. ConfigError: a setting out of range.
    """
    m = motion(system, belief, reference)
    if n < 2 or replicates < 2 or moves < 1 or not 0 < share < 1 or not 0 < confidence < 1:
        raise ConfigError(
            f"rare_probability: n = {n}, replicates = {replicates}, moves = {moves}, share = {share}, confidence = "
            f"{confidence}; need n and replicates >= 2, moves >= 1, share and confidence in (0, 1)"
        )
    score, dim = least_level(m, region, between)
    spent, (first, *seeds) = 0, np.random.SeedSequence(seed).spawn(1 + replicates)
    if ladder is None:
        ladder, _ = pilot(score, dim, n, moves, share, np.random.default_rng(first))
        spent = n * (1 + moves * (len(ladder.levels) - 1))
    found = np.stack([run(score, dim, n, moves, ladder, np.random.default_rng(s)) for s in seeds])
    reached = (np.cumprod(found, axis=1) > 0).sum(axis=1)
    spent += n * sum(1 + moves * min(int(k), len(ladder.levels) - 1) for k in reached)
    runs = found.prod(axis=1)
    return RareProbability(float(runs.mean()), *_interval(found, n, confidence), runs, ladder, spent, confidence)


def least_level(m: Motion, region: Region, between: int) -> tuple[Score, int]:
    """Least level `[P]` along the paths of standard normals `[P, D]`, and D; -inf for a path that breaks.

    Raises:
        CapabilityError: a belief without `push`.
    """
    push, dim = getattr(m.belief, "push", None), getattr(m.belief, "dim", None)
    if push is None or dim is None:
        raise CapabilityError(
            f"belief {type(m.belief).__name__} has no `push` from the unit cube, so its draws cannot be moved: give it "
            "`push(u, stretches)` and `dim(stretches)`"
        )

    def block(z: Array) -> Array:
        path = m.path(push(np.clip(ndtr(z), 1e-300, 1 - 2**-53), m.stretches))
        flow = densify(path, between)
        with np.errstate(all="ignore"):
            level = levels(region, *flow)
        least = np.broadcast_to(np.where(np.isnan(level), -np.inf, level), (len(flow.times), len(z))).min(axis=0)
        return np.where(path.unknown.any(axis=0), -np.inf, least)

    return lambda z: np.concatenate([block(z[i : i + BLOCK]) for i in range(0, len(z), BLOCK)]), dim(m.stretches)


def _interval(found: Array, n: int, confidence: float) -> tuple[float, float]:
    runs, R = found.prod(axis=1), len(found)
    if found.shape[1] == 1:
        return clopper_pearson(round(float(runs.sum()) * n), n * R, 1 - confidence, two_sided=True)
    if not runs.any():
        reach = np.cumprod(found, axis=1).mean(axis=0)
        return 0.0, float(reach[reach > 0].min(initial=1.0) * clopper_pearson(0, n * R, 1 - confidence)[1])
    return log_interval(runs, confidence)


def log_interval(runs: Array, confidence: float) -> tuple[float, float]:
    """Student-t ends for the mean of `runs [R]` on a log scale, where estimates of rare events are less askew."""
    half = student.ppf((1 + confidence) / 2, len(runs) - 1) * runs.std(ddof=1) / runs.mean() / np.sqrt(len(runs))
    low, high = runs.mean() * np.exp((-half, half))
    return min(float(low), 1.0), min(float(high), 1.0)
