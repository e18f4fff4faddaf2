"""Uniform starts: the box, its density, and what is refused."""

import numpy as np
import pytest

from safeplan.dynamics.start import uniform
from safeplan.errors import ShapeError
from safeplan.reach import sobol_draw
from safeplan.types import Belief


def test_samples_fill_the_box_evenly_and_parameters_hold():
    b = uniform([-1.0, 2.0], [1.0, 2.0], [0.0], [0.5])
    assert isinstance(b, Belief) and (b.x_sd == 0).all()
    d = sobol_draw(b, 1024, 3, 0)
    assert d.x.shape == (1024, 2) and d.theta.shape == (1024, 3, 1)
    assert (d.x[:, 1] == 2).all() and (d.theta[:, 0] == d.theta[:, 2]).all()
    np.testing.assert_allclose([d.x[:, 0].mean(), d.x[:, 0].var()], [0, 1 / 3], atol=2e-3)
    np.testing.assert_allclose(np.exp(b.log_prob(d)), 1 / (2 * 0.5))
    mean = b.mean()
    assert (mean[0] == [0, 2]).all() and (mean[1] == [0.25]).all()


def test_density_is_zero_outside_and_integrates_to_one():
    b = uniform([-1.0, -2.0], [1.0, 1.0])
    wide = uniform([-3.0, -3.0], [3.0, 3.0])
    d = wide.sample(200_000, 1, np.random.default_rng(0))
    assert np.exp(b.log_prob(d)).mean() * 36 == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (([0.0], [1.0, 2.0]), "x_low (1,) and x_high (2,) must be alike"),
        (([0.0], [-1.0]), "x_low [0.0] is not below x_high [-1.0]"),
        (([0.0], [1.0], [0.0], [float("inf")]), "theta_low [0.0] is not below theta_high [inf]"),
        (([0.0], [float("nan")]), "finite ends"),
    ],
)
def test_ends_that_make_no_box_are_refused(ends, words):
    with pytest.raises(ShapeError) as caught:
        uniform(*ends)
    assert words in str(caught.value)


def test_wrong_cube_is_refused():
    with pytest.raises(ShapeError, match=r"u is \(4, 3\), expected \[P, 1\]"):
        uniform([0.0], [1.0]).push(np.zeros((4, 3)), 1)
