"""Particles in sets between stored times: curves, entries found and ruled out, first entry, what breaks."""

from importlib import import_module

import numpy as np
import pytest
from scipy.linalg import expm

from safeplan.errors import CapabilityError, ShapeError
from safeplan.reach.events.occupancy import occupancy
from safeplan.reach.motion import densify, rates
from safeplan.reach.particles import rollout
from safeplan.reach.sets import Ball, Box, Polytope, Union, levels
from safeplan.types import Draw, Reference
from tests.set_cases import ROTATION, drift, equations, linear, path

rng = np.random.default_rng(0)
STARTS = rng.uniform(-2, 2, (300, 2))
EVERYWHERE, WALL = Box([-np.inf] * 2, [np.inf] * 2), Box([1.0, -9.0], [1.001, 9.0])


def slow_twin(region, p, between):
    """Whether any of many points on the curve lies inside, `[P]`."""
    return (levels(region, *densify(p, between)) <= 0).any(axis=0)


def test_the_curve_is_of_fourth_order():
    errors = []
    for dt in (0.2, 0.1):
        p = path(linear(ROTATION, dt=dt), STARTS, round(2 / dt))
        middle = densify(p, 1)
        exact = np.stack([expm(ROTATION * t) @ STARTS.T for t in middle.times])
        errors.append(np.abs(middle.states - exact).max())
        assert (p.length((0, 1)) >= np.hypot(*STARTS.T) * dt * (1 - 1e-4)).all()
    assert errors[0] < 1e-4 and errors[0] / errors[1] > 12


@pytest.mark.parametrize("between", [0, 3])
def test_densify_keeps_the_stored_states(between):
    p = path(linear(ROTATION), STARTS, 4)
    fine = densify(p, between)
    np.testing.assert_array_equal(fine.states[:: between + 1], p.states)
    np.testing.assert_allclose(fine.times, np.linspace(0, 0.4, 4 * (between + 1) + 1))
    with pytest.raises(CapabilityError, match="between = -1"):
        densify(p, -1)


@pytest.mark.parametrize(
    "region",
    [
        Ball([0.5, 0.3], 0.1, velocity=[0.4, -0.2]),
        Box([0.2, 0.4], [0.3, 0.6]),
        Polytope([[1, 1], [-1, 0], [0, -1]], [1.2, -0.5, -0.5]),
        Union([Ball([0.0], 0.02, axes=(1,)), Ball([1.0, 1.0], 0.05, velocity=[-1.0, 0.0])]),
        Box([1.0, -9.0], [1.02, 9.0]),
    ],
)
def test_decisions_agree_with_a_much_finer_look(region):
    p = path(linear(ROTATION, dt=0.5), STARTS, 6)
    o, found = occupancy(region, p), slow_twin(region, p, 200)
    assert not (found & ~o.entered & ~o.undecided).any(), "nothing that enters is ruled out"
    assert (o.entered | o.undecided).mean() - found.mean() < 0.02
    assert o.undecided.mean() < 0.01 and (o.known == o.entered).all() and not o.lost.any()
    assert (o.entered >= o.inside.any(axis=0)).all() and o.entered.sum() > o.inside.any(axis=0).sum()


def test_a_thin_wall_that_is_jumped_over_is_found():
    p = path(drift(1.0, 0.0, dt=0.5), STARTS, 4)
    o = occupancy(WALL, p)
    crossed = (STARTS[:, 0] <= 1.001) & (STARTS[:, 0] + 2.0 >= 1.0)
    assert not o.inside.any()
    np.testing.assert_array_equal(o.entered, crossed)
    shallow = occupancy(WALL, p, depth=0)
    assert not shallow.entered.any() and (shallow.undecided >= crossed).all()


def test_a_wall_without_thickness_stays_undecided_and_is_never_ruled_out():
    o = occupancy(Box([1 / 3, -9], [1 / 3, 9]), path(drift(1.0, 0.0, dt=0.5), STARTS, 4))
    crossed = (STARTS[:, 0] <= 1 / 3) & (STARTS[:, 0] + 2.0 >= 1 / 3)
    assert not o.inside.any()
    np.testing.assert_array_equal(o.entered | o.undecided, crossed)


def test_first_entry():
    x = np.array([[-1.0, 0.0], [0.45, 0.0], [3.0, 0.0], [-0.4, 0.0]])
    ring = Union([Box([0.0, -1.0], [0.1, 1.0]), Box([0.4, -1.0], [0.5, 1.0])])
    p = path(drift(1.0, 0.0, dt=0.7), x, 4)
    o = occupancy(ring, p, refine=True, depth=20)
    np.testing.assert_allclose(o.entry, [1.0, 0.0, np.inf, 0.4], atol=1e-5)
    rough = occupancy(ring, p)
    assert (rough.entry >= o.entry - 1e-12).all() and (rough.entry[:2] <= o.entry[:2] + 0.7).all()
    chased = Ball([-2.0, 0.0], 0.5, velocity=[3.0, 0.0])  # from behind: 0.5 = |x + t - (-2 + 3 t)|
    np.testing.assert_allclose(occupancy(chased, p, refine=True, depth=20).entry, [0.25, 0.975, 2.25, 0.55], atol=1e-5)


