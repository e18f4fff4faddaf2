"""Surrogates: limits and slow twins, gradients against finite differences, descent, refusals."""

import numpy as np
import pytest
import torch

from safeplan.dynamics.hovercraft import hovercraft, hovercraft_belief
from safeplan.errors import ConfigError, ShapeError
from safeplan.reach.density import characteristics
from safeplan.reach.particles import rollout
from safeplan.reach.sets import Ball, Box, Union, levels
from safeplan.reach.smooth import clearance, cvar, held_states, hinge, risk_surrogate, softmin
from safeplan.types import Draw, Reference
from tests.set_cases import equations, still

CART = equations(lambda t, x, u, theta, xp: (x[1], u[0] + theta[0] - 0.2 * x[1] * x[1]), m=1, p=1, substeps=2)
REGION = Union([Ball([0.8, 0.3], 0.2, velocity=[0.3, 0.0]), Box([0.2], [0.4])])
rng = np.random.default_rng(0)
DRAW = Draw(rng.normal([0.0, 0.4], [0.2, 0.2], (40, 2)), rng.normal(0, 0.2, (40, 3, 1)))
GAINS = np.tile([[-0.5, -0.3]], (6, 1, 1))


def reference(controls):
    return still(CART, 6)._replace(controls=controls, gains=GAINS)


def test_cvar_is_the_mean_of_the_worst_share():
    losses = torch.as_tensor(rng.normal(size=(3, 50)))
    for k in (1, 7, 50):
        slow = losses.sort(-1).values[:, -k:].mean(-1)
        torch.testing.assert_close(cvar(losses, k / 50), slow)
    torch.testing.assert_close(cvar(losses, 1.0), losses.mean(-1))
    for alpha in (0.0, 1e-9, 1 / 50):
        torch.testing.assert_close(cvar(losses, alpha), losses.amax(-1))
    shares = torch.stack([cvar(losses, a) for a in np.linspace(0, 1, 60)])
    assert (shares.diff(dim=0) <= 1e-12).all()


def test_cvar_is_the_minimum_of_its_convex_form():
    """min over c of c + E[(loss - c)^+] / alpha, at any alpha."""
    losses = torch.as_tensor(rng.normal(size=37))
    for alpha in (0.03, 0.1, 0.33, 0.9):
        best = min(float(c + torch.relu(losses - c).mean() / alpha) for c in losses)
        assert float(cvar(losses, alpha)) == pytest.approx(best, abs=1e-12)


def test_softmin_lies_just_below_the_minimum():
    x = torch.as_tensor(rng.normal(size=(30, 5)))
    low = x.amin(0)
    for temperature in (1.0, 0.1, 1e-4):
        s = softmin(x, temperature)
        assert (s <= low + 1e-12).all() and (s >= low - temperature * np.log(30) - 1e-12).all()
    torch.testing.assert_close(softmin(x, 0.0), low)
    assert softmin(x, 0.1, dim=1).shape == (30,)


def test_hinge():
    np.testing.assert_allclose(hinge(torch.tensor([-1.0, 0.05, 0.3]), 0.1), [1.1, 0.05, 0.0], atol=1e-7)


def test_the_same_particles_as_without_gradients():
    flow = rollout(CART, DRAW, reference(np.full((6, 1), 0.5)), 0.2)
    times, states = held_states(
        CART, torch.as_tensor(DRAW.x), torch.as_tensor(DRAW.theta), reference(np.full((6, 1), 0.5)), 0.2
    )
    np.testing.assert_allclose(states, flow.states, atol=1e-12)
    np.testing.assert_allclose(times, flow.times)
    np.testing.assert_allclose(clearance(REGION, times, states), levels(REGION, *flow), atol=1e-12)
    d = hovercraft_belief(np.zeros(9)).sample(5, 2, rng)
    tracked = Reference(np.zeros((4, 9)), np.full((3, 3), 0.1), 0.2 * rng.normal(size=(3, 3, 9)), 0.1)
    twin = held_states(hovercraft(), torch.as_tensor(d.x), torch.as_tensor(d.theta), tracked, 0.25)[1]
    np.testing.assert_allclose(twin, rollout(hovercraft(), d, tracked, 0.25).states, atol=1e-10)


def test_the_surrogate_against_its_slow_twin():
    flow = rollout(CART, DRAW, reference(np.zeros((6, 1))), 0.2)
    violation = np.maximum(0.15 - levels(REGION, *flow).min(0), 0)
    tensors = [torch.as_tensor(a) for a in flow]
    found = risk_surrogate(REGION, *tensors, alpha=0.25, margin=0.15)
    assert float(found) == pytest.approx(np.sort(violation)[-10:].mean())
    far = Ball([9.0, 0.0], 0.2)
    assert float(risk_surrogate(far, *tensors, alpha=0.25, margin=0.15)) == 0
    assert float(risk_surrogate(REGION, *tensors, alpha=0.25, margin=0.15, temperature=0.05)) >= float(found)


