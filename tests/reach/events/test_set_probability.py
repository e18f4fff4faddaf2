"""Probabilities of sets against closed forms; intervals; systems that break; sets of measure zero."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from safeplan.dynamics.start import uniform
from safeplan.dynamics.systems import system
from safeplan.errors import CapabilityError, CertificateError, ConfigError, ShapeError
from safeplan.reach.events.replicates import scrambles, share_interval, student_interval
from safeplan.reach.events.set_probability import probabilities, probability
from safeplan.reach.sets import Ball, Box, Polytope, Union
from tests.set_cases import ROTATION, box, drift, equations, linear, normal, pushed, still

EVERYWHERE = Box([-np.inf] * 2, [np.inf] * 2)
BEYOND = Polytope([[-1.0, 0.0]], [-0.8])  # x >= 0.8
TURN = linear(ROTATION, dt=np.pi / 10)


def turned(region, belief, **kw):
    return probability(TURN, belief, region, still(TURN, 20), **kw)


@pytest.mark.parametrize("method", ["sobol", "iid"])
def test_a_normal_that_turns_enters_a_half_plane_with_the_tail_of_its_radius(method):
    p = turned(BEYOND, normal([0, 0], [0.5, 0.5]), method=method)
    exact = np.exp(-(1.6**2) / 2)
    assert p.low < exact < p.high and p.high - p.low < (0.012 if method == "sobol" else 0.025)
    np.testing.assert_allclose(p.per_time, norm.sf(1.6), atol=0.01)
    assert ((p.per_low <= norm.sf(1.6)) & (norm.sf(1.6) <= p.per_high)).mean() > 0.85
    assert p.any_upper - p.estimate < 1e-3 and p.stored < p.estimate and p.lost == 0


def test_a_uniform_start_under_an_uncertain_speed():
    """x(t) = x + theta t: P(ever above 1.5) up to t = 1 is the area of a corner."""
    eq = pushed()
    p = probability(eq, uniform([-1], [1], [-1], [1]), Box([1.5], [np.inf]), still(eq, 10), n=32768)
    assert p.low <= 1 / 32 <= p.high and p.high - p.low < 2e-3
    np.testing.assert_allclose(
        p.per_time, np.maximum(0, 1 + p.times - 1.5) ** 2 / (8 * np.maximum(p.times, 0.1)), atol=2e-3
    )


def test_whole_space_nothing_far_and_without_area():
    belief = box(2)
    whole = turned(EVERYWHERE, belief)
    assert whole.estimate == 1 and whole.high == 1 and whole.low > 0.999 and (whole.per_time == 1).all()
    far = turned(Ball([90.0, 0.0], 1.0), belief)
    assert far.estimate == far.any_upper == far.low == 0 and 0 < far.high < 1e-3
    line = turned(Box([1 / 3, 1 / 7], [1 / 3, 1 / 7]), belief)  # a point
    assert line.estimate == 0 and line.any_upper < 0.01 and (line.per_time == 0).all()


def test_any_time_lies_between_the_worst_time_and_the_union_bound():
    still_life = drift(0.0, 0.0)
    standing = probability(still_life, box(2), Ball([0, 0], 0.5), still(still_life, 5))
    assert standing.estimate == standing.stored == standing.per_time.max()
    for region in (Ball([0.3, 0.2], 0.2, velocity=[0.2, 0.1]), BEYOND):
        p = turned(region, box(2))
        assert p.per_time.max() <= p.stored <= min(p.per_time.sum(), p.estimate) and p.estimate <= p.any_upper


def test_coarse_steps_agree_with_twenty_times_finer_ones():
    case = system("vdp")
    regions = [Ball([1.5, 0.5], 0.1), Box([-0.02, 1.0], [0.02, 2.0]), Ball([-2.5, 0.0], 0.2, velocity=[2.0, 1.0])]
    kw = {"n": 2048, "seed": 3}
    fine = probabilities(replace(case, loop=replace(case.loop, substeps=20)), None, regions, **kw)
    coarse = probabilities(replace(case, loop=replace(case.loop, substeps=1)), None, regions, **kw)
    for a, b in zip(coarse, fine, strict=True):
        assert abs(a.estimate - b.estimate) <= 2 / 2048 and b.estimate > 0.01
    assert coarse[1].stored < 0.6 * coarse[1].estimate  # what stored times alone would miss


def test_many_sets_are_one_by_one_and_runs_repeat():
    regions = [Ball([0.3, 0.2], 0.2), Ball([0.5], 0.1, axes=(1,)), Union([BEYOND, Ball([-1, -1], 0.3)])]
    many = probabilities(TURN, box(2), regions, still(TURN, 20), seed=5)
    for region, p in zip(regions, many, strict=True):
        alone = turned(region, box(2), seed=5)
        assert (alone.estimate, alone.low, alone.high) == (p.estimate, p.low, p.high)
    assert turned(regions[0], box(2), seed=6).estimate != many[0].estimate
    assert probabilities(TURN, box(2), [], still(TURN, 20)) == []


@pytest.mark.parametrize(("method", "scale"), [("iid", 1.0), ("sobol", 0.5)])
def test_intervals_hold_as_often_as_they_say(method, scale):
    """Over seeds, at the start alone: P(|x| <= 0.4) in the unit square, and how wide the intervals are."""
    eq, exact = drift(0.0, 0.0), np.pi * 0.4**2 / 4
    found = [
        probability(eq, box(2), Ball([0, 0], 0.4), still(eq, 0), n=1024, seed=s, method=method) for s in range(200)
    ]
    misses = np.mean([not p.low <= exact <= p.high for p in found])
    assert misses <= 0.085  # 5 % and three standard errors of 200 draws, less than 1e-2 by chance
    assert np.mean([p.high - p.low for p in found]) < scale * 0.045


def test_sobol_intervals_of_rare_sets_are_not_empty():
    eq, exact = drift(0.0, 0.0), 1e-3
    rare = Box([-1, -1], [-1 + 2e-3, 1])
    found = [probability(eq, box(2), rare, still(eq, 0), n=1024, seed=s) for s in range(100)]
    assert np.mean([p.low <= exact <= p.high for p in found]) > 0.93 and all(p.high > 0 for p in found)


@pytest.mark.filterwarnings("error")
def test_systems_that_break_are_counted_and_told_apart():
    never = Ball([-99.0], 1.0)
    blow_up = equations(lambda t, x, u, theta, xp: (xp.square(x[0]),), 1)
    p = probability(blow_up, box(1, 2.0), never, still(blow_up, 20))  # 1 / x0 < 2: gone
    assert 0.3 < p.lost < 0.4 and p.lost <= p.estimate <= p.high and p.per_time[0] == 0
    assert p.estimate < p.lost + 0.01 and p.low < 0.01  # some are about to go: their curves are no guide
    stiff = linear([[-1e4]], dt=0.1)
    assert probability(stiff, box(1), never, still(stiff, 60)).lost > 0.99
    root = equations(lambda t, x, u, theta, xp: (-xp.sqrt(x[0]),), 1)
    assert probability(root, box(1), never, still(root, 2)).lost == pytest.approx(0.5, abs=0.05)


def test_a_system_that_switches_is_followed():
    """xdot = -sign(x) slides to 0 and stays within a step of it."""
    switch = equations(lambda t, x, u, theta, xp: (xp.where(x[0] > 0, -1.0, 1.0),), 1, dt=0.05)
    p = probability(switch, box(1), Ball([0.0], 0.1), still(switch, 18))
    assert p.estimate == 1 and p.lost == 0 and p.per_time[0] == pytest.approx(0.1, abs=0.01)
    assert probability(switch, box(1), Ball([0.6], 0.1), still(switch, 18)).estimate == pytest.approx(0.25, abs=0.01)


def test_start_mass_outside_the_domain_is_seen():
    case = system("vdp")
    low, high = (np.array([getattr(q, end) for q in case.loop.states]) for end in ("low", "high"))
    normals = np.vstack([np.eye(2), -np.eye(2)])
    outside = Union([Polytope([-n], [-b]) for n, b in zip(normals, [*high, *-low], strict=True)])
    wide = uniform([-7, -5], [7, 5])
    p = probability(case, wide, outside, n=4096)
    assert p.per_time[0] == pytest.approx(0.5, abs=2e-3) and p.estimate > 0.5 and p.lost < 0.5
    inside = probability(case, None, outside, n=4096)
    assert inside.per_time[0] == 0


def test_no_time_one_particle_and_two_replicates():
    p = turned(BEYOND, box(2), n=1, method="iid")
    assert p.estimate == 0 and (p.low, p.high) == (0.0, pytest.approx(0.975))
    assert turned(BEYOND, box(2), n=2, replicates=2).n == 2
    eq = drift(1.0, 0.0)
    at_start = probability(eq, box(2), BEYOND, still(eq, 0))
    assert at_start.times.tolist() == [0.0] and at_start.estimate == at_start.per_time[0] == pytest.approx(
        0.1, abs=1e-3
    )


def test_blocks_of_particles_change_nothing(monkeypatch):
    whole = turned(BEYOND, box(2), n=1024, seed=2)
    monkeypatch.setattr("safeplan.reach.motion.BLOCK", 50)
    parts = turned(BEYOND, box(2), n=1024, seed=2)
    assert (parts.estimate, parts.low, parts.high) == (whole.estimate, whole.low, whole.high)
    np.testing.assert_array_equal(parts.per_time, whole.per_time)


def test_known_exactly():
    p = turned(Ball([0.7, 0.8], 0.01), uniform([1, 0], [1, 0]))
    assert p.estimate == 0 and turned(Ball([0.6, -0.8], 0.01), uniform([1, 0], [1, 0])).estimate == 1


@pytest.mark.parametrize(
    ("error", "message", "kw"),
    [
        (ConfigError, "method = 'halton'", {"method": "halton"}),
        (ConfigError, "n = 0", {"n": 0, "method": "iid"}),
        (CapabilityError, "such as n = 1024", {"n": 1000}),
        (CapabilityError, "1 replicates", {"n": 1024, "replicates": 1}),
        (CertificateError, "confidence 1.5", {"confidence": 1.5}),
    ],
)
def test_refused_settings(error, message, kw):
    with pytest.raises(error, match=message):
        turned(BEYOND, box(2), **kw)


def test_refused_systems():
    with pytest.raises(ConfigError, match="no reference"):
        probability(TURN, box(2), BEYOND)
    with pytest.raises(ConfigError, match="no belief"):
        probability(TURN, None, BEYOND, still(TURN, 1))
    with pytest.raises(ShapeError, match="has 2 states and 0 parameters, its belief 3 and 0"):
        probability(TURN, box(3), BEYOND, still(TURN, 1))
    with pytest.raises(ShapeError, match=r"reference's states are \(2, 3\)"):
        probability(TURN, box(2), BEYOND, still(drift(0.0, 0.0, 0.0), 1))
    with pytest.raises(ShapeError, match=r"axes are \(4,\), but the states have 2"):
        turned(Ball([0.0], 1.0, axes=(4,)), box(2))


def test_replicates():
    values = np.random.default_rng(0).normal(3.0, 1.0, (2000, 5))
    _, low, high = student_interval(values.T, 0.9)
    assert np.mean((low <= 3) & (high >= 3)) == pytest.approx(0.9, abs=0.025)
    low, high = share_interval(np.full((8, 1), 32), 64, 0.95)
    assert 0.49 < low[0] < 0.5 < high[0] < 0.51
    a, b = scrambles(box(2), 64, 1, 0, 2)
    assert a.x.shape == (32, 2) and not np.allclose(a.x, b.x)