def test_a_grazing_set_and_one_slid_along():
    """A path that touches a disc from outside, and paths along a wall at a distance."""
    p = path(drift(1.0, 0.0), np.array([[-2.0, y] for y in (0.0, 0.999, 1.001, 1.5)]), 40)
    o = occupancy(Ball([0.0, 0.0], 1.0), p)
    np.testing.assert_array_equal(o.entered, [True, True, False, False])
    assert not o.undecided[3]
    along = path(drift(1.0, 0.0), np.array([[-2.0, y] for y in (-0.001, 1e-9, 0.01)]), 40)
    half = Polytope([[0.0, 1.0]], [0.0])
    o = occupancy(half, along, depth=8)
    np.testing.assert_array_equal(o.entered, [True, False, False])
    np.testing.assert_array_equal(o.undecided, [False, True, False])


def test_too_many_pieces_stay_undecided(monkeypatch):
    p = path(linear(ROTATION, dt=0.5), STARTS, 6)
    region = Ball([0.5, 0.3], 0.1)
    full = occupancy(region, p)
    monkeypatch.setattr(import_module("safeplan.reach.events.occupancy"), "MOST_PIECES", 5)
    o = occupancy(region, p)
    assert o.undecided.sum() > full.undecided.sum()
    assert not (full.entered & ~o.entered & ~o.undecided).any() and not (o.entered & ~full.entered).any()


@pytest.mark.filterwarnings("error")
def test_unknown_states_count_as_inside():
    blow_up = equations(lambda t, x, u, theta, xp: (xp.square(x[0]),), 1)
    o = occupancy(Ball([-50.0], 0.1), path(blow_up, np.array([[3.0], [-1.0]]), 30))
    np.testing.assert_array_equal(o.lost, [True, False])
    np.testing.assert_array_equal(o.entered, [True, False])
    assert not o.known.any() and not o.undecided.any() and not o.inside[0].any() and o.inside[-1, 0]
    root = equations(lambda t, x, u, theta, xp: (-xp.sqrt(x[0] - 0.5),), 1)
    o = occupancy(Ball([-50.0], 0.1), path(root, np.array([[0.51], [9.0]]), 5))
    np.testing.assert_array_equal(o.lost, [True, False])
    beyond = occupancy(EVERYWHERE, path(linear(ROTATION), np.array([[np.nan, 0.0], [0.0, 0.0]]), 3))
    assert beyond.inside.all() and (beyond.entry == 0).all() and beyond.known.tolist() == [False, True]


def test_one_particle_none_and_no_time():
    region = Ball([0.0, 0.0], 0.5)
    for count in (0, 1):
        o = occupancy(region, path(linear(ROTATION), np.zeros((count, 2)), 3))
        assert o.inside.shape == (4, count) and o.entered.all() and o.entered.shape == (count,)
    at_start = occupancy(region, path(linear(ROTATION), STARTS, 0))
    np.testing.assert_array_equal(at_start.entered, np.hypot(*STARTS.T) <= 0.5)
    with pytest.raises(ShapeError, match="axes are"):
        occupancy(Ball([0.0], 1.0, axes=(2,)), path(linear(ROTATION), STARTS, 1))


def test_angles_are_wrapped_between_times_too():
    """A heading that turns past pi in one step, seen by a set on the other side."""
    turning = drift(2.0, dt=0.5, angle=True)
    near_pi = Box([np.pi - 0.01], [np.pi + 0.01], angles=(0,))
    x = np.array([[2.9], [2.9 + 20 * np.pi], [-2.9], [0.0]])
    np.testing.assert_array_equal(occupancy(near_pi, path(turning, x, 1)).entered, [True, True, False, False])


def test_rates_are_those_of_the_held_controls_and_of_the_stretch():
    """A mass whose push is set every 0.1 s from a noisy state, and whose disturbance changes every 0.2 s."""
    mass = equations(lambda t, x, u, theta, xp: (x[1], u[0] + theta[0]), m=1, p=1, substeps=3)
    seen = 0.1 * rng.normal(size=(6, 2, 20))
    d = Draw(rng.normal(size=(20, 2)), rng.normal(size=(20, 3, 1)))
    reference = Reference(np.zeros((7, 2)), np.zeros((6, 1)), np.tile([[-1.0, -2.0]], (6, 1, 1)), 0.1)
    flow = rollout(mass, d, reference, 0.2, seen)
    start, end = rates(mass, flow, d, reference, 0.2, seen)
    for k in range(6):
        push = -(flow.states[3 * k, 0] + seen[k, 0]) - 2 * (flow.states[3 * k, 1] + seen[k, 1]) + d.theta[:, k // 2, 0]
        for i in range(3 * k, 3 * k + 3):
            np.testing.assert_allclose(start[i], [flow.states[i, 1], push], atol=1e-12)
            np.testing.assert_allclose(end[i], [flow.states[i + 1, 1], push], atol=1e-12)