@pytest.mark.parametrize("move", ["held", "continuous"])
@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_gradients_of_plan_and_start_against_differences(move, temperature):
    x0, theta = torch.as_tensor(DRAW.x), torch.as_tensor(DRAW.theta)

    def risk(controls, start):
        if move == "held":
            times, states = held_states(CART, start, theta, reference(controls), 0.2)
        else:
            times, states, _ = characteristics(CART, start, theta, reference(controls), 0.2)
        return risk_surrogate(REGION, times, states, alpha=0.3, margin=0.2, temperature=temperature)

    controls, start = torch.full((6, 1), 0.3, dtype=x0.dtype, requires_grad=True), x0.clone().requires_grad_(True)
    grad, to_start = torch.autograd.grad(risk(controls, start), (controls, start))
    assert grad.abs().max() > 1e-3 and torch.isfinite(to_start).all()
    for k in (0, 3):
        step = torch.zeros(6, 1, dtype=x0.dtype)
        step[k] = 1e-6
        with torch.no_grad():
            slope = (risk(controls + step, x0) - risk(controls - step, x0)) / 2e-6
        assert float(slope) == pytest.approx(float(grad[k]), abs=1e-5)
    i = int(to_start.abs().sum(1).argmax())
    step = torch.zeros_like(x0)
    step[i, 0] = 1e-6
    with torch.no_grad():
        slope = (risk(controls, x0 + step) - risk(controls, x0 - step)) / 2e-6
    assert float(slope) == pytest.approx(float(to_start[i, 0]), abs=1e-5)


def test_the_gain_s_gradient_with_respect_to_a_plan_is_whole():
    """The first rate has no state that depends on the plan, but its divergence does: f = u x, gain = -sum of u dt."""
    grower = equations(lambda t, x, u, theta, xp: (u[0] * x[0],), 1, m=1)
    plan = torch.full((3, 1), 0.4, dtype=torch.float64, requires_grad=True)
    x0, none = torch.ones(2, 1, dtype=torch.float64), torch.zeros(2, 1, 0)
    gain = characteristics(grower, x0, none, still(grower, 3)._replace(controls=plan), 1.0).gain[-1]
    (grad,) = torch.autograd.grad(gain[0], plan)
    np.testing.assert_allclose(grad, np.full((3, 1), -0.1), atol=1e-12)


def test_descent_lowers_the_counted_risk():
    x0, theta = torch.as_tensor(DRAW.x), torch.as_tensor(DRAW.theta)
    wall, plan = Box([0.35], [9.0]), torch.zeros(6, 1, dtype=x0.dtype, requires_grad=True)

    def hits():
        return (clearance(wall, *held_states(CART, x0, theta, reference(plan), 0.2)) <= 0).any(0).double().mean()

    before = float(hits())
    optimiser = torch.optim.Adam([plan], 0.3)
    for _ in range(20):
        optimiser.zero_grad()
        times, states = held_states(CART, x0, theta, reference(plan), 0.2)
        risk_surrogate(wall, times, states, alpha=0.3, margin=0.05, temperature=0.02).backward()
        optimiser.step()
    assert before > 0.15 and float(hits()) < 0.6 * before


def test_one_particle_and_no_time():
    x0, theta = torch.as_tensor(DRAW.x[:1]), torch.as_tensor(DRAW.theta[:1])
    times, states = held_states(CART, x0, theta, still(CART, 0), 0.2)
    assert states.shape == (1, 2, 1)
    alone = risk_surrogate(Ball([0.0, 0.4], 1.0), times, states, alpha=0.01, margin=0.1)
    assert float(alone) == pytest.approx(1.1 - np.hypot(*(DRAW.x[0] - [0.0, 0.4])))
    everywhere = Box([-np.inf], [np.inf])
    assert clearance(everywhere, times, states).shape == (1, 1)


def test_what_breaks_is_not_hidden():
    states = torch.tensor([[[0.0, float("nan")]]])
    assert torch.isnan(risk_surrogate(Ball([5.0], 1.0), torch.zeros(1), states, alpha=0.5, margin=0.1))


def test_refusals():
    with pytest.raises(ConfigError, match=r"alpha = 1.1"):
        cvar(torch.zeros(3), 1.1)
    with pytest.raises(ShapeError, match=r"losses are \(0,\)"):
        cvar(torch.zeros(0), 0.1)
    with pytest.raises(ConfigError, match="temperature = -1"):
        softmin(torch.zeros(3), -1)
    with pytest.raises(ShapeError, match="axes are"):
        clearance(Ball([0.0], 1.0, axes=(2,)), torch.zeros(1), torch.zeros(1, 2, 3))
