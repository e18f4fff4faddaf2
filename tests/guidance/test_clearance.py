"""The clearance energy against the NumPy clearance, its gradient, and what it does to a sample."""

import numpy as np
import pytest
import torch

from safeplan.dynamics.bicycle import bicycle
from safeplan.dynamics.distance import clearance
from safeplan.dynamics.hovercraft import hovercraft
from safeplan.dynamics.observe import observe
from safeplan.guidance.clearance import clearance_barrier, clearance_energy, goal_energy
from safeplan.types import Goal, Obstacle, Scene

SCENES = {
    "hovercraft": (
        hovercraft(),
        Scene(
            (Obstacle(1.0, 0.9, 0.2), Obstacle(1.6, 1.4, 0.02, vx=0.1, hx=0.1, hy=0.3)),
            Goal(3, 1, 0.1),
            (0, 0, 3.2, 2),
        ),
    ),
    "bicycle": (bicycle(), Scene((Obstacle(12.0, 1.0, hx=2.0, hy=0.9, vx=1.0),), Goal(50, 0, 2), (-5, -6, 60, 6))),
}


def case(name, seed=0):
    system, scene = SCENES[name]
    rng = np.random.default_rng(seed)
    x0 = np.zeros(system.n)
    x0[:2] = (0.3, 1.0) if name == "hovercraft" else (0.0, 0.0)
    obs = torch.tensor(observe(system, x0, scene))[None].repeat(3, 1)
    span = 2.0 if name == "hovercraft" else 20.0
    states = np.tile(x0, (3, 9, 1))
    states[..., 0] += np.linspace(0, span, 9)
    states += 0.05 * rng.normal(size=states.shape)
    return system, scene, obs, torch.tensor(np.concatenate([states, np.zeros((3, 9, system.m))], -1))


@pytest.mark.parametrize("name", SCENES)
def test_equals_the_sum_over_gaps_below_the_margin(name):
    system, scene, obs, x = case(name)
    margin = 0.1 if name == "hovercraft" else 1.0
    energy = clearance_energy(system, obs, margin)(x)
    times = np.arange(9) * system.dt
    total = np.zeros(3)
    for disc in system.footprint:
        single = type(system)(**{**vars(system), "footprint": (disc,)})
        gaps = clearance(single, np.moveaxis(x[..., : system.n].numpy(), -1, 0), scene.centers(times), scene)
        total += (np.maximum(margin - gaps, 0) ** 2).sum((1, 2)) / margin**2
    assert total.max() > 0.1
    np.testing.assert_allclose(energy.numpy(), total, rtol=1e-9)


@pytest.mark.parametrize("name", SCENES)
def test_gradient_matches_finite_differences_and_leads_out(name):
    system, _, obs, x = case(name)
    energy = clearance_energy(system, obs, 0.3)
    g = torch.func.grad(lambda z: energy(z).sum())(x)
    i = torch.argmax(g.abs().flatten())
    e = torch.zeros_like(x).flatten()
    e[i] = 1e-6
    e = e.view_as(x)
    assert (energy(x + e).sum() - energy(x - e).sum()).item() / 2e-6 == pytest.approx(g.flatten()[i].item(), rel=1e-4)
    assert energy(x - 1e-3 * g / g.norm()).sum() < energy(x).sum()


def test_empty_slots_and_open_space_cost_nothing():
    system, _, _, x = case("bicycle")
    far = Scene((), Goal(50, 0, 2), (-500, -500, 500, 500))
    obs = torch.tensor(observe(system, np.zeros(4), far))[None].repeat(3, 1)
    assert clearance_energy(system, obs, 1.0)(x).abs().max() == 0


@pytest.mark.parametrize("name", SCENES)
def test_barrier_is_the_least_gap_of_every_step(name):
    system, scene, obs, x = case(name)
    h = clearance_barrier(system, obs, 0.05)(x)
    gap = clearance(
        system, np.moveaxis(x[..., : system.n].numpy(), -1, 0), scene.centers(np.arange(9) * system.dt), scene
    )
    np.testing.assert_allclose(h.numpy(), gap.min(-1)[:, 1:] - 0.05, rtol=1e-9, atol=1e-12)


def test_goal_energy_is_half_the_squared_distance_of_the_end():
    system, scene, obs, x = case("hovercraft")
    end = x[:, -1, :2].numpy() - (scene.goal.x, scene.goal.y)
    np.testing.assert_allclose(goal_energy(system, obs)(x).numpy(), 0.5 * (end**2).sum(1), rtol=1e-9)
