"""A simulator alone: the same trajectories and the same log-gain as equations give."""

import numpy as np
import pytest

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.system import rk4
from safeplan.dynamics.systems import system
from safeplan.errors import DataError, ShapeError
from safeplan.reach import draw_particles, stretches
from safeplan.reach.learned.black_box import simulate_black_box
from safeplan.reach.learned.trajectories import simulate


def simulator(case):
    """One step of `dt` of a case, as rows, without its equations showing."""
    loop = case.loop

    def step(x, theta):
        z = x.T
        for _ in range(loop.substeps):
            z = rk4(loop, 0.0, z, case.command, tuple(theta.T), loop.dt / loop.substeps, NUMPY)
        return z.T

    return step


@pytest.mark.parametrize("name", ["vdp", "pend", "car", "hovercraft"])
def test_equals_the_equations(name):
    case = system(name)
    draw = draw_particles(case.start, 16, stretches(case.horizon_s, case.start.stretch_s), 3)
    want = simulate(case.loop, draw, case.reference, case.start.stretch_s, points=case.steps)
    got = simulate_black_box(simulator(case), draw, case.loop.dt, case.steps, case.start.stretch_s)
    np.testing.assert_allclose(got.times, want.times, atol=1e-12)
    np.testing.assert_allclose(got.states, want.states, atol=1e-9)
    np.testing.assert_allclose(got.gain, want.gain, rtol=1e-3, atol=2e-4)
    got.check()


def test_without_differences_no_gain_and_fewer_calls():
    case, calls = system("vdp"), []
    draw = draw_particles(case.start, 8, 1, 0)
    step = simulator(case)
    counted = lambda x, theta: calls.append(len(x)) or step(x, theta)  # noqa: E731
    data = simulate_black_box(counted, draw, 0.05, 4, eps=None)
    assert data.gain is None and calls == [8] * 4
    calls.clear()
    simulate_black_box(counted, draw, 0.05, 4)
    assert calls == [32, 8] * 4


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (lambda x, theta: x[:, :1], ShapeError, r"step 0 returned \(\d+, 1\)"),
        (lambda x, theta: x / 0.0 * 0.0, DataError, "not finite"),
        (lambda x, theta: 0.0 * x, DataError, "onto fewer dimensions"),
    ],
)
def test_faults_of_the_simulator(step, error, message):
    draw = draw_particles(system("vdp").start, 4, 1, 0)
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        simulate_black_box(step, draw, 0.05, 2)
