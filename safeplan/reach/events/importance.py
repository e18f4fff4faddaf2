"""Probability of a rare entry into a set by importance sampling [cross_entropy], with a pilot's particles as a guide.

Half of the draws come from the belief itself, so that no weight exceeds 2 and the mean is exact wherever the other
half looks; that half from one normal around the pilot's particles in the set. In up to about ten dimensions it needs
far fewer paths than splitting; in many, or for sets in several places, one normal fits badly.
"""

from dataclasses import dataclass

import numpy as np

from safeplan.dynamics.equations import Equations
from safeplan.dynamics.systems import Case
from safeplan.errors import ConfigError
from safeplan.reach.certificates.binomial import clopper_pearson
from safeplan.reach.events.rare import least_level, log_interval
from safeplan.reach.events.splitting import pilot
from safeplan.reach.motion import motion
from safeplan.reach.sets import Region
from safeplan.types import Array, Belief, Reference


@dataclass(frozen=True)
class ImportanceProbability:
    """P(ever in the set) with an interval at `confidence`: Student's on a log scale over independent `runs [R]`.

    `effective` is the number of equally weighted hits that the hits are worth; below about 30 the interval, too, is in
    doubt. Where nothing was hit, `high` is what 0 of the draws of the belief itself allow.
    """

    estimate: float
    low: float
    high: float
    runs: Array
    effective: float
    simulations: int
    confidence: float


def importance_probability(
    system: Case | Equations,
    belief: Belief | None,
    region: Region,
    reference: Reference | None = None,
    *,
    n: int = 8192,
    seed: int = 0,
    replicates: int = 8,
    guides: int = 1000,
    between: int = 1,
    confidence: float = 0.95,
) -> ImportanceProbability:
    """Unbiased estimate of the probability of ever being in `region`, from `n` draws beside the pilot's.

    Args:
        n: draws, a multiple of `replicates`.
        guides: particles of the pilot.
        between: as in `rare_probability`.
    Raises:
        CapabilityError: a belief without `push`. ConfigError: a setting out of range.
    """
    m = motion(system, belief, reference)
    if replicates < 2 or guides < 2 or n < replicates or n % replicates or not 0 < confidence < 1:
        raise ConfigError(
            f"importance_probability: n = {n}, replicates = {replicates}, guides = {guides}, confidence = "
            f"{confidence}; need replicates and guides >= 2, n a multiple of replicates, confidence in (0, 1)"
        )
    score, dim = least_level(m, region, between)
    first, rest = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    ladder, found = pilot(score, dim, guides, 4, 0.2, first)
    mean, root = _fit(found)
    own = rest.random(n) < 0.5
    xi = rest.standard_normal((n, dim))
    z = np.where(own[:, None], xi, mean + xi @ root.T)
    far = np.linalg.solve(root, (z - mean).T).T
    log_ratio = 0.5 * (z**2 - far**2).sum(axis=1) - np.linalg.slogdet(root)[1]  # of the guide to the belief
    hit = score(z) <= 0
    weights = np.where(hit, 2 / (1 + np.exp(np.minimum(log_ratio, 700.0))), 0.0)
    runs = weights.reshape(replicates, -1).mean(axis=1)
    total = weights.sum()
    if total > 0:
        low, high = log_interval(runs, confidence)
    else:
        low, high = 0.0, clopper_pearson(0, max(int(own.sum()), 1), 1 - confidence)[1]
    effective = float(total**2 / (weights**2).sum()) if total > 0 else 0.0
    simulations = n + guides * (1 + 4 * len(ladder.sizes))
    return ImportanceProbability(min(float(runs.mean()), 1.0), low, high, runs, effective, simulations, confidence)


def _fit(z: Array) -> tuple[Array, Array]:
    """Mean `[D]` and a square root `[D, D]` of the covariance of a normal around particles `[K, D]`.

    Drawn towards the unit one where there are few particles, and wider where they are narrow: a guide with lighter
    tails than the weights need would give estimates that are too low most of the time.
    """
    K, D = z.shape
    part = min(1.0, D / K)
    spread = (1 - part) * np.cov(z.T, bias=True).reshape(D, D) + part * np.eye(D)
    values, vectors = np.linalg.eigh(spread)
    return z.mean(axis=0), vectors * np.sqrt(np.maximum(values, np.sqrt(values)))
