"""Reachable sets on a grid against closed forms and particles; what needs hj_reachability is skipped without it."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial import cKDTree

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.start import uniform
from safeplan.dynamics.systems import Case, system, systems
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.reach.rivals import grid_reach, simulate
from safeplan.reach.rivals.frames import around, values_of
from safeplan.reach.rivals.level_set import jax_namespace
from safeplan.reach.sets import Box
from tests.reach.rivals.linear import HIGH, LOW, A, linear

TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])  # by one radian


@pytest.fixture
def solver():
    return pytest.importorskip("hj_reachability")


def cells(frame, levels):
    """Edges of a cell `[n, n]`."""
    return frame[:, 1:] / (np.array(levels.shape) - 1)


def test_a_turned_box_is_found_to_a_cell_and_closer_with_more_nodes(solver):
    """The exact set is the start box turned by 1 rad; a distance to it is one to the box of the point turned back."""
    x = np.random.default_rng(0).uniform(-4, 4, (1 << 16, 2))
    distance = Box(LOW, HIGH).level(np.linalg.solve(expm(TURN), x.T))
    errors, wrong = [], []
    for nodes in (17, 49):
        fitted = grid_reach(linear(TURN, normal=False), nodes=nodes)
        cell = np.linalg.norm(cells(fitted.frames[0], fitted.levels[0]), axis=0).max()
        off = (fitted.level(x) <= 0) != (distance <= 0)
        assert np.abs(distance[off]).max() < 0.7 * cell  # corners are rounded
        wrong.append(np.mean(off))
        errors.append(abs(fitted.volume - 6))
        assert fitted.missed == 0
    assert errors[1] < 0.02 * 6 and errors[1] < 0.5 * errors[0] and wrong[1] < 0.5 * wrong[0]
    inside = fitted.log_density(np.array([[0.0, 0.0], expm(TURN) @ [0.0, 1.5], [9.0, 9.0]]))
    assert inside[1] == -np.log(fitted.volume) and inside[2] == -np.inf
    half = Box([-np.inf], [(expm(TURN) @ (LOW + HIGH) / 2)[0]])
    assert fitted.probability([half, Box([-9.0], [9.0]), Box([7.0], [8.0])]) == pytest.approx([0.5, 1, 0], abs=0.01)


def test_uncertain_parameters_are_axes(solver):
    """A constant force on +-1: the set is the turned box, smeared along the flow's response: a sum of 3 segments."""
    response = np.linalg.solve(A, expm(A) - np.eye(2))[:, 1]
    sides = [*(expm(A) * (HIGH - LOW)).T, 2 * response]
    exact = sum(abs(np.linalg.det([sides[i], sides[j]])) for i, j in ((0, 1), (0, 2), (1, 2)))
    few, many = (grid_reach(linear(normal=False, drift=1.0), nodes=k) for k in (17, 33))
    assert many.levels.shape == (33, 33, 33) and many.missed == 0
    assert few.volume < many.volume == pytest.approx(exact, rel=0.06)  # the corners that sweep along are rounded
    assert exact - many.volume < 0.6 * (exact - few.volume)


def test_one_state_and_one_gain(solver):
    """x' = -k x from [1, 2], k in [0.5, 1], for 1: [e^-1, 2 e^-0.5]."""
    loop = Equations(
        "decay", (Quantity("x"),), (), (Quantity("k"), Quantity("c")), lambda t, x, u, k, xp: (-k[0] * x[0],)
    )
    case = Case(loop, uniform([1.0], [2.0], [0.5, 3.0], [1.0, 3.0]), 10, "linear")
    fitted, again = (grid_reach(case, nodes=65) for _ in range(2))
    ends = [np.exp(-1.0), 2 * np.exp(-0.5)]
    assert [fitted.inside.min(), fitted.inside.max()] == pytest.approx(ends, abs=0.01)
    assert fitted.levels.shape == (65, 65)
    np.testing.assert_array_equal(fitted.inside, again.inside)


def test_all_particles_of_van_der_pol_are_found(solver):
    """The area of an image is the start's times the mean of exp(integral of the divergence), which is 1 / density."""
    case = system("vdp")
    fitted = grid_reach(case, nodes=65)
    runs = simulate(case, 1 << 12, seed=3, density=True)
    edges = cells(fitted.frames[0], fitted.levels[0])
    place, filled = (np.linalg.solve(edges, x.T).T for x in (runs.x, fitted.inside))
    assert cKDTree(filled).query(place)[0].max() < 1  # cells
    assert fitted.level(runs.x).max() <= 0 and fitted.missed == 0
    assert runs.log_rho is not None
    exact = np.mean(np.exp(-runs.log_rho))
    assert exact < fitted.volume < 1.1 * exact  # thin parts swell
    many = np.floor(np.linalg.solve(edges, simulate(case, 1 << 16, seed=3).x.T))
    assert fitted.volume == pytest.approx(len(np.unique(many, axis=1).T) * abs(np.linalg.det(edges)), rel=0.1)


def test_a_set_that_is_too_thin_is_told(solver):
    assert grid_reach(system("dint"), nodes=33).missed > 0.2
    with pytest.raises(CapabilityError, match=r"0 of 32768 points .* thinner than the cells; more nodes"):
        grid_reach(system("dint"), nodes=17)


def test_a_set_that_leaves_its_grid_is_refused(solver):
    with pytest.raises(CapabilityError, match=r"vdp leaves its grid at t = .* s; give more margin"):
        grid_reach(system("vdp"), nodes=33, margin=0.01)


