"""The self-normalised KL divergence, and the published comparison on Van der Pol that it was made for."""

import numpy as np
import pytest
from scipy.stats import norm

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.systems import system
from safeplan.errors import ShapeError
from safeplan.reach.kl import carry_over, self_normalised_kl
from safeplan.reach.rivals.bins import histogram
from safeplan.reach.rivals.kernel import kde
from safeplan.reach.rivals.runs import Runs


def test_constants_cancel_and_order_matters():
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 50))
    kl = self_normalised_kl(p, q)
    assert kl > 0 and kl == pytest.approx(self_normalised_kl(p + 700.0, q - 900.0))
    assert kl != pytest.approx(self_normalised_kl(q, p))
    assert self_normalised_kl(p, p + 3.0) == pytest.approx(0, abs=1e-12)
    assert self_normalised_kl(np.log([0.5, 0.5]), np.log([0.25, 0.75])) == pytest.approx(
        0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    )


def test_on_a_grid_it_is_the_divergence_of_the_densities():
    x = np.linspace(-12, 12, 4001)
    kl = self_normalised_kl(norm.logpdf(x, 0.5, 1.0), norm.logpdf(x, 0.0, 2.0))
    assert kl == pytest.approx(np.log(2) + (1 + 0.25) / 8 - 0.5, abs=1e-6)


def test_no_mass_counts_nothing_in_the_estimate_and_everything_in_the_truth():
    nothing = np.array([0.0, -np.inf])
    assert self_normalised_kl(nothing, np.zeros(2)) == pytest.approx(np.log(2))
    assert self_normalised_kl(np.zeros(2), nothing) == np.inf
    for bad in (np.array([0.0, np.nan]), np.full(2, -np.inf), np.array([0.0, np.inf])):
        with pytest.raises(ShapeError, match="NaN, \\+inf or no mass"):
            self_normalised_kl(bad, np.zeros(2))
    with pytest.raises(ShapeError, match=r"log_p is \(2,\), log_q \(3,\)"):
        self_normalised_kl(np.zeros(2), np.zeros(3))


def test_values_come_from_the_nearest_support_point():
    rng = np.random.default_rng(1)
    support, x, values = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)), rng.normal(size=40)
    slow = [values[np.argmin(np.linalg.norm(support - p, axis=1))] for p in x]
    np.testing.assert_array_equal(carry_over(support, values, x), slow)


def test_the_published_comparison_comes_out():
    """10,000 starts, Euler steps of 0.05 for state and gain, half of them known to the estimators, half to be scored;
    the mean over 10 times is that of the authors' script [density_corl]."""
    case = system("vdp")
    start = np.random.RandomState(1007).uniform(-2.5, 2.5, (10_000, 2))
    x, gain, none = start.T.copy(), np.zeros(10_000), np.zeros((5000, 1, 0))
    scores = []
    for k in range(46):
        if k % 5 == 0:
            known, asked, truth = x.T[:5000], x.T[5000:], gain[5000:]
            runs = Runs(case, 0.05 * k, start[:5000], none, known)
            guesses = (
                kde(runs, 0.1).log_density(asked),
                histogram(runs, 25, extend=True).log_density(asked),
                carry_over(known, gain[:5000], asked),
            )
            scores.append([self_normalised_kl(g, truth) for g in guesses])
        state = tuple(x)
        gain = gain + np.log(1 - 0.05 * case.loop.divergence(0.0, state, (), (), NUMPY))
        x = x + 0.05 * np.array(case.loop.f(0.0, state, (), (), NUMPY))
    np.testing.assert_allclose(np.mean(scores, axis=0), [0.680535, 0.819247, 0.056161], atol=2e-6)
    assert scores[9][2] == pytest.approx(0.446, abs=1e-3), "a perfect model loses most by the nearest neighbour"
