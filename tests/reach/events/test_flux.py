"""Flux through boundaries and entries counted: closed forms, bounds, derivatives, quadrature, refusals."""

import numpy as np
import pytest
from scipy.stats import norm

from safeplan.dynamics.start import uniform
from safeplan.dynamics.systems import system
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.reach.events.entries import entries, expected_entries
from safeplan.reach.events.flux import flux_bound
from safeplan.reach.events.set_probability import probability
from safeplan.reach.events.surface import surface
from safeplan.reach.sets import Ball, Box, Polytope, Union
from safeplan.types import CutNormalBelief
from tests.set_cases import ROTATION, box, drift, equations, linear, normal, path, pushed, still

TURN = linear(ROTATION, dt=np.pi / 20)
PASS = drift(1.0, 0.0)  # to the right, nobody comes back


def tail(low, high, mean, sd):
    return norm.cdf(high, mean, sd) - norm.cdf(low, mean, sd)


@pytest.mark.parametrize("velocity", [0.0, 0.5])
def test_equality_where_nobody_comes_back(velocity):
    """A drifting normal and a box ahead: what meets it within 2 s started in a box that reaches as far."""
    region = Box([0.5, -0.3], [0.8, 0.4], velocity=[velocity, 0.0])
    exact = tail(0.5 - 2 * (1 - velocity), 0.8, 0.0, 0.4) * tail(-0.3, 0.4, 0.0, 0.3)
    found = flux_bound(PASS, normal([0, 0], [0.4, 0.3]), region, still(PASS, 20))
    assert found.bound == pytest.approx(exact, abs=3e-4) and found.inflow.shape == (20,)
    at_start = tail(0.5, 0.8, 0.0, 0.4) * tail(-0.3, 0.4, 0.0, 0.3)
    assert found.at_start == pytest.approx(at_start, abs=3e-4)
    assert found.bound - found.at_start == pytest.approx(exact - at_start, abs=1e-5)


def test_a_ball_a_line_and_three_states():
    away = normal([-2, 0], [0.4, 0.3])
    ball = Ball([0.0, 0.0], 0.5)
    found = flux_bound(PASS, away, ball, still(PASS, 40), nodes=64)
    p = probability(PASS, away, ball, still(PASS, 40))
    assert p.low - 1e-3 <= found.bound <= p.high + 1e-3
    line = flux_bound(drift(1.0), normal([-1.0], [0.2]), Ball([0.0], 0.1), still(drift(1.0), 9))
    assert line.bound == pytest.approx(norm.sf(0.0, 0.0, 0.2), abs=1e-3)  # the near end, after 0.9 s
    three = drift(1.0, 0.0, 0.0, dt=0.2)
    cube = Box([-0.2] * 3, [0.2] * 3, axes=(2, 0, 1))
    exact = tail(-0.2, 0.2, 0, 0.3) ** 2 * tail(-1.2, 0.2, -1.0, 0.3)
    start = normal([-1, 0, 0], [0.3] * 3)
    assert flux_bound(three, start, cube, still(three, 5), nodes=8).bound == pytest.approx(exact, abs=1e-3)


def test_uncertain_parameters():
    """x + theta t, started left of the box: what is beyond its near end after 1 s has entered (speeds are positive)."""
    eq = pushed(dt=0.05)
    belief = CutNormalBelief([-1.0], [0.2], [1.0], [0.1], [False], np.inf, 5.0)
    found = flux_bound(eq, belief, Box([-0.1], [0.6]), still(eq, 20))
    assert found.bound == pytest.approx(norm.sf(-0.1, 0.0, np.hypot(0.2, 0.1)), abs=2e-3)


def test_above_the_probability_with_re_entry_and_below_nothing_else():
    region = Ball([0.8, 0.0], 0.3)
    p = probability(TURN, normal([0, 0], [0.5, 0.5]), region, still(TURN, 80))  # two turns
    found = flux_bound(TURN, normal([0, 0], [0.5, 0.5]), region, still(TURN, 80), nodes=64)
    counted = expected_entries(TURN, normal([0, 0], [0.5, 0.5]), region, still(TURN, 80))
    assert found.bound > p.high and counted.low > p.high
    assert counted.low - 5e-3 <= found.bound <= counted.high + 5e-3
    again = flux_bound(TURN, normal([0, 0], [0.5, 0.5]), region, still(TURN, 80), nodes=64)
    assert again.bound == found.bound


