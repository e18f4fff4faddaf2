"""Estimators of the density of reachable states against closed forms, and the interface that they share."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.stats import multivariate_normal

from safeplan.dynamics.systems import system
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.reach.rivals import (
    Runs,
    count,
    delaunay,
    gaussian_process,
    histogram,
    hull,
    interval_reach,
    kde,
    sigma_points,
    simulate,
)
from safeplan.reach.rivals.kernel import normal_reference
from safeplan.reach.sets import Ball, Box
from tests.reach.rivals.linear import HIGH, LOW, SQUEEZE, A, linear, moments

WHOLE = Box([-np.inf], [np.inf])
VDP = system("vdp")
ALL = {
    "count": lambda: count(simulate(VDP, 256, 20, sampler="iid")),
    "histogram": lambda: histogram(simulate(VDP, 256, 20)),
    "kde": lambda: kde(simulate(VDP, 256, 20)),
    "sigma_points": lambda: sigma_points(VDP, 20),
    "gaussian_process": lambda: gaussian_process(simulate(VDP, 64, 20), push=1024),
    "hull": lambda: hull(simulate(VDP, 256, 20)),
    "delaunay": lambda: delaunay(simulate(VDP, 256, 20, density=True)),
    "interval": lambda: interval_reach(VDP, 20, 256),
}
BOXES = [Box([-1.0, -1.0], [0.5, 1.5]), Box([0.0], [1.0], axes=(1,)), Box([1.0, -2.0], [1.5, -1.0], velocity=[0.5, 1])]
TRUTH = count(simulate(VDP, 1 << 16, 20, seed=5)).probability(BOXES)


def grid(low, high, n):
    axes = [np.linspace(a, b, n, endpoint=False) + (b - a) / n / 2 for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(low)), np.prod((high - low) / n)


@pytest.mark.parametrize("name", ALL)
def test_probabilities_are_probabilities(name):
    fitted = ALL[name]()
    assert fitted.t == pytest.approx(1.0)
    inside = fitted.probability(BOXES)
    assert inside.shape == (3,) and (inside >= 0).all() and (inside <= 1).all()
    if name != "interval":
        np.testing.assert_allclose(fitted.probability([WHOLE, Box([40.0], [41.0])]), [1, 0], atol=1e-9)
        assert np.abs(inside - TRUTH).max() < {"hull": 0.3, "sigma_points": 0.25, "delaunay": 0.15}.get(name, 0.08)
        again = ALL[name]().probability(BOXES)
        np.testing.assert_array_equal(inside, again)
    with pytest.raises(ShapeError, match="the states have 2 components"):
        fitted.probability([Box([0.0], [1.0], axes=(2,))])
    assert fitted.probability([]).shape == (0,)


@pytest.mark.parametrize("name", ["count", "gaussian_process", "interval"])
def test_methods_without_a_density_say_so(name):
    with pytest.raises(CapabilityError, match="no density at a point; use"):
        ALL[name]().log_density(np.zeros((1, 2)))


@pytest.mark.parametrize("name", ["histogram", "kde", "sigma_points", "hull", "delaunay"])
def test_densities_integrate_to_one_and_to_the_probability(name):
    fitted = ALL[name]()
    x, cell = grid(np.array([-6.0, -14.0]), np.array([6.0, 14.0]), 700)
    rho = np.exp(fitted.log_density(x))
    assert rho.sum() * cell == pytest.approx(1, abs=0.02)
    mine = [rho[b.level(x.T, 1.0) <= 0].sum() * cell for b in BOXES[:2]]
    np.testing.assert_allclose(mine, fitted.probability(BOXES[:2]), atol=0.015)
    with pytest.raises(ShapeError, match=r"expected \[P, 2\]"):
        fitted.log_density(np.zeros(2))


def test_runs_carry_the_exact_density():
    case = linear()
    runs = simulate(case, 64, density=True)
    np.testing.assert_allclose(runs.x, runs.x0 @ expm(A).T, atol=1e-6)
    np.testing.assert_allclose(runs.log_rho, multivariate_normal(*moments()).logpdf(runs.x), atol=1e-5)
    at_start = simulate(case, 64, 0, density=True)
    np.testing.assert_array_equal(at_start.x, at_start.x0)
    np.testing.assert_allclose(simulate(case, 64).x, runs.x, atol=1e-12)  # NumPy and torch twins
    big = simulate(case, 1 << 14, seed=1)
    np.testing.assert_allclose(big.x, big.x0 @ expm(A).T, atol=1e-6)  # moved in groups


def test_count_is_unbiased_and_sobol_points_do_better():
    case, box = linear(), Box([-0.2, -1.5], [0.6, -0.2])
    p = multivariate_normal(*moments()).cdf(box.high, lower_limit=box.low)
    n = 256

    def found(sampler):
        return np.array([count(simulate(case, n, seed=s, sampler=sampler)).probability([box])[0] for s in range(60)])

    iid, sobol = found("iid"), found("sobol")
    sd = np.sqrt(p * (1 - p) / n)
    assert abs(iid.mean() - p) < 4 * sd / np.sqrt(60) and 0.7 < iid.std() / sd < 1.3
    assert np.sqrt(np.mean((sobol - p) ** 2)) < 0.6 * sd


def test_histogram_is_exact_where_the_density_is_constant():
    case = linear(SQUEEZE, normal=False)
    F = np.diag(expm(SQUEEZE))
    fitted = histogram(simulate(case, 1 << 14), bins=8)
    low, high = LOW * F, HIGH * F
    box = Box(low + 0.3 * (high - low), low + [0.55, 0.9] * (high - low))
    assert fitted.probability([box])[0] == pytest.approx(0.25 * 0.6, abs=2e-3)
    middle = (low + high) / 2
    assert fitted.log_density(middle[None])[0] == pytest.approx(-np.log(6 * F.prod()), abs=0.02)
    beyond = np.array([[high[0] + 1, middle[1]]])
    assert fitted.log_density(beyond)[0] == -np.inf
    open_ = histogram(simulate(case, 1 << 14), bins=8, extend=True)
    edge = np.array([[high[0] - 1e-2, middle[1]]])
    np.testing.assert_allclose(open_.log_density(beyond), fitted.log_density(edge))


def test_histogram_in_many_axes_stays_small():
    runs = simulate(system("quad"), 512)
    fitted = histogram(runs, bins=16)
    assert len(fitted.cells) <= 512 and fitted.probability([WHOLE])[0] == pytest.approx(1)
    assert np.isfinite(fitted.log_density(runs.x)).all()


@pytest.mark.parametrize("share", [0.4, 0.7, 1.0])
def test_the_kernel_is_the_normalised_epanechnikov(share):
    """One state in 6 axes: density at the centre (n + 2) / (2 V_n h^n); mass within a share of h in closed form."""
    from scipy.special import gamma

    case, h = system("quad"), 0.3
    state = np.zeros((1, 6))
    fitted = kde(Runs(case, 0.0, state, np.zeros((1, 1, 0)), state), h, shots=1 << 12)
    ball = np.pi**3 / gamma(4)
    assert fitted.log_density(state)[0] == pytest.approx(np.log(8 / (2 * ball * h**6)))
    near = 24 * (share**6 / 6 - share**8 / 8)
    assert fitted.probability([Ball(np.zeros(6), share * h)])[0] == pytest.approx(near, abs=0.005)
    assert np.isneginf(fitted.log_density(np.full((1, 6), h))[0])


def test_scaled_kernels_follow_the_units():
    """Silverman's constants 2.34 and 2.40; in other units the same probabilities, densities by the volume."""
    assert normal_reference(1, 1) == pytest.approx(2.34, abs=0.01)
    assert normal_reference(1, 2) == pytest.approx(2.40, abs=0.01)
    runs, units = simulate(VDP, 256, 20), np.array([1e3, 1e-2])
    a, b = kde(runs, None), kde(replace(runs, x=runs.x * units), None)
    box = Box(np.array([-1.0, -2.0]), np.array([0.5, 1.0]))
    there = Box(box.low * units, box.high * units)
    assert a.probability([box])[0] == pytest.approx(b.probability([there])[0]) and 0 < a.probability([box])[0] < 1
    np.testing.assert_allclose(b.log_density(runs.x[:9] * units), a.log_density(runs.x[:9]) - np.log(10.0))


