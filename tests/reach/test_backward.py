"""Density by characteristics traced back: closed forms, forward twin, total mass, parameters, angles, refusals."""

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.stats import multivariate_normal

from safeplan.dynamics.start import uniform
from safeplan.dynamics.systems import system
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.reach.backward import carry, log_density
from safeplan.reach.density import characteristics
from safeplan.reach.motion import motion
from safeplan.types import CutNormalBelief, Draw, Reference
from tests.density_cases import draw
from tests.set_cases import SPIRAL, Bare, box, drift, equations, linear, moving, normal, pushed, still

FINE = linear(SPIRAL, substeps=8)
rng = np.random.default_rng(0)


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_a_normal_through_a_linear_system(t):
    mean, sd = np.array([0.4, -0.2]), np.array([0.3, 0.5])
    M = expm(SPIRAL * t)
    exact = multivariate_normal(M @ mean, M @ np.diag(sd**2) @ M.T)
    points = exact.rvs(200, random_state=1)
    found = log_density(FINE, normal(mean, sd), points, still(FINE, 10), time=t)
    np.testing.assert_allclose(found, exact.logpdf(points), atol=1e-6)


def test_divergence_by_vjps_feedback_and_held_controls():
    """xdot = A x + (0, u) with u = K x + push: its own closed loop is another linear system."""
    K = np.array([[-1.0, -0.5]])
    steered = equations(lambda t, x, u, theta, xp: (x[1], -2.0 * x[0] + u[0]), m=1, substeps=4)
    closed = np.array([[0.0, 1.0], [-2.0, 0.0]]) + np.array([[0.0], [1.0]]) @ K
    aug = expm(np.block([[closed, np.array([[0.0], [0.7]])], [np.zeros((1, 3))]]))
    reference = Reference(np.zeros((11, 2)), np.full((10, 1), 0.7), np.tile(K, (10, 1, 1)), 0.1)
    exact = multivariate_normal(aug[:2, 2], aug[:2, :2] @ aug[:2, :2].T * 0.04)
    points = exact.rvs(50, random_state=1)
    found = log_density(steered, normal([0, 0], [0.2, 0.2]), points, reference)
    np.testing.assert_allclose(found, exact.logpdf(points), atol=1e-5)
    wild = reference._replace(controls=np.full((10, 1), 99.0), gains=np.zeros((10, 1, 2)))
    tame = wild._replace(controls=np.full((10, 1), 9.0))  # the bound
    points = np.array([[3.0, 2.0], [3.5, 2.5]])
    a, b = (log_density(steered, normal([0, 0], [0.9, 0.9]), points, r) for r in (wild, tame))
    np.testing.assert_array_equal(a, b)
    assert np.isfinite(a).all()


@pytest.mark.parametrize("name", ["vdp", "factest_car", "kop"])
def test_forward_characteristics_come_back(name):
    case = system(name)
    d = draw(case, 100, 0)
    flow = characteristics(
        case.loop, torch.as_tensor(d.x), torch.as_tensor(d.theta), case.reference, case.start.stretch_s, open_loop=True
    )
    j = len(flow.times) // 2
    found = log_density(case, None, flow.states[j].numpy().T, time=float(flow.times[j]))
    np.testing.assert_allclose(found, case.start.log_prob(d) + flow.gain[j].numpy(), atol=2e-4)
    m = motion(case, None, None)
    there, gain = carry(m, d.x, d.theta, j)
    back, lost = carry(m, there, d.theta, j, backward=True)
    np.testing.assert_allclose(back, d.x, atol=1e-4)
    np.testing.assert_allclose(lost, gain, atol=2e-4)


def test_mass_on_a_grid_is_one():
    a, b = np.linspace(-4, 4, 321), np.linspace(-6, 6, 481)
    grid = np.stack(np.meshgrid(a, b, indexing="ij"), -1).reshape(-1, 2)
    mass = np.exp(log_density(system("vdp"), None, grid, time=0.8)).sum() * (a[1] - a[0]) * (b[1] - b[0])
    assert mass == pytest.approx(1, abs=5e-3)


