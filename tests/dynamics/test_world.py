"""The simulated truth: deterministic, inside the belief, and the same motion as the particles."""

import numpy as np
import pytest

from safeplan.dynamics.hovercraft import hovercraft, hovercraft_belief
from safeplan.dynamics.observe import OBSTACLE, SLOTS, observation_size, observe
from safeplan.dynamics.world import World
from safeplan.errors import ShapeError
from safeplan.types import Goal, Obstacle, Scene

SCENE = Scene(
    (Obstacle(1.5, 1.0, r=0.2, vx=-0.1, sigma_v=0.05), Obstacle(2.0, 0.4, r=0.1)), Goal(2.8, 1, 0.1), (0, 0, 3.2, 2)
)


def world(seed=0, scene=SCENE):
    x = np.zeros(9)
    x[:2] = 0.4, 1.0
    return World(hovercraft(), scene, hovercraft_belief(x), np.random.default_rng(seed), horizon_s=5.0)


def test_same_seed_same_episode():
    a, b = world(3), world(3)
    for k in range(10):
        ra, rb = a.step(np.array([0.1, -0.1, 0.2 * (-1) ** k])), b.step(np.array([0.1, -0.1, 0.2 * (-1) ** k]))
        assert ra.clearance == rb.clearance and (ra.path == rb.path).all()
    assert (world(4).x != world(3).x).any()


def test_controls_are_clipped_and_shapes_checked():
    a, b = world(), world()
    top = a.system.control_high
    assert (a.step(100 * top).path == b.step(top).path).all()
    with pytest.raises(ShapeError, match=r"control is \(2,\), expected \(3,\)"):
        a.step(np.zeros(2))


def test_obstacles_stay_within_the_cut_and_the_scene_shows_them():
    w = world()
    for _ in range(30):
        w.step(np.zeros(3))
    seen = w.scene()
    assert (w.centers() == [[o.x, o.y] for o in seen.obstacles]).all()
    assert abs(seen.obstacles[0].x - (1.5 - 0.1 * w.time)) <= 2 * 0.05 * w.time + 1e-9
    assert (seen.obstacles[1].x, seen.obstacles[1].y) == (2.0, 0.4)
    assert seen.obstacles[0].vx == -0.1


def test_goal_and_collision_are_noticed():
    w = world(scene=Scene((), Goal(0.4, 1.0, 0.1), (0, 0, 3.2, 2)))
    assert w.step(np.zeros(3)).reached
    hit = world(scene=Scene((Obstacle(0.45, 1.0, r=0.1),), Goal(2, 1, 0.1), (0, 0, 3.2, 2)))
    assert hit.step(np.zeros(3)).clearance < 0 and hit.clearance() < 0


def test_measurement_noise_is_bounded():
    w = world()
    d = np.abs([w.measure() - w.x for _ in range(200)])
    assert (d <= 2 * w.belief.x_sd + 1e-12).all() and d.max() > 0


def test_observation_layout():
    system = hovercraft()
    w = world()
    obs = observe(system, w.x, SCENE)
    assert obs.shape == (observation_size(system),)
    np.testing.assert_allclose(obs[:9], w.x)
    np.testing.assert_allclose(obs[9:11], [2.8 - w.x[0], 1 - w.x[1]])
    slots = obs[15:].reshape(SLOTS, OBSTACLE)
    assert slots[0, 7] < slots[1, 7] < slots[2, 7] == 10.0  # nearest first, then padding
    np.testing.assert_allclose(slots[0, :2], [1.5 - w.x[0], 1.0 - w.x[1]])


def test_scene_futures_average_to_the_nominal_one_and_round_trip():
    times = np.linspace(0, 2.2, 12)
    c = SCENE.sample(4000, times, np.random.default_rng(0))
    np.testing.assert_allclose(c.mean(0), SCENE.centers(times), atol=4e-3)
    assert np.ptp(c[:, 0], axis=0).max() == 0.0
    assert Scene.from_dict(SCENE.to_dict()) == SCENE
    assert SCENE.at(2.0).obstacles[0].x == pytest.approx(1.3)