@pytest.mark.parametrize("name", ["vdp", "pend"])
def test_both_forms_agree_on_the_literature_s_systems(name):
    case = system(name)
    region = Box([0.4, 1.0], [0.8, 1.6])
    found = flux_bound(case, None, region, nodes=16, parameters=32)
    counted = expected_entries(case, None, region)
    p = probability(case, None, region)
    assert found.bound == pytest.approx(counted.estimate, rel=0.03)
    assert counted.high >= p.estimate and found.bound > 0.97 * p.estimate


def test_derivatives_by_differences_settle():
    """Of a plan's push and of the set's place."""
    cart = equations(lambda t, x, u, theta, xp: (x[1], u[0] + 0.0 * x[0]), m=1)

    def bound(push, place):
        reference = still(cart, 10)._replace(controls=np.full((10, 1), push))
        region = Ball([place, 0.5], 0.4)
        return flux_bound(cart, normal([0.0, 0.3], [0.2, 0.2]), region, reference).inflow.sum()

    for direction in ((1.0, 0.0), (0.0, 1.0)):
        slopes = []
        for eps in (1e-3, 1e-5):
            ends = [bound(0.5 + s * eps * direction[0], 0.8 + s * eps * direction[1]) for s in (1, -1)]
            slopes.append((ends[0] - ends[1]) / (2 * eps))
        assert abs(slopes[0]) > 0.01 and slopes[1] == pytest.approx(slopes[0], rel=5e-3)


def test_quadrature_has_the_area_and_points_inward():
    for region, area in (
        (Box([0, 0], [2, 3]), 10),
        (Box([0, 0, 0], [1, 2, 3], axes=(1, 2, 0)), 22),
        (Box([0], [1]), 2),
        (Ball([1.0], 2.0), 2),
        (Ball([1.0, 0.0], 2.0), 4 * np.pi),
        (Ball([1.0, 0.0, 1.0], 2.0), 16 * np.pi),
        (Box([1, 1], [1, 1]), 0),
    ):
        b = surface(region, len(region.axes), 6)
        assert b.weights.sum() == pytest.approx(area)
        np.testing.assert_allclose(region.level(b.points.T), 0, atol=1e-6)
        if area:
            assert (region.level((b.points + 1e-3 * b.normals).T) < 0).all()
            np.testing.assert_allclose((b.normals * b.weights[:, None]).sum(0), 0, atol=1e-9)


def test_entries_are_counted():
    twice = path(linear(ROTATION, dt=np.pi / 20), np.array([[1.0, 0.0], [0.0, 0.0], [0.1, 0.1]]), 70)  # 1.75 turns
    np.testing.assert_array_equal(entries(Ball([1.0, 0.0], 0.3), twice), [2, 0, 0])
    np.testing.assert_array_equal(entries(Ball([0.0, 1.0], 0.3), twice), [2, 0, 0])
    thin = path(drift(1.0, 0.0, dt=1.0), np.array([[-0.7, 0.0]]), 2)
    np.testing.assert_array_equal(entries(Box([0.0, -1], [1e-3, 1]), thin), [1])
    parts = Union([Ball([0.0, 0.0], 0.1), Ball([1.0, 0.0], 0.1)])
    np.testing.assert_array_equal(entries(parts, path(PASS, np.array([[-0.5, 0.0]]), 20)), [2])
    assert entries(parts, path(PASS, np.zeros((0, 2)), 3)).shape == (0,)


def test_no_time_is_the_start():
    found = flux_bound(PASS, box(2), Ball([0, 0], 0.5), still(PASS, 0))
    assert found.bound == found.at_start == pytest.approx(np.pi / 16, abs=2e-3) and found.inflow.shape == (0,)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Ball([0.0], 1.0), "over axes"),
        (Box([0.0, -np.inf], [1.0, np.inf]), "finite"),
        (Ball([0.0, 0.0], 1.0, angles=(1,)), "none of them an angle"),
        (Polytope([[1.0, 0.0]], [0.0]), "Polytope over axes"),
        (Ball([0.0] * 3, 1.0), "of 2 states"),
    ],
)
def test_refused_regions(region, message):
    with pytest.raises(CapabilityError, match=message):
        flux_bound(PASS, box(2), region, still(PASS, 1))


def test_refusals():
    with pytest.raises(ConfigError, match="nodes = 0"):
        flux_bound(PASS, box(2), Ball([0, 0], 1.0), still(PASS, 1), nodes=0)
    with pytest.raises(CapabilityError, match="known exactly"):
        flux_bound(PASS, uniform([0, 0], [0, 1]), Ball([0, 0], 1.0), still(PASS, 1))
    with pytest.raises(ShapeError, match="axes are"):
        expected_entries(PASS, box(2), Ball([0.0], 1.0, axes=(3,)), still(PASS, 1))
