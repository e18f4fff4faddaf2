"""Drivers of the Goal tasks: they see what the simulator shows, trade return for cost, and their styles improve."""

import numpy as np
import pytest

from safeplan.data.dsrl import TASKS
from safeplan.errors import DataError


@pytest.fixture(scope="module")
def seekers(dsrl):
    from safeplan_envs.dsrl import goal_seekers

    return goal_seekers


def style(seekers, **given):
    """The style with these values, the others in the middle."""
    low, high = np.array(list(seekers.STYLE.values())).T
    return np.array(
        [(given[k] - a) / (b - a) if k in given else 0.5 for k, a, b in zip(seekers.STYLE, low, high, strict=True)]
    )


@pytest.mark.parametrize("task", ["PointGoal1", "CarGoal1"])
def test_readings_are_where_the_drivers_look(make, seekers, task):
    env, body = make(TASKS[task].id), seekers.BODIES[task]
    for seed in range(5):
        obs, _ = env.reset(seed=seed)
        world = env.unwrapped.task
        forward = np.arctan2(*world.agent.mat[:2, :2].T[0][::-1])
        gap = world.goal.pos[:2] - world.agent.pos[:2]
        if np.linalg.norm(gap) < seekers.SIGHT:
            bearing = seekers.direction(obs[body.goal : body.goal + seekers.BEAMS], body.ahead)
            off = np.arctan2(gap[1], gap[0]) - forward - bearing
            assert abs(np.arctan2(np.sin(off), np.cos(off))) < 0.02
        nearest = min(np.linalg.norm(p[:2] - world.agent.pos[:2]) for p in world.hazards.pos)
        seen = seekers.SIGHT * (1 - obs[body.hazards : body.hazards + seekers.BEAMS].max())
        assert seen == pytest.approx(nearest, abs=1e-4)


@pytest.mark.parametrize("task", ["PointGoal1", "CarGoal1"])
def test_they_reach_goals(make, seekers, task):
    env = make(TASKS[task].id)
    drive = seekers.Seeker(task, style(seekers, push=1.0, swirl=1.0, sigma=0.05), np.random.default_rng(0))
    obs, _ = env.reset(seed=0)
    total = 0.0
    for _ in range(300):
        action = drive(obs)
        assert action.shape == (2,) and action.dtype == np.float32 and np.abs(action).max() <= 1
        obs, reward, *_ = env.step(action)
        total += reward
    assert total > 3.0  # one goal is worth 1, and the way to it about as much


def test_hazards_ahead_turn_and_slow_those_who_care(seekers):
    obs = np.zeros(60, np.float32)
    obs[12], obs[28] = 0.5, 0.9  # goal 1.5 m and hazard 0.3 m ahead, a little to the left
    acts = {}
    for name, given in {
        "bold": {"push": 0, "swirl": 0, "brake": 0},
        "shy": {"push": 0, "swirl": 3, "brake": 1},
    }.items():
        drive = seekers.Seeker("PointGoal1", style(seekers, sigma=0, reach=1.0, **given), np.random.default_rng(0))
        acts[name] = drive(obs)
    assert acts["bold"][0] == 1.0 and acts["shy"][0] < acts["bold"][0]
    assert abs(acts["shy"][1]) > 0.5 > abs(acts["bold"][1])


def test_styles_move_to_where_it_was_better(seekers):
    rng = np.random.default_rng(0)
    styles = rng.uniform(size=(200, 8))
    returns, costs = 20 * styles[:, 0], 50 * styles[:, 0] * (1 - styles[:, 1])
    new = seekers.better_styles(styles, returns, costs, 400, rng)
    assert new.shape == (400, 8) and new.min() >= 0 and new.max() <= 1
    bold, careful = new[0::4], new[3::4]  # weight 0 and 1
    assert bold[:, 0].mean() > 0.8 and abs(bold[:, 1].mean() - 0.5) < 0.1
    assert careful[:, 1].mean() > 0.7
    with pytest.raises(DataError, match="1 episodes"):
        seekers.better_styles(styles[:1], returns[:1], costs[:1], 4, rng)
