"""Interval arithmetic, slopes, enclosures of the flow, and the bounds on probabilities that they give."""

import numpy as np
import pytest
from scipy.linalg import expm

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.systems import system
from safeplan.errors import CapabilityError, ConfigError
from safeplan.reach.rivals.counting import count
from safeplan.reach.rivals.enclosure import advance, begin
from safeplan.reach.rivals.intervals import INTERVAL, Interval, interval
from safeplan.reach.rivals.runs import ends, simulate, until
from safeplan.reach.rivals.slopes import SLOPE, Slope
from safeplan.reach.rivals.verified import interval_reach
from safeplan.reach.sets import Ball, Box, Polytope
from safeplan.types import Draw
from tests.reach.rivals.linear import HIGH, LOW, SQUEEZE, linear

W, B = np.random.default_rng(3).normal(size=(2, 2)), np.array([0.3, -0.2])
ONE = {  # of one argument and of two, on the same random intervals
    "sin": lambda x, xp: xp.sin(x),
    "cos": lambda x, xp: xp.cos(2 * x),
    "tan": lambda x, xp: xp.tan(0.7 * x),
    "tanh": lambda x, xp: xp.tanh(x),
    "exp": lambda x, xp: xp.exp(x),
    "log": lambda x, xp: xp.log(xp.square(x) + 0.5),
    "sqrt": lambda x, xp: xp.sqrt(xp.square(x) + 0.1),
    "abs": lambda x, xp: xp.abs(x),
    "cube": lambda x, xp: x**3 - 2.0 * x,
    "fourth": lambda x, xp: (x - 1) ** 4,
    "inverse": lambda x, xp: (xp.square(x) + 1) ** -2 + 1 / (2.0 + xp.square(x)),
    "clip": lambda x, xp: xp.clip(x, -0.5, 1.0),
    "where": lambda x, xp: xp.where(np.array(True), x, 0.0 * x),
}
TWO = {
    "plus": lambda x, y, xp: 3.0 - x + y - 1.0,
    "times": lambda x, y, xp: x * y * 0.5,
    "over": lambda x, y, xp: x / (3.5 + xp.sin(y)),
    "maximum": lambda x, y, xp: xp.maximum(x, y),
    "minimum": lambda x, y, xp: xp.minimum(x, xp.square(y)),
    "arctan2": lambda x, y, xp: xp.arctan2(y, x),
    "dense": lambda x, y, xp: xp.unstack(xp.tanh(xp.dense(W, B, xp.stack([x, y]))))[0],
    "array": lambda x, y, xp: np.array(2.0) * x + np.array([1.5]) * y,
}
FUNCTIONS = {k: (lambda x, y, xp, f=f: f(x, xp)) for k, f in ONE.items()} | TWO


