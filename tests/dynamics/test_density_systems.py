"""Every system of the density work: one motion on every backend, the right divergence, honest declarations."""

from dataclasses import replace

import casadi as ca
import numpy as np
import pytest
import torch

from safeplan.dynamics.backends import CASADI, NUMPY, TORCH
from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.system import step
from safeplan.dynamics.systems import Case, system, systems
from safeplan.errors import ConfigError
from safeplan.papers import PAPERS
from safeplan.reach import rollout
from safeplan.reach.density import characteristics
from tests.density_cases import CLOSED_FORM, by_differences, by_jacobian, draw, particles, stated, visited

CASES = {name: system(name) for name in systems()}
EQUATIONS = {name: c.loop for name, c in CASES.items()} | {
    f"{name} plant": c.plant for name, c in CASES.items() if c.plant is not None
}


def sample(name: str, n: int, seed: int = 0):
    """States, controls and parameters at which equations, of a loop or of a plant, are looked at."""
    eq, case = EQUATIONS[name], CASES[name.removesuffix(" plant")]
    rng = np.random.default_rng(seed)
    if eq is case.loop:
        return eq, *visited(case, n, seed)
    u = rng.uniform(eq.control_low[:, None], eq.control_high[:, None], (eq.m, n))
    theta = draw(case, n, seed).theta[:, 0].T if eq.p else np.zeros((0, n))
    return eq, rng.normal(size=(eq.n, n)), tuple(u), tuple(theta)


