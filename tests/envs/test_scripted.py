"""The scripted drivers: careful ones arrive, blind ones do not see, paths keep their room."""

import gymnasium as gym
import numpy as np
import pytest

from safeplan.dynamics.hovercraft import RADIUS, parameters
from safeplan.types import Goal, Obstacle, Scene
from safeplan_envs.driving import scripted as driving
from safeplan_envs.hovercraft import scripted as hovercraft
from safeplan_envs.scripted import Behaviour, draw_behaviour, gaps

CAREFUL = Behaviour("careful", 0.1, 0.4, True, True, 0.0, 0.0, 0.0)


def test_thrusts_give_the_force_and_torque_that_were_asked_for():
    c, want = parameters(), np.array([0.1, -0.2, 0.003])
    u = hovercraft.allocation() @ want
    assert np.allclose(np.array(c["pair_direction"]).T @ u, want[:2]) and np.dot(c["pair_arm"], u) == pytest.approx(
        0.003
    )


def test_grid_path_goes_around_and_knows_when_there_is_no_way():
    bounds, goal, start = (0.0, 0.0, 3.2, 2.0), Goal(2.9, 1.0, 0.12), np.array([0.3, 1.0])
    grid = hovercraft.Grid(bounds)
    block = Scene((Obstacle(1.6, 1.0, 0.4),), goal, bounds)
    path = grid.path(block, start, 0.4, CAREFUL)
    assert np.allclose(path[0], start) and np.allclose(path[-1], (goal.x, goal.y))
    assert gaps(block, path, np.zeros(len(path)), True, True).min() > RADIUS + 0.03
    wall = Scene((Obstacle(1.6, 1.0, hx=0.1, hy=1.0),), goal, bounds)
    assert grid.path(wall, start, 0.4, CAREFUL) is None
    leaving = Scene((Obstacle(1.6, 1.0, 0.4, vy=1.0),), goal, bounds)  # gone by the time of passage
    assert abs(grid.path(leaving, start, 0.4, CAREFUL)[:, 1] - 1.0).max() < 0.2


def test_lattice_passes_a_parked_car_and_reports_a_blocked_road():
    goal, bounds = Goal(80.0, 3.5, 3.5), (0.0, 0.0, 90.0, 7.0)
    b = Behaviour("careful", 0.5, 5.0, True, True, 0.0, 0.0, 0.0)
    car = Scene((Obstacle(25.0, 1.75, hx=2.1, hy=0.9),), goal, bounds)
    path, reach = driving.lattice(car, 3.0, 1.75, 5.0, b)
    assert reach > 100 and np.interp(25.0, path[:, 0], path[:, 1]) > 4.0
    block = Scene((Obstacle(25.0, 3.5, hx=2.1, hy=3.5),), goal, bounds)
    assert 15.0 < driving.lattice(block, 3.0, 1.75, 5.0, b)[1] < 23.0


def test_what_is_not_seen_or_not_predicted():
    scene = Scene((Obstacle(0.0, 0.0, 0.5, vx=1.0),), Goal(5, 5, 1), (-9, -9, 9, 9))
    point, later = np.array([[2.0, 0.0]]), np.array([2.0])
    assert gaps(scene, point, later, True, True)[0] == pytest.approx(-0.5)
    assert gaps(scene, point, later, False, True)[0] == pytest.approx(1.5)
    assert gaps(scene, point, later, True, False)[0] == 10.0


def test_behaviours_are_mixed():
    rng = np.random.default_rng(0)
    drawn = [draw_behaviour(rng, (0.1, 0.2), (1.0, 2.0)) for _ in range(300)]
    assert {b.kind for b in drawn} == {"careful", "careless", "shortsighted", "blind"}
    assert min(b.margin for b in drawn) < 0 < max(b.margin for b in drawn) <= 0.2
    assert all(1.0 <= b.speed <= 2.0 for b in drawn)
    assert any(not b.sees for b in drawn) and any(not b.predicts for b in drawn)


@pytest.mark.parametrize(("name", "env_id"), [("hovercraft", "Hovercraft-v0"), ("driving", "Driving-v0")])
def test_careful_drivers_mostly_arrive_safely_and_blind_ones_do_not(name, env_id):
    law = {"hovercraft": hovercraft.control_law, "driving": driving.control_law}[name]
    scale = {"hovercraft": (0.1, 0.4), "driving": (0.7, 5.0)}[name]
    env = gym.make(f"safeplan_envs:safeplan/{env_id}", difficulty=0.5).unwrapped
    safe = {}
    for sees in (True, False):
        b, good = Behaviour("careful", *scale, True, sees, 0.0, 0.0, 0.0), []
        for seed in range(6):
            env.reset(seed=seed)
            control, cost, done = law(env, b), 0.0, False
            while not done:
                _, _, terminated, truncated, info = env.step(env.action(control()))
                cost, done = cost + info["cost"], terminated or truncated
            good.append(info["goal"] and cost == 0)
        safe[sees] = np.mean(good)
    assert safe[True] >= 0.65 and safe[False] <= 0.5