def boxes(n=400, seed=0):
    """Intervals of two variables `[2, n]`, and 30 points in each."""
    rng = np.random.default_rng(seed)
    mid, rad = rng.uniform(-2, 2, (2, n)), rng.uniform(0, 1, (2, n)) ** 3
    at = mid + rad * rng.uniform(-1, 1, (30, 2, n))
    return Interval(mid - rad, mid + rad), at


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_interval_holds_all_values_and_is_thin_for_thin_arguments(name):
    (x, at), fn = boxes(), FUNCTIONS[name]
    out = fn(*INTERVAL.unpack(x), INTERVAL)
    values = np.array([fn(*p, NUMPY) for p in at])
    assert (values >= out.lo - 1e-12).all() and (values <= out.hi + 1e-12).all()
    thin = fn(*INTERVAL.unpack(interval(at[0])), INTERVAL)
    np.testing.assert_allclose([thin.lo, thin.hi], [values[0]] * 2, atol=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_bound_every_difference_quotient(name):
    """Mean value theorem: f(a) - f(b) lies in the slopes over the box times a - b, also across kinks."""
    (x, at), fn = boxes(seed=1), FUNCTIONS[name]
    unit = np.eye(2)[:, :, None]
    parts = [Slope(v, interval(unit[:, i])) for i, v in enumerate(INTERVAL.unpack(x))]
    with np.errstate(invalid="ignore"):  # 0 * inf where a pole is inside: nothing is known there
        out = SLOPE.asarray(fn(*parts, SLOPE))
    a, b = at[:15], at[15:]
    change = np.array([fn(*p, NUMPY) for p in a]) - np.array([fn(*p, NUMPY) for p in b])
    with np.errstate(invalid="ignore"):
        steps = [Interval(*(np.broadcast_to(e, (2, 400))[i] for e in (out.tangent.lo, out.tangent.hi))) for i in (0, 1)]
        bound = steps[0] * (a - b)[:, 0] + steps[1] * (a - b)[:, 1]
    assert not ((change < bound.lo - 1e-9) | (change > bound.hi + 1e-9)).any()
    assert np.isfinite(bound.hi).mean() > 0.4


def test_angles_wrap_and_tear():
    x = Interval(np.array([3.0, 3.0, -9.5, 0.0]), np.array([3.1, 3.3, -9.3, 7.0]))
    out = INTERVAL.wrap(x)
    turn = 2 * np.pi
    np.testing.assert_allclose(out.lo, [3.0, -np.pi, -np.pi, -np.pi])
    np.testing.assert_allclose(out.hi, [3.1, np.pi, np.pi, np.pi])
    np.testing.assert_allclose(INTERVAL.wrap(x + turn * 3).lo[0], 3.0)
    torn = SLOPE.wrap(Slope(x, interval(np.ones((1, 4))))).tangent
    assert (torn.hi[0, 1:] == np.inf).all() and torn.hi[0, 0] == 1


def test_division_by_zero_and_comparisons():
    x = Interval(np.array(-1.0), np.array(2.0))
    assert (1 / x).hi == np.inf and (1 / x).lo == -np.inf
    for compare in (lambda: x < 1, lambda: Slope(x, x) >= 0, lambda: np.array(1.0) > x):
        with pytest.raises(CapabilityError, match="no single answer"):
            compare()
    with pytest.raises(CapabilityError, match="whole number"):
        x**0.5


@pytest.mark.parametrize(
    ("name", "steps", "width"),
    [("vdp", 30, 0.02), ("car", 15, 0.02), ("pend", 30, 0.02), ("kop", 8, 0.02), ("quad", 2, 1e-3)],
)
def test_enclosures_hold_the_trajectories_of_their_cells_and_shrink_with_cell_and_step(name, steps, width):
    case = system(name)
    start = case.start.sample(20, 1, np.random.default_rng(0))
    inside = np.random.default_rng(1).uniform(-1, 1, (60, 20, case.loop.n + case.loop.p))
    n, sizes = case.loop.n, []
    for half, substeps in ((width / 2, case.loop.substeps), (width / 4, 2 * case.loop.substeps)):
        theta = start.theta[:, 0].T
        tube = begin(start.x.T - half, start.x.T + half, case.loop.p)
        box = Interval(theta - half, theta + half)
        for _ in range(steps * substeps):
            tube = advance(case.loop, tube, case.command, box, case.loop.dt / substeps)
        assert not tube.lost.any()
        z = np.concatenate([start.x, start.theta[:, 0]], axis=1) + half * inside
        flat = z.reshape(-1, z.shape[-1])
        moved = ends(until(case, steps), Draw(flat[:, :n], flat[:, None, n:])).reshape(60, 20, n).transpose(0, 2, 1)
        seen = tube.box
        assert (moved >= seen.lo - 1e-6).all() and (moved <= seen.hi + 1e-6).all()
        sizes.append((seen.hi - seen.lo).mean())
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize(("name", "steps", "cells"), [("vdp", 10, 2500), ("car", 3, 4096), ("pend", 8, 4096)])
def test_bounds_contain_the_truth(name, steps, cells):
    case = system(name)
    fitted = interval_reach(case, steps, cells)
    x = simulate(case, 1 << 14, steps)
    mid, sd = x.x.mean(0), x.x.std(0)
    n = case.loop.n
    regions = [Box(mid - sd, mid + sd), Box(mid[:1], mid[:1] + 4 * sd[:1]), Ball(mid[:2], 1.5 * sd[0], axes=(0, 1))]
    regions += [
        Polytope(np.eye(n)[:1] + np.eye(n)[1:2], [mid[:2].sum()]),
        Box([-np.inf], [np.inf]),
        Box([90.0], [91.0]),
    ]
    low, high = fitted.bounds(regions)
    truth = count(x).probability(regions)
    assert (low <= truth + 1e-3).all() and (truth <= high + 1e-3).all()
    assert (high - low)[0] < 0.8 and low[4] == 1 and high[5] == 0
    np.testing.assert_allclose(fitted.probability(regions), (low + high) / 2)
    assert fitted.reason == "" and not fitted.lost.any()


def test_bounds_close_in_on_the_exact_value():
    case = linear(SQUEEZE, normal=False)
    F = np.diag(expm(SQUEEZE))
    low, high = LOW * F, HIGH * F
    box = Box(low + 0.237 * (high - low), low + [0.781, 0.613] * (high - low))
    exact = (0.781 - 0.237) * (0.613 - 0.237)
    gaps = []
    for cells in (256, 4096):
        a, b = interval_reach(case, cells=cells).bounds([box])
        assert a[0] <= exact <= b[0]
        gaps.append(b[0] - a[0])
    assert gaps[1] < 0.35 * gaps[0]


def test_normal_starts_are_cut_into_cells_of_equal_probability():
    fitted = interval_reach(linear(), 0, cells=100)
    low, high = fitted.bounds([Box([-np.inf, -np.inf], [1.0, -0.5]), Box([-np.inf], [1.0])])
    np.testing.assert_allclose(low, [0.25, 0.5], atol=1e-9)
    assert (high >= low).all() and high[1] <= 0.61


def test_a_moving_region_is_met_where_it_is():
    fitted = interval_reach(system("vdp"), 10, 400)
    still, moved = Box([0.0, 0.0], [1.0, 1.0]), Box([-1.0, 0.0], [0.0, 1.0], velocity=[2.0, 0.0])
    np.testing.assert_allclose(*(fitted.bounds([r]) for r in (still, moved)))


def test_enclosures_that_blow_up_say_so():
    fitted = interval_reach(system("kop"), cells=8)
    low, high = fitted.bounds([Box([0.0], [1.0]), Box([-np.inf], [np.inf])])
    assert (low == 0).all() and (high == 1).all() and fitted.lost.all()
    assert fitted.reason == "the enclosures of 8 of 8 cells blew up before t = 9.875 s: they may be anywhere"


def test_refusals():
    with pytest.raises(CapabilityError, match="draws parameters anew"):
        interval_reach(system("hovercraft"), 10)
    with pytest.raises(ConfigError, match="cells = 100000"):
        interval_reach(system("vdp"), 1, cells=100_000)
    with pytest.raises(ConfigError, match="steps = 99"):
        interval_reach(system("vdp"), 99)
