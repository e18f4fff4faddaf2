"""A hand-written policy reaches the goal, a blind one collides; delays, bounds and wrong shapes."""

import numpy as np
import pytest

from safeplan.baselines.policy import fly_policy
from safeplan.dynamics.unicycle import unicycle, unicycle_belief
from safeplan.dynamics.world import World
from safeplan.errors import ShapeError
from safeplan.types import Goal, Obstacle, Scene


def world(*obstacles, seed=0):
    scene = Scene(obstacles, Goal(3.0, 0.0, 0.3), (-1, -2, 5, 2))
    return World(unicycle(), scene, unicycle_belief(np.zeros(4)), np.random.default_rng(seed))


def straight(obs):
    """Towards the goal: obs[4:6] is its offset."""
    return np.array([1.0, np.clip(2 * (np.arctan2(obs[5], obs[4]) - obs[3]), -1, 1)])


def test_reaches_an_open_goal_and_is_deterministic():
    flights = [fly_policy(world(), straight, max_seconds=10)[:4] for _ in range(2)]
    assert flights[0] == flights[1]
    reached, collided, seconds, clearance = flights[0]
    assert reached and not collided and 1.5 < seconds < 5 and clearance > 0


def test_stops_at_the_first_collision():
    flight = fly_policy(world(Obstacle(1.5, 0.0, 0.3)), straight, max_seconds=10)
    assert flight.collided and not flight.reached and flight.clearance < 0
    assert len(flight.acting_s) == round(flight.seconds / 0.05)


def test_time_limit_and_wild_actions():
    flight = fly_policy(world(), lambda o: np.array([-1e9, 0.0]), max_seconds=0.5)
    assert not flight.reached and flight.seconds == pytest.approx(0.5)


def test_wrong_shape_is_named():
    with pytest.raises(ShapeError, match=r"\(3,\), expected \(2,\)"):
        fly_policy(world(), lambda o: np.zeros(3), max_seconds=1)
