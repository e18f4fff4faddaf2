"""Evolving densities: level sets, particles and errors of probabilities against closed forms; pictures."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from safeplan.dynamics.systems import system
from safeplan.evaluation.box_error import box_error, pick_boxes
from safeplan.evaluation.density_plot import clock, density_animation, density_figure, named
from safeplan.evaluation.evolution import evolve, plane, summary
from safeplan.reach.rivals import simulate
from tests.reach.rivals.linear import linear, moments


@pytest.fixture(scope="module")
def evolution():
    return evolve(linear(), (0, 1), particles=512, cloud=1 << 14, frames=5, seed=0)


def test_particles_carry_the_density_of_the_closed_form(evolution):
    assert evolution.times[0] == 0 and evolution.times[-1] == pytest.approx(1.0) and len(evolution.times) == 5
    mean, cov = moments()
    exact = multivariate_normal(mean, cov).logpdf(evolution.states[-1].T)
    np.testing.assert_allclose(evolution.log_rho[-1], exact, atol=1e-4)
    np.testing.assert_allclose(evolution.spread[-1], np.sqrt(np.diag(cov)), rtol=0.01)
    np.testing.assert_allclose(evolution.spread[0], [0.5, 0.8], rtol=0.01)


def test_the_share_outside_the_domain_is_counted():
    case = linear()
    narrow = tuple(replace(q, low=0.0, high=np.inf) for q in case.loop.states[:1]) + case.loop.states[1:]
    found = evolve(
        replace(case, loop=replace(case.loop, states=narrow)), (0, 1), particles=64, cloud=4096, frames=2, seed=0
    )
    assert found.outside[0] == pytest.approx(0.0228, abs=2e-3)  # 2 sd below the mean
    assert (evolve(case, (1, 0), particles=64, cloud=1024, frames=2, seed=0).outside == 0).all()


def test_level_sets_of_a_normal_are_ellipses():
    rng = np.random.default_rng(0)
    points = np.array([[1.0], [-2.0]]) + np.array([[0.5], [3.0]]) * rng.normal(size=(2, 200_000))
    found = plane(points)
    assert found is not None
    for mass in (0.5, 0.9):
        area = np.pi * 0.5 * 3.0 * -2 * np.log(1 - mass)
        assert found.area(mass) == pytest.approx(area, rel=0.04)
        inside = found.density >= found.level(mass)
        assert found.density[inside].sum() * found.cell == pytest.approx(mass, abs=0.01)
        assert found.tells(mass)
    assert np.abs((np.array(found.top) - [1, -2]) / [0.5, 3]).max() < 0.4
    assert plane(points * [[1.0], [0.0]]) is None and plane(np.full((2, 5), np.nan)) is None
    spoilt = np.concatenate([points, np.full((2, 50), np.inf)], axis=1)
    np.testing.assert_allclose(plane(spoilt).density, found.density)


def test_on_a_plateau_a_level_says_nothing():
    found = plane(np.random.default_rng(0).uniform(size=(2, 1 << 16)))
    assert not found.tells(0.5) and found.area(0.99) == pytest.approx(1, abs=0.1)


def test_errors_follow_theory_and_sobol_points_do_better():
    case = linear()
    cloud = simulate(case, 1 << 15, seed=9).x.T
    error = box_error(case, cloud, (0, 1), boxes=12, most=512, repeats=24, seed=3)
    assert error is not None and list(error.n) == [32, 64, 128, 256, 512] and len(error.boxes) == 12
    assert ((error.p >= 0.02) & (error.p <= 0.6)).all()
    np.testing.assert_allclose(error.iid / error.theory, 1, atol=0.25)
    assert error.sobol[-1] < 0.6 * error.iid[-1] and error.equals[-1] > 2 * 512
    exact = [multivariate_normal(*moments()).cdf(b.high, lower_limit=b.low) for b in error.boxes]
    np.testing.assert_allclose(error.p, exact, atol=2e-3)
    again = box_error(case, cloud, (0, 1), boxes=12, most=512, repeats=24, seed=3)
    np.testing.assert_array_equal(error.sobol, again.sobol)


def test_without_spread_there_are_no_boxes(tmp_path):
    case = linear()
    start = replace(case.start, x_sd=np.zeros(2))
    seen = []
    assert pick_boxes(np.zeros((2, 10)), (0, 1), 3, 0)[0] == pick_boxes(np.full((2, 9), np.inf), (0, 1), 3, 0)[0] == ()
    still = replace(case, start=start)
    assert box_error(still, np.zeros((2, 9)), (0, 1), boxes=2, most=64, repeats=2, seed=0, progress=seen.append) is None
    assert sum(seen) == 4
    known = evolve(still, (0, 1), particles=64, cloud=1024, frames=2, seed=0)
    assert density_figure(known, None, tmp_path / "known.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_and_record(evolution, tmp_path):
    cloud = evolution.cloud[-1]
    error = box_error(evolution.case, cloud, (0, 1), boxes=4, most=256, repeats=2, seed=1)
    png = density_figure(evolution, error, tmp_path / "a.png", [0.9])
    gif = density_animation(evolution, tmp_path / "a.gif", [0.9, 0.5, 0.99, 0.999])
    assert png.read_bytes().startswith(b"\x89PNG") and gif.read_bytes().startswith(b"GIF8")
    from PIL import Image

    with Image.open(gif) as image:
        assert getattr(image, "n_frames", 0) == 5
    numbers = summary(evolution, [0.5, 0.9])
    assert numbers["axes"] == ["x", "y"] and len(numbers["level_set_areas"]["0.9"]) == 5
    trace = np.trace([[-0.4, 1.0], [-1.5, 0.1]])
    assert numbers["log_gain_nats"]["median"][-1] == pytest.approx(-trace)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gif", "a.png"]


def test_units_are_named_where_there_are_any():
    assert (clock(linear()), clock(system("car"))) == ("", " s")
    assert (named(linear(), 0), named(system("pend"), 1)) == ("x", "w (rad/s)")


def test_particles_that_escape_are_left_out_and_counted(tmp_path):
    """a' = a^3 leaves every bound at t = 1 / (2 a0^2): by 1 s all that start beyond sqrt(1/2) are gone."""
    case = linear(normal=False)
    loop = replace(
        case.loop,
        f=lambda t, x, u, theta, xp: (x[0] * x[0] * x[0], -x[1]),
        divergence=lambda t, x, u, th, xp: 3 * x[0] ** 2 - 1,
    )
    burst = replace(case, loop=replace(loop, substeps=20))
    found = evolve(burst, (0, 1), particles=256, cloud=4096, frames=4, seed=0)
    assert found.escaped == pytest.approx(1 - np.sqrt(0.5), abs=0.01)
    assert np.isfinite(found.spread).all() and np.isfinite(np.nanmax(found.gain))
    assert found.outside[-1] >= found.escaped > 0 == found.outside[0]
    error = box_error(burst, found.cloud[-1], (0, 1), boxes=3, most=128, repeats=2, seed=0)
    assert np.isfinite(summary(found, [0.5])["log_gain_nats"]["most"]).all()
    density_figure(found, error, tmp_path / "burst.png")
