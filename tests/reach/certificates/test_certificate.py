"""Certificates: the numbers of the literature, coverage in repetition, refusal of nonsense."""

import numpy as np
import pytest
from scipy.stats import binom

from safeplan.dynamics.unicycle import unicycle, unicycle_belief
from safeplan.errors import CertificateError
from safeplan.reach import certify, clopper_pearson, collides, count_collisions, plan_samples, samples_needed
from safeplan.types import Goal, Obstacle, Reference, Scene


@pytest.mark.parametrize(
    ("gamma", "delta", "k", "n"),
    [
        (0.05, 0.05, 0, 59),
        (0.05, 0.01, 0, 90),
        (0.01, 0.05, 0, 299),
        (0.01, 0.01, 0, 459),
        (0.01, 0.001, 0, 688),
        (0.001, 0.05, 0, 2995),
        (0.01, 0.05, 5, 1049),
    ],
)
def test_sample_sizes(gamma, delta, k, n):
    assert samples_needed(gamma, delta, k) == n
    assert clopper_pearson(k, n, delta)[1] <= gamma < clopper_pearson(k, n - 1, delta)[1]


def test_bound_covers_at_its_confidence():
    rng = np.random.default_rng(0)
    for p in (0.005, 0.03, 0.2):
        k = rng.binomial(400, p, size=3000)
        miss = np.mean([clopper_pearson(int(i), 400, 0.05)[1] < p for i in k])
        assert miss <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 3000)


def test_no_hits_has_a_closed_form():
    for n, delta in ((1, 0.5), (299, 0.05), (10_000, 1e-6)):
        assert clopper_pearson(0, n, delta)[1] == pytest.approx(1 - delta ** (1 / n), rel=1e-12)


@pytest.mark.parametrize(("risk", "miss"), [(0.0, 0.1), (0.005, 0.1), (0.015, 0.2)])
def test_planned_size_is_the_smallest_with_that_power(risk, miss):
    """Slow twin: every n, with the hits that it allows."""
    found = plan_samples(0.05, 0.05, risk, miss)
    for n in range(1, found.n + 1):
        allow = int((binom.cdf(np.arange(n + 1), n, 0.05) <= 0.05).sum()) - 1
        power = binom.cdf(allow, n, risk)
        assert (power >= 1 - miss) == (n == found.n)
    assert (found.allow, found.power) == (allow, power)


def test_sizes_that_cannot_be_planned_are_refused():
    for risk, miss in ((0.05, 0.1), (float("nan"), 0.1), (0.01, 1.0)):
        with pytest.raises(CertificateError, match="need 0 <= risk < gamma"):
            plan_samples(0.05, 0.05, risk, miss)


def test_limits_and_errors():
    assert clopper_pearson(5, 5, 0.05)[1] == 1.0
    assert clopper_pearson(0, 10, 0.05, two_sided=True)[0] == 0.0
    for bad in ((3, 2, 0.05), (0, 0, 0.05), (0, 3, 0.0), (-1, 3, 0.5)):
        with pytest.raises(CertificateError, match=f"k = {bad[0]}, n = {bad[1]}"):
            clopper_pearson(*bad)
    with pytest.raises(CertificateError, match="gamma = 0"):
        samples_needed(0.0, 0.05)


def straight(gap: float):
    system = unicycle()
    n = 12
    states = np.zeros((n + 1, 4))
    states[:, 2] = 1.0
    states[:, 0] = np.arange(n + 1) * system.dt
    scene = Scene((Obstacle(0.35, 0.05 + 0.1 + gap, r=0.1),), Goal(1, 0, 0.1), (-2, -2, 2, 2))
    ref = Reference(states, np.zeros((n, 2)), np.zeros((n, 2, 4)), system.dt)
    return system, ref, unicycle_belief(states[0]), scene


def test_certificate_is_reproducible_and_spends_delta():
    system, ref, belief, scene = straight(0.15)
    one = certify(system, ref, belief, scene, gamma=0.05, delta=0.05, attempt=1, seed=7)
    again = certify(system, ref, belief, scene, gamma=0.05, delta=0.05, attempt=1, seed=7)
    assert one == again and one.holds and one.k == 0 and one.delta == 0.025
    third = certify(system, ref, belief, scene, gamma=0.05, delta=0.05, attempt=3, seed=7)
    assert third.delta == pytest.approx(0.05 / 8) and third.n > one.n
    assert any("belief" in a for a in one.assumes)
    with pytest.raises(CertificateError, match="attempts count from 1"):
        certify(system, ref, belief, scene, gamma=0.05, delta=0.05, attempt=0, seed=7)


def test_seeds_that_chose_the_plan_are_refused():
    system, ref, belief, scene = straight(0.15)
    with pytest.raises(CertificateError, match="seed = 128 drew samples that took part in choosing"):
        certify(system, ref, belief, scene, gamma=0.05, delta=0.05, attempt=1, seed=128, used=(16, 128))
    rng = np.random.default_rng(3)
    assert collides(*straight(0.02), 400, rng).sum() == count_collisions(*straight(0.02), 400, 3)


def test_a_collision_course_is_not_certified_and_nan_counts_as_a_hit():
    system, ref, belief, scene = straight(-0.02)
    assert not certify(system, ref, belief, scene, gamma=0.05, delta=0.05, attempt=1, seed=1).holds
    broken = Reference(ref.states, ref.controls + np.nan, ref.gains, ref.dt)
    assert count_collisions(system, broken, belief, scene, 20, 0) == 20


def test_risk_grows_as_the_gap_shrinks():
    hits = [count_collisions(*straight(g)[:4], 400, 3) for g in (0.1, 0.05, 0.02, 0.0)]
    assert hits == sorted(hits) and hits[0] < hits[-1]