@pytest.mark.parametrize("name", systems())
def test_equations_are_the_same_under_jax(name):
    jnp, jax = pytest.importorskip("jax.numpy"), pytest.importorskip("jax")
    case = system(name)
    start = case.start.sample(5, 1, np.random.default_rng(0))
    for x, theta in zip(start.x, start.theta[:, 0], strict=True):
        want = case.loop.f(0.0, tuple(x), case.command, tuple(theta), NUMPY)
        with jax.enable_x64(True):
            got = case.loop.f(0.0, tuple(jnp.asarray(x)), case.command, tuple(theta), jax_namespace(jnp))
        np.testing.assert_allclose(np.array([float(v) for v in got]), want, rtol=1e-9, atol=1e-12)


def test_the_jax_backend_has_every_name_of_the_others():
    jnp = pytest.importorskip("jax.numpy")
    xp, x, y = jax_namespace(jnp), np.linspace(-2, 2, 9), np.linspace(1, 5, 9)
    assert set(vars(xp)) == set(vars(NUMPY))
    for call in (
        lambda xp: xp.clip(x, -1.0, 1.0),
        lambda xp: xp.wrap(3 * x),
        lambda xp: xp.stack([x, 1.0, y]),
        lambda xp: xp.pack([x, y]),
        lambda xp: xp.unpack(xp.pack([x, y]))[1],
        lambda xp: xp.unstack(xp.stack([x, y]))[1],
        lambda xp: xp.dense(np.ones((3, 2)), np.arange(3.0), xp.stack([x, y])),
        lambda xp: xp.where(x > 0, xp.sqrt(y), xp.abs(xp.asarray(x))),
    ):
        np.testing.assert_allclose(call(xp), call(NUMPY), atol=1e-6)


def test_at_the_start_the_set_is_the_box():
    fitted = grid_reach(linear(normal=False), 0)
    x = np.random.default_rng(1).uniform(-2, 4, (500, 2))
    inside = ((x >= LOW) & (x <= HIGH)).all(1)
    clear = np.abs(Box(LOW, HIGH).level(x.T)) > 0.05
    np.testing.assert_array_equal((fitted.level(x) <= 0)[clear], inside[clear])
    assert fitted.t == 0 and fitted.volume == pytest.approx(6, rel=0.02)
    assert np.isnan(x).sum() == 0 and fitted.level(np.full((1, 2), np.nan))[0] == np.inf
    with pytest.raises(ShapeError, match=r"expected \[P, 2\]"):
        fitted.log_density(np.zeros(2))
    with pytest.raises(ShapeError, match="the states have 2 components"):
        fitted.probability([Box([0.0], [1.0], axes=(2,))])


def test_frames_fit_oblique_clouds():
    """A thin oblique cloud fills a good part of its frame, and every point lies inside."""
    z = np.random.default_rng(0).uniform(size=(400, 2))
    x = z @ np.array([[1.0, 0.99], [0.0, 1e-3]]) + 7
    frame = around(x, 0.1)
    share = np.linalg.solve(frame[:, 1:], (x - frame[:, 0]).T)
    np.testing.assert_allclose([share.min(1), share.max(1)], [[0.1 / 1.2] * 2, [1.1 / 1.2] * 2])
    assert np.abs(np.linalg.det(frame[:, 1:])) < 3 * 1e-3
    with pytest.raises(CapabilityError, match="span no volume"):
        around(np.zeros((9, 2)), 0.1)
    np.testing.assert_array_equal(values_of(np.array([0.0, 2]), np.array([1.0, 2]), 3), [[0, 2], [0.5, 2], [1, 2]])


def test_refusals(monkeypatch):
    vdp = system("vdp")
    for name, axes, count in (
        ("robot", 4, r"41\^4 = 2.8e\+06"),
        ("car", 4, r"41\^4"),
        ("quad", 6, r"41\^6 = 4.8e\+09"),
    ):
        with pytest.raises(CapabilityError, match=rf"{name} has {axes} axes .* {count}.* cells; at most 3 axes"):
            grid_reach(system(name))
    with pytest.raises(CapabilityError, match="draws parameters anew"):
        grid_reach(system("hovercraft"))
    flat = replace(vdp, start=uniform([0.0, 1.0], [1.0, 1.0]))
    with pytest.raises(CapabilityError, match="starts at one value of y"):
        grid_reach(flat)
    for bad in ({"nodes": 8}, {"nodes": 3000}, {"margin": 0.0}, {"margin": np.nan}, {"steps": 99}):
        with pytest.raises(ConfigError, match=f"{next(iter(bad))} = {next(iter(bad.values()))}"):
            grid_reach(vdp, **bad)
    monkeypatch.setitem(sys.modules, "hj_reachability", None)
    with pytest.raises(CapabilityError, match=r"pip install 'safeplan\[grid\]'"):
        grid_reach(vdp, nodes=9)


def test_beliefs_without_ends_are_refused():
    class Wide:
        stretch_s = np.inf

        def mean(self):
            return np.zeros(2), np.zeros(0)

        def dim(self, stretches):
            return 2

        def push(self, u, stretches):
            from scipy.stats import norm

            from safeplan.types import Draw

            return Draw(norm.ppf(u), np.zeros((len(u), stretches, 0)))

    with pytest.raises(CapabilityError, match="Wide has no ends"):
        grid_reach(replace(system("vdp"), start=Wide()))
    monkey = replace(system("vdp"), start=Wide())
    object.__setattr__(monkey, "start", type("Bare", (), {"stretch_s": np.inf})())
    with pytest.raises(CapabilityError, match="Bare has no `push`"):
        grid_reach(monkey)


def test_trajectories_that_escape_are_refused():
    loop = Equations("burst", (Quantity("x"),), (), (), lambda t, x, u, theta, xp: (x[0] * x[0],))
    with pytest.raises(CapabilityError, match="burst escapes to infinity"):
        grid_reach(Case(loop, uniform([1.0], [2.0]), 90, "linear"))
