"""Scene generators: clear starts and goals, a way through, difficulty that means something."""

import numpy as np
import pytest

from safeplan.dynamics.bicycle import bicycle
from safeplan.dynamics.distance import clearance
from safeplan.dynamics.hovercraft import RADIUS, hovercraft
from safeplan.dynamics.unicycle import unicycle
from safeplan.errors import ConfigError
from safeplan.rng import numpy_rng
from safeplan.types import Goal, Obstacle, Scene
from safeplan_envs import driving, point_robot
from safeplan_envs import hovercraft as hover
from safeplan_envs.base import check_difficulty
from safeplan_envs.layout import connected, separation

DRAW = {"hovercraft": hover.draw, "driving": driving.draw, "point_robot": point_robot.draw}
SYSTEM = {"hovercraft": hovercraft, "driving": bicycle, "point_robot": unicycle}
ROOM = {"hovercraft": 0.1, "driving": 0.3, "point_robot": 0.05}  # m, clear around the start


def standing(scene):
    return [o for o in scene.obstacles if o.vx == o.vy == o.sigma_v == 0]


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize("difficulty", [0.0, 1.0, 2.0])
def test_start_and_goal_are_clear_for_many_seeds(name, difficulty):
    system = SYSTEM[name]()
    for seed in range(200 if difficulty == 1.0 else 60):
        scene, start = DRAW[name](numpy_rng(seed, "test", name), difficulty)
        assert clearance(system, start, scene.centers(np.zeros(1))[0], scene).min() > ROOM[name]
        goal = Obstacle(scene.goal.x, scene.goal.y, 0.5 * scene.goal.radius)
        assert all(separation(goal, o) > 0 for o in standing(scene))
        assert np.hypot(start[0] - scene.goal.x, start[1] - scene.goal.y) > scene.goal.radius
        assert all(np.isfinite(list(vars(o).values())).all() for o in scene.obstacles)


def bottleneck(name, difficulty, seeds):
    """Mean over scenes of the widest disc (m, radius) that gets to the goal past standing obstacles."""
    radii, cell = {
        "hovercraft": (np.arange(0.08, 0.40, 0.04), 0.04),
        "driving": (np.arange(1.0, 2.6, 0.2), 0.25),
    }[name]
    out = []
    for seed in range(seeds):
        scene, start = DRAW[name](numpy_rng(seed, "test", name), difficulty)
        y = scene.bounds[3] / 2 if name == "driving" else start[1]  # a lane's edge would limit the disc at the start
        out.append(max((r for r in radii if connected(scene, (start[0], y), r, cell)), default=0.0))
    return np.mean(out)


@pytest.mark.parametrize("name", ["hovercraft", "driving"])
def test_harder_means_narrower_and_more_movers_that_wander_more(name):
    width = [bottleneck(name, d, 25) for d in (0.0, 1.0, 2.0)]
    assert width[0] > width[1] > width[2]
    movers, wander = [], []
    for d in (0.0, 1.0, 2.0):
        scenes = [DRAW[name](numpy_rng(seed, "test", name), d)[0] for seed in range(60)]
        movers.append(np.mean([len(s.obstacles) - len(standing(s)) for s in scenes]))
        wander.append(np.mean([s.column("sigma_v").max(initial=0.0) for s in scenes]))
    assert movers[0] < movers[1] < movers[2]
    assert wander[0] < wander[1] < wander[2]


def test_movers_are_slower_than_the_craft_and_stay_in_their_aisle():
    for seed in range(60):
        scene, _ = hover.draw(numpy_rng(seed, "test"), 2.0)
        for m in scene.obstacles:
            if m.vy:
                assert abs(m.vy) <= 0.3 and m.vx == 0
                sweep = [Obstacle(m.x, y, m.r) for y in np.linspace(-0.2, 2.2, 25)]
                assert min(separation(s, o) for s in sweep for o in standing(scene)) > -0.02


def test_traffic_does_not_drive_through_standing_cars():
    """Cars follow their lane without touching a standing car, up to the time by which they have left the road."""
    for seed in range(60):
        scene, _ = driving.draw(numpy_rng(seed, "test"), 1.0)
        for car in scene.obstacles:
            if car.vx:
                xs = np.linspace(car.x, 95.0 if car.vx > 0 else -5.0, 60)
                sweep = [Obstacle(x, car.y, hx=car.hx, hy=car.hy) for x in xs]
                assert min((separation(s, o) for s in sweep for o in standing(scene)), default=1.0) > 0.0


def test_connected_sees_walls_and_ignores_movers():
    goal, bounds = Goal(3.0, 0.5, 0.1), (0.0, 0.0, 4.0, 1.0)
    wall = Obstacle(2.0, 0.5, hx=0.05, hy=0.5)
    assert not connected(Scene((wall,), goal, bounds), (0.5, 0.5), RADIUS, 0.05)
    door = (Obstacle(2.0, 0.15, hx=0.05, hy=0.15), Obstacle(2.0, 0.85, hx=0.05, hy=0.15))
    assert connected(Scene(door, goal, bounds), (0.5, 0.5), 0.15, 0.05)
    assert not connected(Scene(door, goal, bounds), (0.5, 0.5), 0.25, 0.05)
    drifting = Obstacle(2.0, 0.5, hx=0.05, hy=0.5, vx=0.1)
    assert connected(Scene((drifting,), goal, bounds), (0.5, 0.5), RADIUS, 0.05)


def test_separation_of_discs_is_exact_and_of_boxes_close():
    assert separation(Obstacle(0, 0, 1.0), Obstacle(3, 0, 0.5)) == pytest.approx(1.5)
    assert separation(Obstacle(0, 0, hx=1, hy=1), Obstacle(3, 0, hx=1, hy=1)) == pytest.approx(1.0)
    assert separation(Obstacle(0, 0, hx=1, hy=1), Obstacle(1.5, 0, hx=1, hy=1)) < 0


@pytest.mark.parametrize("value", [-0.1, 2.5, float("nan")])
def test_difficulty_outside_its_range_is_refused(value):
    with pytest.raises(ConfigError, match="difficulty"):
        check_difficulty(value)