@pytest.mark.parametrize("kappa", [0.0, 1.0])
@pytest.mark.parametrize("matrix", [A, SQUEEZE], ids=["turning", "apart"])
def test_sigma_points_are_exact_for_a_linear_system(matrix, kappa):
    fitted, (mean, cov) = sigma_points(linear(matrix), kappa=kappa), moments(matrix)
    np.testing.assert_allclose(fitted.mean, mean, atol=1e-4)
    np.testing.assert_allclose(fitted.cov, cov, atol=2e-4)
    truth = multivariate_normal(mean, cov)
    box = Box(mean - [0.3, 0.5], np.array([mean[0] + 0.6, np.inf]))
    assert fitted.probability([box])[0] == pytest.approx(truth.cdf(box.high, lower_limit=box.low), abs=1e-3)
    x = truth.rvs(20, random_state=0)
    np.testing.assert_allclose(fitted.log_density(x), truth.logpdf(x), atol=0.01)


def test_sigma_points_know_parameters():
    """A constant force that is uniform on +-1 adds to the variance as the flow's response to it says."""
    fitted = sigma_points(linear(normal=False, drift=1.0))
    response = np.linalg.solve(A, expm(A) - np.eye(2))[:, 1]
    cov = expm(A) @ np.diag((HIGH - LOW) ** 2 / 12) @ expm(A).T + np.outer(response, response) / 3
    np.testing.assert_allclose(fitted.cov, cov, rtol=2e-3)


