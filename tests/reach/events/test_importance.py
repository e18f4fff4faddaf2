"""Importance sampling: unbiased at closed forms, far fewer paths than splitting, two places, the ends, refusals."""

import numpy as np
import pytest
from scipy.stats import norm

from safeplan.errors import CapabilityError, ConfigError
from safeplan.reach.events.importance import importance_probability
from safeplan.reach.events.rare import rare_probability
from safeplan.reach.sets import Box, Polytope, Union
from safeplan.types import CutNormalBelief
from tests.set_cases import ROTATION, Bare, beyond, box, drift, linear, normal, pushed, still

REST = drift(0.0)
NORMAL = normal([0.0], [1.0])


@pytest.mark.parametrize("exact", [1e-3, 1e-7])
def test_unbiased_and_precise_on_a_tail(exact):
    found = [
        importance_probability(REST, NORMAL, beyond(norm.isf(exact)), still(REST, 0), n=2048, seed=s) for s in range(40)
    ]
    error = np.array([p.estimate for p in found]) / exact - 1
    assert abs(error.mean()) < 3 * error.std() / np.sqrt(40) and error.std() < 0.06
    assert np.mean([p.low <= exact <= p.high for p in found]) > 0.84
    assert all(p.effective > 100 for p in found)


def test_fewer_paths_than_splitting_for_the_same_error():
    c, exact = norm.isf(1e-6), 1e-6
    runs = {"importance": [], "splitting": []}
    for s in range(10):
        ours = importance_probability(REST, NORMAL, beyond(c), still(REST, 0), n=2048, seed=s)
        split = rare_probability(REST, NORMAL, beyond(c), still(REST, 0), n=300, seed=s)
        assert ours.simulations < split.simulations
        runs["importance"].append(ours.estimate), runs["splitting"].append(split.estimate)
    rms = {k: np.sqrt(np.mean((np.array(v) / exact - 1) ** 2)) for k, v in runs.items()}
    assert rms["importance"] < 0.5 * rms["splitting"]


def test_a_radius_in_all_directions_and_two_tails():
    turn = linear(ROTATION, dt=np.pi / 8)
    exact = np.exp(-(5.0**2) / 2)
    p = importance_probability(turn, normal([0, 0], [1, 1]), beyond(5.0, 2), still(turn, 16), between=3)
    assert p.low < exact < p.high < 1.5 * exact
    both = Union([beyond(4.5), Polytope([[1.0]], [-4.5])])
    found = [importance_probability(REST, NORMAL, both, still(REST, 0), seed=s) for s in range(20)]
    assert np.mean([p.estimate for p in found]) == pytest.approx(2 * norm.sf(4.5), rel=0.12)


def test_common_certain_and_impossible_events():
    half = importance_probability(REST, NORMAL, beyond(0.0), still(REST, 0))
    assert half.low < 0.5 < half.high < half.low + 0.1
    sure = importance_probability(REST, NORMAL, Box([-np.inf], [np.inf]), still(REST, 0))
    assert sure.low <= sure.estimate <= 1 and sure.high == pytest.approx(1, abs=0.02) and sure.estimate > 0.98
    never = importance_probability(REST, normal([0.0], [1.0], cut=3.0), beyond(4.0), still(REST, 0))
    assert never.estimate == never.low == never.effective == 0 and 0 < never.high < 2e-3


def test_disturbances_of_every_stretch_are_guided():
    """x(1) = x0 + 0.1 times ten pushes; ever beyond is at most twice, and at least as likely as, beyond at the end."""
    eq = pushed()
    belief = CutNormalBelief([0.0], [0.01], [0.0], [1.0], [True], 0.1, 8.0)
    p = importance_probability(eq, belief, beyond(5 * np.sqrt(0.1)), still(eq, 10), between=0)
    exact = norm.sf(5 / np.sqrt(1 + 1e-3))
    assert 0.8 * exact < p.low and p.high < 2.2 * exact and p.effective > 100
    again = importance_probability(eq, belief, beyond(5 * np.sqrt(0.1)), still(eq, 10), between=0)
    np.testing.assert_array_equal(again.runs, p.runs)


def test_refusals():
    with pytest.raises(CapabilityError, match="Bare has no `push`"):
        importance_probability(REST, Bare(0), beyond(1.0), still(REST, 0))
    for kw in ({"n": 100}, {"replicates": 1}, {"guides": 1}, {"confidence": 0.0}):
        with pytest.raises(ConfigError, match="n a multiple of replicates"):
            importance_probability(REST, box(1), beyond(1.0), still(REST, 0), **kw)