def test_uncertain_parameters_are_averaged_over():
    """x + theta t with both normal is normal; with both uniform a trapezoid."""
    eq = pushed()
    belief = CutNormalBelief([0.1], [0.5], [0.4], [0.3], [False], np.inf, 8.0)
    x = np.linspace(-1.5, 2.5, 9)[:, None]
    found = log_density(eq, belief, x, still(eq, 10))
    np.testing.assert_allclose(np.exp(found), multivariate_normal(0.5, 0.34).pdf(x[:, 0]), atol=1e-3)
    flat = log_density(eq, uniform([-1], [1], [-0.5], [0.5]), x, still(eq, 10), parameters=1024)
    np.testing.assert_allclose(np.exp(flat), np.clip((1.5 - np.abs(x[:, 0])) / 2, 0, 0.5), atol=2e-3)
    known = log_density(eq, uniform([-1], [1], [0.5], [0.5]), np.array([[1.49], [1.51], [-0.51]]), still(eq, 10))
    np.testing.assert_array_equal(known, [np.log(0.5), -np.inf, -np.inf])


def test_parameters_that_change_from_stretch_to_stretch():
    eq = pushed()
    belief = CutNormalBelief([0.0], [0.5], [0.0], [0.6], [True], 0.5, 8.0)
    x = np.linspace(-1.5, 1.5, 7)[:, None]
    found = log_density(eq, belief, x, still(eq, 10), parameters=512)
    exact = multivariate_normal(0.0, 0.25 + 2 * 0.09).pdf(x[:, 0])
    np.testing.assert_allclose(np.exp(found), exact, atol=1e-3)


def test_conditional_and_joint_densities_of_the_start():
    for belief in (
        CutNormalBelief([0.1, 0.0], [0.5, 0.1], [0.4, 0.0], [0.3, 0.1], [False, True], 0.5, 2.0),
        uniform([-1, 0], [1, 2], [0, 1], [1, 3]),
    ):
        d = belief.sample(50, 2, np.random.default_rng(0))
        theta = belief.log_prob(d) - belief.log_prob_x(d)
        other = Draw(np.repeat(d.x[:1], 50, 0), d.theta)
        np.testing.assert_allclose(belief.log_prob(other) - belief.log_prob_x(other), theta, atol=1e-12)
        assert (belief.log_prob_x(Draw(d.x + 9, d.theta)) == -np.inf).all()


def test_a_point_that_nothing_reaches_has_no_density():
    """Backward in time van der Pol runs away outside its cycle."""
    found = log_density(system("vdp"), None, np.array([[6.0, 9.0], [0.0, 0.0], [np.nan, 0.0]]))
    assert found[0] == -np.inf and np.isfinite(found[1]) and found[2] == -np.inf


def test_turns_of_an_angle_add_up():
    turning = drift(2.0, dt=0.5, angle=True)
    belief = uniform([-3.0], [3.0])
    x = np.array([[2.0], [2.0 + 2 * np.pi], [np.pi]])
    once = log_density(turning, belief, x, still(turning, 1))
    np.testing.assert_array_equal(np.isfinite(once), [True, False, True])
    around = log_density(turning, belief, x, still(turning, 1), turns=1)
    np.testing.assert_allclose(around, [-np.log(6)] * 3)
    wide = log_density(turning, uniform([-9.0], [9.0]), x[:1], still(turning, 1), turns=3)
    np.testing.assert_allclose(np.exp(wide), [3 / 18])


def test_empty_and_one():
    assert log_density(FINE, box(2), np.zeros((0, 2)), still(FINE, 2)).shape == (0,)
    np.testing.assert_allclose(log_density(FINE, box(2), np.zeros((1, 2)), still(FINE, 0)), -np.log(4))


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ShapeError, r"points are \(3,\)", lambda r: log_density(FINE, box(2), np.zeros(3), r)),
        (ConfigError, "time = 0.03 s", lambda r: log_density(FINE, box(2), np.zeros((1, 2)), r, time=0.03)),
        (ConfigError, "from 0 to 0.2 s", lambda r: log_density(FINE, box(2), np.zeros((1, 2)), r, time=0.3)),
        (
            CapabilityError,
            "start of x1 is known",
            lambda r: log_density(FINE, uniform([0, 0], [1, 0]), np.zeros((1, 2)), r),
        ),
    ],
)
def test_refusals(error, message, call):
    with pytest.raises(error, match=message):
        call(still(FINE, 2))


def test_a_belief_without_a_density_is_refused():
    with pytest.raises(CapabilityError, match="Bare has no `log_prob_x`"):
        log_density(pushed(), Bare(1), np.zeros((1, 1)), still(pushed(), 1))
    assert moving(pushed(), Bare(1), 1).stretches == 1
