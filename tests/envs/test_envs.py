"""The Gymnasium face: API, determinism, streams, options, costs, pictures."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import safeplan_envs
from safeplan.dynamics.observe import observation_size, observe
from safeplan.errors import ConfigError, ShapeError
from safeplan.types import Goal, Obstacle

IDS = [f"safeplan_envs:{i}" for i in safeplan_envs.IDS.values()]


def make(env_id, **kw):
    return gym.make(env_id, **kw).unwrapped


def roll(env, seed, steps=12, **reset):
    obs, _ = env.reset(seed=seed, **reset)
    rng = np.random.default_rng(0)
    out = [obs]
    for _ in range(steps):
        obs, reward, _, _, info = env.step(rng.uniform(-1, 1, env.system.m).astype(np.float32))
        out.append(np.append(obs, [reward, info["clearance"]]))
    return np.concatenate(out)


@pytest.mark.parametrize("env_id", IDS)
def test_passes_gymnasiums_own_checks(env_id):
    check_env(make(env_id, render_mode="rgb_array"))


@pytest.mark.parametrize("env_id", IDS)
def test_same_seed_same_episode_and_another_seed_another(env_id):
    a, b = make(env_id), make(env_id)
    assert np.array_equal(roll(a, 3), roll(b, 3))
    assert np.array_equal(roll(a, 3), roll(b, 3))  # also after other episodes
    assert not np.array_equal(roll(a, 3), roll(a, 4))
    a.reset(seed=3)
    b.reset(seed=3)
    assert np.array_equal(a.reset()[0], b.reset()[0])  # the chain of unseeded resets is seeded too


@pytest.mark.parametrize("env_id", IDS)
def test_splits_share_nothing(env_id):
    first = {split: roll(make(env_id, split=split), 0) for split in ("train", "tune", "eval", "demo")}
    assert len({v.tobytes() for v in first.values()}) == 4


@pytest.mark.parametrize("env_id", IDS)
def test_observation_is_the_measured_state_and_the_scene(env_id):
    env = make(env_id)
    obs, info = env.reset(seed=1)
    assert obs.shape == (observation_size(env.system),) and obs.dtype == np.float32
    assert np.allclose(obs, observe(env.system, env.measured, env.scene()), atol=1e-5)
    assert np.array_equal(env.belief().x_mean, env.measured)
    sd = env.belief().x_sd
    assert (abs(env.measured - env.world.x) <= 2 * sd + 1e-12).all()
    assert info["theta"].shape == (env.system.p,) and info["cost"] == 0.0


@pytest.mark.parametrize("env_id", IDS)
def test_actions_map_linearly_onto_the_control_bounds(env_id):
    env = make(env_id)
    lo, hi = env.system.control_low, env.system.control_high
    assert (
        np.allclose(env.action(lo), -1) and np.allclose(env.action(hi), 1) and np.allclose(env.action((lo + hi) / 2), 0)
    )
    seen = []
    env.reset(seed=0)
    step = env.world.step
    env.world.step = lambda u: (seen.append(u), step(u))[1]
    env.step(env.action(0.3 * hi))
    assert np.allclose(seen[0], 0.3 * hi, atol=1e-6)


@pytest.mark.parametrize("env_id", IDS)
def test_rewards_sum_to_the_progress_and_arrival_ends_the_episode(env_id):
    env = make(env_id)
    env.reset(seed=5)
    near = replace(env.scene(), goal=Goal(*(env.world.x[:2] + 0.01), 1.5), obstacles=())
    env.reset(seed=5, options={"scene": near})
    assert env.scene().goal == near.goal
    before = env._goal_distance()
    _, reward, terminated, truncated, info = env.step(np.zeros(env.system.m, np.float32))
    assert terminated and not truncated and info["goal"]
    assert reward == pytest.approx(before - env._goal_distance() + 1.0)


@pytest.mark.parametrize("env_id", IDS)
def test_collisions_cost_and_end_the_episode_only_when_asked(env_id):
    for ends in (False, True):
        env = make(env_id, terminate_on_collision=ends)
        env.reset(seed=2)
        x = env.world.x
        blocked = replace(env.scene(), obstacles=(Obstacle(x[0], x[1], 0.3),))
        _, info = env.reset(seed=2, options={"scene": blocked})
        assert info["cost"] == 1.0 and info["clearance"] < 0
        _, _, terminated, _, info = env.step(np.zeros(env.system.m, np.float32))
        assert info["cost"] == 1.0 and not info["goal"] and terminated is ends


@pytest.mark.parametrize("env_id", IDS)
def test_time_runs_out(env_id):
    env = make(env_id, max_seconds=1.0)
    env.reset(seed=0, options={"difficulty": 0.0})
    flags = []
    while not flags or not flags[-1]:
        _, _, terminated, truncated, _ = env.step(env.action(np.zeros(env.system.m)))
        assert not terminated
        flags.append(truncated)
    assert len(flags) == round(1.0 / env.system.dt)


def test_start_option_and_bad_options():
    env = make(IDS[0])
    start = np.zeros(9)
    start[:2] = 1.0, 1.0
    env.reset(seed=0, options={"start": start})
    assert np.allclose(env.world.x[:2], start[:2], atol=0.02)
    with pytest.raises(ShapeError, match="start"):
        env.reset(seed=0, options={"start": np.zeros(3)})
    with pytest.raises(ConfigError, match="dificulty"):
        env.reset(seed=0, options={"dificulty": 1})
    with pytest.raises(ConfigError, match="difficulty"):
        make(IDS[0], difficulty=3)
    with pytest.raises(ConfigError, match="split"):
        make(IDS[0], split="test")
    with pytest.raises(ConfigError, match="max_seconds"):
        make(IDS[0], max_seconds=0)
    with pytest.raises(ConfigError, match="render_mode"):
        safeplan_envs.hovercraft.HovercraftEnv(render_mode="human")
    with pytest.raises(gym.error.ResetNeeded):
        make(IDS[0]).scene()


@pytest.mark.parametrize("env_id", IDS)
def test_pictures_show_the_vehicle_where_it_is(env_id):
    env = make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert before.dtype == np.uint8 and before.ndim == 3 and before.shape[2] == 3
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 20
    for _ in range(8):
        env.step(env.action(0.7 * env.system.control_high * (np.arange(env.system.m) == 0)))
    after = env.render()
    assert after.shape == before.shape and (after != before).any()
    style, bounds = env.style, env.scene().bounds
    col = round((style.width / 2 + style.margin + env.world.x[0] - (bounds[0] + bounds[2]) / 2) * style.pixels_per_m)
    row = round((style.height / 2 + style.margin - env.world.x[1] + (bounds[1] + bounds[3]) / 2) * style.pixels_per_m)
    red, _, blue = after[row - 3 : row + 4, col - 3 : col + 4].reshape(-1, 3).astype(int).T
    assert (blue > red + 40).any(), "no blue pixel of the vehicle near its position"
    assert make(env_id).render() is None


@pytest.mark.slow
def test_vectorised_in_other_processes():
    envs = gym.make_vec(IDS[0], num_envs=2, vectorization_mode="async", vector_kwargs={"context": "spawn"})
    obs, _ = envs.reset(seed=0)
    assert obs.shape[0] == 2 and not np.array_equal(obs[0], obs[1])
    envs.step(envs.action_space.sample())
    envs.close()