def test_sigma_points_of_a_system_with_gusts():
    """Parameters that hold for good and others that are drawn anew; nearly linear for so short a time."""
    case = system("hovercraft")
    fitted, many = sigma_points(case, 3), simulate(case, 1 << 12, 3).x
    sd = many.std(0)
    np.testing.assert_allclose(np.sqrt(np.diag(fitted.cov)) / sd, 1, atol=0.2)
    assert (np.abs(fitted.mean - many.mean(0)) < 0.15 * sd).all()


def test_gaussian_process_learns_the_flow_map():
    linear_case = linear(normal=False, drift=1.0)
    fitted = gaussian_process(simulate(linear_case, 64), push=1024, seed=3)
    truth = simulate(linear_case, 1024, seed=3).x
    assert np.abs(fitted.x - truth).max() < 1e-2
    few = simulate(VDP, 128, 20)
    by_process = gaussian_process(few, push=1 << 13).probability(BOXES)
    assert np.abs(by_process - TRUTH).max() < 0.02
    with pytest.raises(CapabilityError, match="inputs, more than 20"):
        gaussian_process(simulate(system("hovercraft"), 32, 5))


def test_hull_of_a_uniform_start_is_its_image():
    case = linear(normal=False)
    fitted = hull(simulate(case, 1 << 12))
    assert fitted.volume == pytest.approx(6 * np.exp(np.trace(A)), rel=0.02)
    half = Box([-np.inf], [(expm(A) @ (LOW + HIGH) / 2)[0]])
    assert fitted.probability([half])[0] == pytest.approx(0.5, abs=0.01)
    assert fitted.log_density(np.array([[50.0, 0.0]]))[0] == -np.inf
    flat = replace(case, start=replace(case.start, x_low=np.zeros(2), x_high=np.array([0.0, 1.0])))
    with pytest.raises(CapabilityError, match="span no volume"):
        hull(simulate(flat, 64, 0))


def test_delaunay_is_right_for_a_linear_flow_and_fails_where_the_flow_folds():
    case = linear(SQUEEZE, normal=False)
    fitted = delaunay(simulate(case, 1 << 11, density=True), normalise=False)
    assert fitted.mass == pytest.approx(1, abs=0.03)
    F = np.diag(expm(SQUEEZE))
    low, high = LOW * F, HIGH * F
    box = Box(low + 0.2 * (high - low), low + [0.7, 0.6] * (high - low))
    assert fitted.probability([box])[0] == pytest.approx(0.2, abs=1e-6)
    late = delaunay(simulate(VDP, 512, density=True), normalise=False)
    assert late.mass > 5 and late.probability([WHOLE])[0] > 2
    with pytest.raises(CapabilityError, match="density=True"):
        delaunay(simulate(VDP, 64))
    with pytest.raises(CapabilityError, match="at most 6"):
        delaunay(replace(simulate(system("hovercraft"), 16, 1), log_rho=np.zeros(16)))


def test_delaunay_counts_parameters_as_axes():
    runs = simulate(linear(normal=False, drift=1.0), 1 << 10, density=True)
    fitted = delaunay(runs)
    assert len(fitted.low) == 3 and fitted.mass == pytest.approx(1, abs=0.25)
    half = Box([-np.inf], [(expm(A) @ (LOW + HIGH) / 2)[0]])
    assert fitted.probability([half])[0] == pytest.approx(0.5, abs=0.02)
    with pytest.raises(CapabilityError, match="no density at a point"):
        fitted.log_density(np.zeros((1, 2)))


def test_only_counting_methods_take_other_sets():
    for name in ("histogram", "sigma_points"):
        with pytest.raises(CapabilityError, match="not over a Ball; use `count`"):
            ALL[name]().probability([Ball([0.0, 0.0], 1.0)])
        with pytest.raises(CapabilityError, match="wrapped angle"):
            ALL[name]().probability([Box([0.0], [1.0], angles=(0,))])


def test_refusals():
    runs = simulate(VDP, 16, 0)
    for make, message in (
        (lambda: histogram(runs, 0), "bins = 0"),
        (lambda: kde(runs, 0.0), "bandwidth = 0"),
        (lambda: sigma_points(VDP, kappa=-1.0), "kappa = -1"),
        (lambda: gaussian_process(runs, push=100), "push = 100"),
        (lambda: simulate(VDP, 16, 50), "steps = 50, expected 0 to 49"),
        (lambda: simulate(VDP, 16, sampler="halton"), "Choose one of: iid, sobol"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()
    with pytest.raises(ShapeError, match="states at t = 0 s are not finite"):
        replace(runs, x=np.where(runs.x > 1, np.nan, runs.x))
    with pytest.raises(ShapeError, match=r"x0 \(16, 1\)"):
        replace(runs, x0=runs.x0[:, :1])


@pytest.mark.parametrize(("make", "module"), [(kde, "neighbors"), (gaussian_process, "gaussian_process")])
def test_without_scikit_learn_the_extra_is_named(monkeypatch, make, module):
    monkeypatch.setitem(sys.modules, f"sklearn.{module}", None)
    with pytest.raises(CapabilityError, match=r"pip install 'safeplan\[density\]'"):
        make(simulate(VDP, 16, 5))
