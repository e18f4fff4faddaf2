"""Splitting: unbiased at closed-form probabilities down to 1e-8, better than chance, honest at the ends."""

import numpy as np
import pytest
from scipy.stats import norm

from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.reach.events.rare import rare_probability
from safeplan.reach.events.set_probability import probability
from safeplan.reach.events.splitting import Ladder
from safeplan.reach.sets import Ball, Box
from safeplan.types import CutNormalBelief
from tests.set_cases import ROTATION, Bare, beyond, box, drift, equations, linear, normal, pushed, still

TURN = linear(ROTATION, dt=np.pi / 8)  # a full turn in 16 steps
GROW = linear([[0.5]], dt=0.5)


@pytest.mark.parametrize("exact", [1e-5, 1e-7])
def test_unbiased_where_the_event_is_a_tail(exact):
    """x e^(t / 2) >= c at t = 1, from 60 runs with levels from one pilot."""
    c = norm.isf(exact) * np.exp(0.5)
    p = rare_probability(GROW, normal([0.0], [1.0]), beyond(c), still(GROW, 2), n=200, replicates=60, moves=3)
    z = (p.estimate - exact) / (p.runs.std(ddof=1) / np.sqrt(60))
    assert abs(z) < 3 and p.low < exact < p.high and len(p.ladder.levels) > 5
    assert p.runs.std(ddof=1) / exact < 1.5, "an interval that holds for want of precision says nothing"


def test_a_rare_radius_at_any_time_and_against_chance():
    """P(ever beyond c in a turn) = exp(-c^2 / 2) for a normal radius; equal simulations by Monte Carlo would see 0."""
    exact = np.exp(-(5.5**2) / 2)
    p = rare_probability(TURN, normal([0, 0], [1, 1]), beyond(5.5, 2), still(TURN, 16), n=500, replicates=10, between=3)
    assert p.low < exact < p.high and abs(p.estimate / exact - 1) < 0.5
    chance = 1 / np.sqrt(exact * p.simulations)  # relative error of plain Monte Carlo
    ours = p.runs.std(ddof=1) / np.sqrt(10) / exact
    assert ours < chance / 10


def test_intervals_hold():
    exact = 1e-4
    c = norm.isf(exact)
    eq = drift(0.0)
    found = [
        rare_probability(eq, normal([0.0], [1.0]), beyond(c), still(eq, 0), n=200, seed=s, replicates=6)
        for s in range(60)
    ]
    assert np.mean([p.low <= exact <= p.high for p in found]) > 0.86
    z = np.array([p.estimate / exact - 1 for p in found])
    assert abs(z.mean()) < 3 * z.std() / np.sqrt(60), "unbiased over pilots, too"


def test_parameters_and_stretches_are_moved_too():
    """x(1) = sum of ten pushes of 0.1 s: normal with sd 0.1 sqrt(10)."""
    eq = pushed()
    belief = CutNormalBelief([0.0], [0.0], [0.0], [1.0], [True], 0.1, 8.0)
    exact = norm.sf(5.0)
    p = rare_probability(eq, belief, beyond(5.0 * np.sqrt(0.1)), still(eq, 10), n=500, between=0)
    path_max = 2.5 * exact  # reflection: the most along the way is beyond at most twice as often
    assert exact * 0.8 < p.estimate < path_max


def test_common_certain_and_impossible_events():
    belief, eq = normal([0.0], [1.0]), drift(0.0)
    half = rare_probability(eq, belief, beyond(0.0), still(eq, 1))
    assert half.ladder.levels == (0.0,) and half.low < 0.5 < half.high < half.low + 0.03
    sure = rare_probability(eq, belief, Box([-np.inf], [np.inf]), still(eq, 1), n=100)
    assert sure.estimate == 1 == sure.high and sure.low > 0.99
    never = rare_probability(eq, normal([0.0], [1.0], cut=3.0), beyond(4.0), still(eq, 1), n=200)
    assert never.estimate == 0 == never.low and 0 < never.high < 1e-3
    far = rare_probability(eq, box(1), Ball([1e6], 1.0), still(eq, 1), n=50)
    assert far.estimate == 0 and far.simulations < 1e6


def test_agrees_with_counting_at_common_risks():
    region = Ball([0.9, 0.9], 0.25, velocity=[0.1, 0.0])
    counted = probability(TURN, box(2), region, still(TURN, 5), n=16384)
    split = rare_probability(
        TURN, box(2), region, still(TURN, 5), ladder=Ladder((0.3, 0.1, 0.0), (0.5, 0.5)), between=7
    )
    assert split.low < counted.estimate < split.high and split.high - split.low < 0.05


@pytest.mark.filterwarnings("error")
def test_what_breaks_counts_as_inside():
    blow_up = equations(lambda t, x, u, theta, xp: (xp.square(x[0]),), 1)
    p = rare_probability(blow_up, box(1, 2.0), Ball([-99.0], 0.1), still(blow_up, 20), n=200)
    assert p.estimate == pytest.approx(0.37, abs=0.05)


def test_runs_repeat_and_are_counted():
    kw = {"n": 50, "replicates": 2, "moves": 2}
    a, b = (rare_probability(GROW, normal([0.0], [1.0]), beyond(4.0), still(GROW, 2), **kw) for _ in range(2))
    np.testing.assert_array_equal(a.runs, b.runs)
    stages = len(a.ladder.levels) - 1
    assert stages >= 2 and a.simulations <= 3 * 50 * (1 + 2 * stages)
    given = rare_probability(GROW, normal([0.0], [1.0]), beyond(4.0), still(GROW, 2), ladder=a.ladder, **kw)
    np.testing.assert_array_equal(given.runs, a.runs)
    assert given.simulations == a.simulations - 50 * (1 + 2 * stages)


def test_refusals():
    with pytest.raises(CapabilityError, match="Bare has no `push`"):
        rare_probability(GROW, Bare(0), beyond(1.0), still(GROW, 1))
    with pytest.raises(ConfigError, match="share = 1"):
        rare_probability(GROW, box(1), beyond(1.0), still(GROW, 1), share=1)
    for bad in ((0.5, 0.7, 0.0), (0.5, 0.5)), ((0.5,), ()), ((0.5, 0.0), (0.0,)), ((), ()):
        with pytest.raises(ConfigError, match="falling levels down to 0"):
            Ladder(*bad)
    with pytest.raises(ShapeError, match="axes are"):
        rare_probability(GROW, box(1), beyond(1.0, 2), still(GROW, 1))
