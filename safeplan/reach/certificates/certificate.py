"""Finite-sample certificates on fresh samples (Clopper & Pearson 1934): collision at any time up to the tail's end."""

from collections.abc import Collection

import numpy as np

from safeplan.dynamics.system import System
from safeplan.errors import CertificateError
from safeplan.reach.certificates.binomial import clopper_pearson, samples_needed
from safeplan.reach.certificates.fresh import ASSUMES_FRESH, Counts, Draws, Ledger
from safeplan.reach.particles import duration, measurement_noise, rollout, stretches
from safeplan.reach.risk import between
from safeplan.types import Array, Belief, Certificate, Reference, Scene

ASSUMES = (
    "the start state and the parameters follow the stated belief",
    "the obstacles move as the scene says",
    "the system equations and their RK4 steps describe the vehicle",
    "the samples are independent of the plan: drawn from a seed that took no part in choosing it",
    "accelerations stay within the system's accel_bound between checked times",
    "the state is measured at every step with the noise of the belief, and disturbances are drawn anew from now on",
)


def collides(
    system: System, reference: Reference, belief: Belief, scene: Scene, n: int, rng: np.random.Generator
) -> Array:
    """Simulate `n` independent draws of belief and scene to the end of the tail: which `[n]` may collide at any time.

    Counts every draw whose clearance is not proved positive, also between checked times.
    """
    draw = belief.sample(n, stretches(duration(reference), belief.stretch_s), rng)
    noise = measurement_noise(belief, draw, len(reference.controls), rng)
    flow = rollout(system, draw, reference, belief.stretch_s, noise)
    centers = scene.sample(n, flow.times, rng)
    return ~(between(system, flow, centers, scene).min(axis=(1, 2)) >= 0)  # NaN counts as a collision


def count_collisions(system: System, reference: Reference, belief: Belief, scene: Scene, n: int, seed: int) -> int:
    """How many of `n` draws under `seed` may collide at any time (`collides`)."""
    return int(collides(system, reference, belief, scene, n, np.random.default_rng(seed)).sum())


def certify(
    system: System,
    reference: Reference,
    belief: Belief,
    scene: Scene,
    *,
    gamma: float,
    delta: float,
    attempt: int,
    seed: int,
    allow: int = 1,
    used: Collection[int] = (),
) -> Certificate:
    """Certify P(collision) <= gamma for a finished plan. Attempt j = 1, 2, ... spends delta / 2^j.

    Args:
        seed: of fresh samples; must not have been used in choosing the plan.
        allow: collisions that may be seen and still prove the bound (sets n).
        used: seeds of the samples that did take part in choosing it.

    Raises:
        CertificateError: attempt < 1, or a seed that was used.
    """
    if seed in used:
        raise CertificateError(
            f"certify: seed = {seed} drew samples that took part in choosing the plan; give one of the seeds that "
            "choice has not seen"
        )
    if attempt < 1:
        raise CertificateError(f"certify: attempt = {attempt}; attempts count from 1")
    spend = delta / 2**attempt
    n = samples_needed(gamma, spend, allow)
    k = count_collisions(system, reference, belief, scene, n, seed)
    return Certificate(clopper_pearson(k, n, spend)[1], n, k, spend, attempt, seed, gamma, ASSUMES)


def certify_draws(
    ledger: Ledger, draws: Draws, plan: str, *, gamma: float, delta: float, allow: int = 1
) -> Certificate:
    """Certify the finished plan with digest `plan` from draws of any kind; attempt j spends delta / 2^j.

    Args:
        draws: from a stream of `ledger.open(plan)`, as many as `samples_needed(gamma, delta / 2^j, allow)`, at once.

    Raises:
        CertificateError: the draws may not certify this plan (`Ledger.check`), or are not of the planned number: fewer
            prove too little, and a number chosen while looking proves nothing.
    """
    ledger.check(draws, plan)
    spend = delta / 2**draws.attempt
    n = samples_needed(gamma, spend, allow)
    if len(draws.hits) != n:
        raise CertificateError(
            f"certify_draws: {len(draws.hits)} draws; attempt {draws.attempt} with gamma = {gamma:g}, delta = {delta:g}"
            f", allow = {allow} needs exactly {n}. To look while drawing, use a sequential certificate"
        )
    k = Counts(draws.stream).add(draws).k
    return Certificate(clopper_pearson(k, n, spend)[1], n, k, spend, draws.attempt, draws.seed, gamma, ASSUMES_FRESH)
