"""White process noise: the variance of Ornstein and Uhlenbeck, second order in the step, RK4 without noise."""

import numpy as np
import pytest

from safeplan.dynamics.systems import system
from safeplan.errors import ShapeError
from safeplan.reach import rollout
from safeplan.reach.noisy import noisy_rollout
from safeplan.types import Draw
from tests.set_cases import linear, still


def variance(steps, P=200_000, decay=2.0, sigma=0.5, T=1.0):
    loop = linear([[-decay]], dt=T / steps)
    draw = Draw(np.zeros((P, 1)), np.zeros((P, 1, 0)))
    ref = still(loop, steps)._replace(dt=T / steps)
    return float(noisy_rollout(loop, draw, ref, np.inf, np.array([sigma]), np.random.default_rng(0)).states[-1].var())


def test_variance_of_ornstein_uhlenbeck_and_its_order():
    exact = 0.5**2 * (1 - np.exp(-4.0)) / 4.0
    fine = variance(16)
    assert fine == pytest.approx(exact, rel=4 * np.sqrt(2 / 200_000) + 1e-3)
    # closed form of the splitting itself: its error falls fourfold when the step is halved
    errors = []
    for steps in (2, 4, 8):
        h, a = 1.0 / steps, np.exp(-2.0 / steps)
        v = 0.0
        for _ in range(steps):
            v = a * a * (v + 0.25 * h / 2) + 0.25 * h / 2
        errors.append(v - exact)
        assert variance(steps) == pytest.approx(v, rel=2e-2)
    assert 3.5 < errors[0] / errors[1] < 4.5 and 3.5 < errors[1] / errors[2] < 4.5


def test_without_noise_it_is_the_rollout_and_noise_is_where_it_is_wanted():
    case = system("car")
    draw = case.start.sample(50, 1, np.random.default_rng(0))
    plain = rollout(case.loop, draw, case.reference, np.inf)
    silent = noisy_rollout(case.loop, draw, case.reference, np.inf, np.zeros(3), np.random.default_rng(0))
    np.testing.assert_allclose(silent.states, plain.states, atol=1e-12)
    np.testing.assert_array_equal(silent.times, plain.times)
    again = [
        noisy_rollout(case.loop, draw, case.reference, np.inf, np.array([0.0, 0.0, 0.1]), np.random.default_rng(s))
        for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(again[0].states, again[1].states)
    assert np.abs(again[0].states - again[2].states).max() > 0.01
    first = again[0].states[1] - plain.states[1]
    assert np.median(np.abs(first[2])) > 5 * np.median(np.abs(first[:2]))


def test_refusals():
    case = system("car")
    draw = case.start.sample(5, 1, np.random.default_rng(0))
    for sigma in (np.zeros(2), np.array([0.1, -1.0, 0.0]), np.array([0.1, np.nan, 0.0])):
        with pytest.raises(ShapeError, match="expected 3 finite numbers"):
            noisy_rollout(case.loop, draw, case.reference, np.inf, sigma, np.random.default_rng(0))
