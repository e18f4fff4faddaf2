"""Finite-sample certificates on fresh samples (Clopper & Pearson 1934): collision at any time up to the tail's end."""

import numpy as np

from safeplan.dynamics.system import System
from safeplan.errors import CertificateError
from safeplan.reach.binomial import clopper_pearson, samples_needed
from safeplan.reach.particles import duration, measurement_noise, rollout, stretches
from safeplan.reach.risk import between
from safeplan.types import Belief, Certificate, Reference, Scene

ASSUMES = (
    "the start state and the parameters follow the stated belief",
    "the obstacles move as the scene says",
    "the system equations and their RK4 steps describe the vehicle",
    "the samples are independent of the plan: drawn from a seed that took no part in choosing it",
    "accelerations stay within the system's accel_bound between checked times",
    "the state is measured at every step with the noise of the belief, and disturbances are drawn anew from now on",
)


def count_collisions(system: System, reference: Reference, belief: Belief, scene: Scene, n: int, seed: int) -> int:
    """Simulate `n` independent draws of belief and scene to the end of the tail; how many may collide at any time.

    Counts every draw whose clearance is not proved positive, also between checked times.
    """
    rng = np.random.default_rng(seed)
    draw = belief.sample(n, stretches(duration(reference), belief.stretch_s), rng)
    noise = measurement_noise(belief, draw, len(reference.controls), rng)
    flow = rollout(system, draw, reference, belief.stretch_s, noise)
    centers = scene.sample(n, flow.times, rng)
    hit = ~(between(system, flow, centers, scene).min(axis=(1, 2)) >= 0)  # NaN counts as a collision
    return int(hit.sum())


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
) -> Certificate:
    """Certify P(collision) <= gamma for a finished plan. Attempt j = 1, 2, ... spends delta / 2^j.

    Args:
        seed: of fresh samples; must not have been used in choosing the plan.
        allow: collisions that may be seen and still prove the bound (sets n).
    """
    if attempt < 1:
        raise CertificateError(f"certify: attempt = {attempt}; attempts count from 1")
    spend = delta / 2**attempt
    n = samples_needed(gamma, spend, allow)
    k = count_collisions(system, reference, belief, scene, n, seed)
    return Certificate(clopper_pearson(k, n, spend)[1], n, k, spend, attempt, seed, gamma, ASSUMES)
