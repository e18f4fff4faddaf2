"""The adaptive integrator: closed forms, agreement with RK4, stiff systems, particles that break."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm

from safeplan.dynamics.hovercraft import hovercraft, hovercraft_belief
from safeplan.dynamics.systems import system
from safeplan.errors import ConfigError
from safeplan.reach import rollout
from safeplan.reach.adaptive import adaptive_rollout, step_error
from safeplan.types import Draw, Reference
from tests.set_cases import SPIRAL, equations, linear, still


def start(P=4, n=2, seed=0):
    return Draw(np.random.default_rng(seed).normal(size=(P, n)), np.zeros((P, 1, 0)))


@pytest.mark.parametrize("solver", ["DOP853", "LSODA", "Radau", "BDF"])
def test_every_solver_follows_the_exact_flow(solver):
    draw, loop = start(), linear(SPIRAL)
    out = adaptive_rollout(loop, draw, still(loop, 5), np.inf, solver=solver)
    np.testing.assert_allclose(out.flow.states[-1], expm(0.5 * SPIRAL) @ draw.x.T, atol=1e-6)
    assert not out.failed.any() and out.calls > 0 and len(out.flow.times) == 6


def test_same_motion_as_the_fixed_step_with_feedback_and_gusts():
    craft = replace(hovercraft(), substeps=40)  # its motors settle within a few hundredths of a second
    draw = hovercraft_belief(np.zeros(9)).sample(2, 3, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    ref = Reference(np.zeros((7, 9)), rng.uniform(-0.3, 0.3, (6, 3)), 0.2 * rng.normal(size=(6, 3, 9)), 0.1)
    fine = adaptive_rollout(craft, draw, ref, 0.25).flow
    np.testing.assert_allclose(fine.states, rollout(craft, draw, ref, 0.25).states[:: craft.substeps], atol=2e-4)
    np.testing.assert_array_equal(fine.times, np.arange(7) * 0.1)


def test_the_step_of_the_cases_is_fine_enough():
    for name, limit in (("vdp", 1e-5), ("car", 1e-6), ("pend", 1e-4)):
        case = system(name)
        draw = case.start.sample(8, 1, np.random.default_rng(0))
        assert step_error(case.loop, draw, case.reference, np.inf).max() < limit


def test_stiff_motion_is_right_where_the_fixed_step_explodes():
    stiff = linear([[-2000.0, 0.0], [1.0, -1.0]])
    draw, ref = start(), still(stiff, 10)
    out = adaptive_rollout(stiff, draw, ref, np.inf, solver="Radau")
    np.testing.assert_allclose(out.flow.states[-1], expm(np.array([[-2000.0, 0.0], [1.0, -1.0]])) @ draw.x.T, atol=1e-6)
    assert out.calls < 3000 * len(draw.x)
    with np.errstate(all="ignore"):
        assert not (np.abs(rollout(stiff, draw, ref, np.inf).states[-1]) < 1e6).all()
    assert not (step_error(stiff, draw, ref, np.inf, solver="LSODA")[-1] < 1.0).all()


@pytest.mark.parametrize("solver", ["DOP853", "Radau"])
def test_particles_that_break_are_named_and_the_others_go_on(solver):
    """x' = x^2 reaches infinity at t = 1 / x0; where x is negative the root is no number."""
    squares = equations(lambda t, x, u, theta, xp: (x[0] * x[0],), 1)
    out = adaptive_rollout(
        squares, Draw(np.array([[0.5], [3.0]]), np.zeros((2, 1, 0))), still(squares, 6), np.inf, solver=solver
    )
    assert out.failed.tolist() == [False, True]
    assert out.flow.states[-1, 0, 0] == pytest.approx(1 / (1 / 0.5 - 0.6), rel=1e-6)
    roots = equations(lambda t, x, u, theta, xp: (xp.sqrt(x[0]),), 1)
    out = adaptive_rollout(
        roots, Draw(np.array([[1.0], [-1.0]]), np.zeros((2, 1, 0))), still(roots, 3), np.inf, solver=solver
    )
    assert out.failed.tolist() == [False, True] and np.isfinite(out.flow.states[:, 0, 0]).all()


def test_refusals():
    loop = linear(SPIRAL)
    with pytest.raises(ConfigError, match="Euler"):
        adaptive_rollout(loop, start(), still(loop, 1), np.inf, solver="Euler")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rtol = 0"):
        adaptive_rollout(loop, start(), still(loop, 1), np.inf, rtol=0.0)