@pytest.mark.parametrize("name", EQUATIONS)
def test_backends_agree(name):
    eq, x, u, theta = sample(name, 7)
    reference = step(eq, 0.0, x, u, theta, NUMPY)
    t = [torch.as_tensor(x), *(tuple(torch.as_tensor(c) for c in part) for part in (u, theta))]
    np.testing.assert_allclose(step(eq, 0.0, *t, TORCH).numpy(), reference, rtol=1e-10, atol=1e-10)
    div = stated(eq, x, u, theta)
    ours = eq.divergence(0.0, TORCH.unpack(t[0]), t[1], t[2], TORCH)
    np.testing.assert_allclose(np.broadcast_to(torch.as_tensor(ours).numpy(), 7), div, rtol=1e-10, atol=1e-10)
    for kind in (ca.SX, ca.MX):
        sym = [kind.sym(k, s) for k, s in (("x", eq.n), ("u", eq.m), ("p", eq.p))]
        held, drawn = (CASADI.unpack(s) if s.shape[0] else () for s in sym[1:])
        out = step(eq, 0.0, sym[0], held, drawn, CASADI)
        F = ca.Function("F", sym, [out, kind(eq.divergence(0.0, CASADI.unpack(sym[0]), held, drawn, CASADI))])
        for i in range(7):
            moved, d = F(x[:, i], [c[i] for c in u], [c[i] for c in theta])
            np.testing.assert_allclose(np.asarray(moved).ravel(), reference[:, i], rtol=1e-10, atol=1e-10)
            assert float(d) == pytest.approx(div[i], rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("name", EQUATIONS)
def test_divergence_is_the_right_one(name):
    eq, x, u, theta = sample(name, 200, seed=1)
    formula = stated(eq, x, u, theta)
    np.testing.assert_allclose(formula, by_jacobian(eq, x, u, theta), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(formula, by_differences(eq, x, u, theta), rtol=CLOSED_FORM, atol=CLOSED_FORM)


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_divergence_is_caught(name):
    """The test of the test: an error of 1e-4 of a typical rate, and a dropped term, stand out against both checks."""
    eq, x, u, theta = sample(name, 50, seed=2)
    right = eq.divergence
    wrong = replace(eq, divergence=lambda *a: right(*a) + 1e-4)
    for check in (by_jacobian, by_differences):
        assert np.abs(stated(wrong, x, u, theta) - check(wrong, x, u, theta)).min() > 10 * CLOSED_FORM


def test_the_published_pendulum_divergence_would_be_caught():
    """It takes the exponential of a second, unused parameter: right where both agree, wrong by several 1/s else."""
    from safeplan.dynamics.systems.pendulum import GAINS, INERTIA

    case = CASES["pend"]
    x, u, theta = visited(case, 400, 3)
    k2 = np.random.default_rng(4).uniform(-2, 2, 400)
    error = np.abs(GAINS[1] * np.exp(k2) / INERTIA - by_differences(case.loop, x, u, theta))
    assert 3.5 < np.median(error) < 5.0 and error.max() > 15
    true = stated(case.loop, x, u, theta)
    assert -20.95 < true.min() < -15 and -0.6 < true.max() < -0.38


@pytest.mark.parametrize("name", CASES)
def test_engine_takes_it_with_formula_and_without(name):
    """Log-gain by the stated divergence, by VJPs, and (half a step finer) again: the three agree."""
    case = CASES[name]
    d = draw(case, 6, 5)
    x, theta = torch.as_tensor(d.x), torch.as_tensor(d.theta)
    short = replace(case, steps=min(case.steps, 10, 80 // case.loop.substeps))
    args = (x, theta, short.reference, case.start.stretch_s)
    fast = characteristics(case.loop, *args, open_loop=True)
    slow = characteristics(replace(case.loop, divergence=None), *args, open_loop=True)
    torch.testing.assert_close(fast.gain, slow.gain, rtol=1e-9, atol=1e-9)
    fine = characteristics(replace(case.loop, substeps=2 * case.loop.substeps), *args, open_loop=True)
    torch.testing.assert_close(fast.gain[-1], fine.gain[-1], rtol=1e-4, atol=1e-4)
    flow = rollout(case.loop, d, short.reference, case.start.stretch_s)
    np.testing.assert_allclose(fast.states.numpy(), flow.states, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_horizon_stays_in_the_domain(name):
    case = CASES[name]
    _, flow = particles(case, 2048, 6)
    inside = case.inside(flow.states.transpose(0, 2, 1))
    assert inside.all(), f"{name}: {flow.states.min((0, 2))} .. {flow.states.max((0, 2))}"
    assert flow.times[-1] == pytest.approx(case.horizon_s)
    far = np.array([q.high for q in case.loop.states]) + 1.0
    assert not case.inside(far) and not case.inside(np.full(case.loop.n, np.nan))


@pytest.mark.parametrize("name", EQUATIONS)
def test_declarations_are_consistent(name):
    """Units everywhere, names once, and what is called an angle is one: f does not change with a full turn of it."""
    eq, x, u, theta = sample(name, 40, seed=7)
    quantities = (*eq.states, *eq.controls, *eq.params)
    assert all(q.unit for q in quantities) and len({q.name for q in quantities}) == len(quantities)
    assert all(q.unit == "rad" for q in eq.states if q.angle)
    rates = np.stack(np.broadcast_arrays(*eq.f(0.0, tuple(x), u, theta, NUMPY), x[0])[:-1])
    for i, q in enumerate(eq.states):
        turned = x.copy()
        turned[i] += 2 * np.pi
        after = np.stack(np.broadcast_arrays(*eq.f(0.0, tuple(turned), u, theta, NUMPY), x[0])[:-1])
        periodic = np.allclose(after, rates, rtol=1e-9, atol=1e-9)
        if q.angle:
            assert periodic, q.name
        elif q.unit == "rad":
            assert not periodic, f"{q.name} is periodic but not declared an angle"


@pytest.mark.parametrize("name", CASES)
def test_start_and_parameters_lie_within_their_bounds(name):
    case = CASES[name]
    d = draw(case, 2000, 8)
    assert case.inside(d.x).all() and np.isfinite(case.start.log_prob(d)).all()
    for q, values in zip(case.loop.params, np.moveaxis(d.theta, -1, 0), strict=True):
        assert values.min() >= q.low and values.max() <= q.high
    for q, c in zip(case.loop.controls, case.command, strict=True):
        assert q.low <= c <= q.high
    assert case.source in PAPERS and case.steps >= 1


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.controller is not None])
def test_loop_is_plant_and_controller(name):
    """Put together by hand they move alike, and the plant's bounds on the controls are kept."""
    case = CASES[name]
    x, _, theta = visited(case, 30, 9)
    u = tuple(np.broadcast_to(c, 30) for c in case.controller(tuple(x), NUMPY))
    for q, c in zip(case.plant.controls, u, strict=True):
        assert q.low <= c.min() and c.max() <= q.high, q.name
    ours = case.loop.f(0.0, tuple(x), (), theta, NUMPY)
    for a, b in zip(ours, case.plant.f(0.0, tuple(x), u, theta, NUMPY), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


def test_table_is_closed_and_unknown_names_are_refused():
    assert systems()[0] == "vdp" and len(systems()) == 10
    assert all(system(n).name == n for n in systems())
    with pytest.raises(ConfigError, match=r"system=vpd is unknown\. Did you mean 'vdp'"):
        system("vpd")


def test_cases_that_do_not_fit_are_refused():
    car = CASES["car"]
    for change, words in (
        ({"command": ()}, "command has values: 0, expected 2"),
        ({"start": CASES["vdp"].start}, "start has states: 2, expected 3"),
        ({"start": CASES["factest_car"].start}, "start has parameters: 0, expected 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            replace(car, **change)


def test_equations_need_states_but_no_controls():
    f = CASES["vdp"].loop.f
    assert Equations("free", (Quantity("x"),), (), (), f).m == 0
    with pytest.raises(ConfigError, match=r"states is \(\), expected at least one Quantity"):
        Equations("empty", (), (), (), f)


def test_an_explosion_ends_as_nan_and_outside():
    """Backwards in time Van der Pol leaves every bound; nothing raises, and the domain says what to trust."""
    case = CASES["vdp"]
    back = replace(case.loop, f=lambda *a: tuple(-c for c in case.loop.f(*a)), dt=1.0, substeps=20)
    away: Case = replace(case, loop=back, steps=40)
    d = draw(case, 64, 10)
    with np.errstate(all="ignore"):
        end = rollout(back, d, away.reference, case.start.stretch_s).states[-1].T
    lost = ~np.isfinite(end).all(1)
    assert lost.any() and not case.inside(end[lost]).any()
