"""Highest-density regions against ellipses, on fresh particles, on flat densities; what is refused."""

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.stats import chi2

from safeplan.dynamics.start import uniform
from safeplan.dynamics.systems import system
from safeplan.errors import ConfigError
from safeplan.reach.backward import carry, thetas
from safeplan.reach.highest_density import highest_density
from safeplan.types import CutNormalBelief
from tests.set_cases import ROTATION, SPIRAL, box, equations, linear, normal, pushed, still

FINE, ALPHAS = linear(SPIRAL, substeps=4), (0.3, 0.5, 0.9)
SD = np.array([0.3, 0.5])


def test_ellipses():
    M = expm(SPIRAL)
    S = M @ np.diag(SD**2) @ M.T
    root = np.linalg.cholesky(S)
    for r in highest_density(FINE, normal([0, 0], SD), ALPHAS, still(FINE, 10)):
        d2 = chi2.ppf(r.alpha, 2)
        exact = np.pi * d2 * np.sqrt(np.linalg.det(S))
        assert r.low <= exact <= r.high and r.high - r.low < 0.03 * exact and r.lost == 0
        assert r.log_threshold == pytest.approx(-d2 / 2 - np.log(2 * np.pi) - np.log(np.linalg.det(S)) / 2, abs=0.02)
        angle = np.linspace(0, 2 * np.pi, 40)
        rim = np.sqrt(d2) * (root @ np.stack([np.cos(angle), np.sin(angle)])).T
        assert r.contains(0.97 * rim).all() and not r.contains(1.03 * rim).any()


def test_intervals_hold():
    exact = np.pi * chi2.ppf(0.5, 2) * np.prod(SD)
    at_start = [highest_density(FINE, normal([0, 0], SD), [0.5], still(FINE, 0), n=512, seed=s)[0] for s in range(100)]
    assert np.mean([r.low <= exact <= r.high for r in at_start]) > 0.88


def test_mass_and_volume_of_van_der_pol():
    case = system("vdp")
    regions = highest_density(case, None, ALPHAS, time=1.0, n=4096)
    volumes = [r.volume for r in regions]
    assert volumes == sorted(volumes) and regions[0].log_threshold > regions[2].log_threshold
    fresh = case.start.sample(4000, 1, np.random.default_rng(7))
    x, _ = carry(regions[0].motion, fresh.x, fresh.theta, 80)
    for r in regions:
        assert r.contains(x).mean() == pytest.approx(r.alpha, abs=4 * np.sqrt(0.25 / 4000))
    grid = np.random.default_rng(1).uniform([-3, -4], [3, 4], (20000, 2))
    assert regions[1].contains(grid).mean() * 48 == pytest.approx(volumes[1], rel=0.06)


def test_uncertain_parameters():
    """x + theta with both normal."""
    eq = pushed()
    belief = CutNormalBelief([0.0], [0.5], [0.4], [0.3], [False], np.inf, 8.0)
    (r,) = highest_density(eq, belief, [0.8], still(eq, 10), n=1024, parameters=64)
    half = np.sqrt(chi2.ppf(0.8, 1) * 0.34)
    assert r.volume == pytest.approx(2 * half, rel=0.02)
    np.testing.assert_array_equal(r.contains(0.4 + half * np.array([[-1.03], [-0.97], [0.97], [1.03]])), [0, 1, 1, 0])
    assert len(thetas(r.motion, 64, 0)) == 64


def test_a_flat_density_has_the_share_of_its_volume():
    turn = linear(ROTATION)
    for r in highest_density(turn, box(2), ALPHAS, still(turn, 5)):
        assert r.volume == pytest.approx(4 * r.alpha, rel=1e-6)
        assert r.log_threshold == pytest.approx(-np.log(4), abs=1e-6)


def test_particles_that_break_have_no_density():
    blow_up = equations(lambda t, x, u, theta, xp: (xp.square(x[0]),), 1)
    few, most = highest_density(blow_up, uniform([-2.0], [2.0]), [0.3, 0.99], still(blow_up, 20))
    assert 0.3 < few.lost < 0.4 and 0 < few.volume < 1 and most.volume == np.inf


def test_refusals():
    with pytest.raises(ConfigError, match=r"alphas are \[1.0\]"):
        highest_density(FINE, box(2), [1.0], still(FINE, 1))
    assert highest_density(FINE, box(2), [], still(FINE, 1)) == []
