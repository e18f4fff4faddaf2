"""All 38 tasks reset, step and seed; resets are the same bit for bit with the plain sky."""

import numpy as np
import pytest

from safeplan.data.dsrl import TASKS

IDS = [task.id for task in TASKS.values()]
BUILT = [t.id for t in TASKS.values() if t.suite == "safety" and t.name.startswith(("Car", "Point"))]


def episode(env, seed: int, steps: int = 20) -> np.ndarray:
    """Observations, rewards and costs in one array; the actions are always the same."""
    rng = np.random.default_rng(5)
    obs, info = env.reset(seed=seed)
    assert info["cost"] == 0.0
    parts = [obs]
    for _ in range(steps):
        action = rng.uniform(-1, 1, env.action_space.shape)
        if "Metadrive" in env.spec.id:
            action = np.array([0.0, 1.0])  # forward, to where there is traffic
        obs, reward, terminated, truncated, info = env.step(action)
        assert obs.dtype == np.float32 and obs.shape == env.observation_space.shape and np.isfinite(obs).all()
        assert type(info["cost"]) is float and info["cost"] >= 0 and np.isfinite(reward)
        parts.append(np.append(obs, [reward, info["cost"]]))
        if terminated or truncated:
            break
    return np.concatenate(parts)


def test_ids(dsrl):
    assert sorted(dsrl.ids()) == sorted(IDS)
    for suite, n in (("bullet", 8), ("safety", 21), ("metadrive", 9)):
        assert sorted(dsrl.ids(suite)) == sorted(t.id for t in TASKS.values() if t.suite == suite)
        assert len(dsrl.ids(suite)) == n
    assert set(dsrl.ids("bullet") + dsrl.ids("safety")) <= set(dsrl.available())


@pytest.mark.parametrize("id", IDS)
def test_a_seed_is_an_episode(make, id):
    """In the same environment after an episode of another seed and length, and in a new one."""
    steps = 70 if "Metadrive" in id else 20
    np.random.seed(77)
    before = np.random.get_state()
    env = make(id)
    first, other = episode(env, 3, steps), episode(env, 4, steps - 7)
    n = min(len(first), len(other))
    assert (first[:n] != other[:n]).any()
    np.testing.assert_array_equal(episode(env, 3, steps), first)
    env.close()
    again = make(id)
    assert again.spec.id == id and again.unwrapped.spec is not None
    np.testing.assert_array_equal(episode(again, 3, steps), first)
    after = np.random.get_state()
    assert before[0] == after[0] and before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])


@pytest.mark.parametrize("id", [t.id for t in TASKS.values() if t.suite != "metadrive"])
def test_without_a_seed_episodes_differ(make, id):
    env, other = make(id), make(id)
    starts = [env.reset()[0], env.reset()[0], other.reset()[0]]
    assert (starts[0] != starts[1]).any() and (starts[0] != starts[2]).any() and (starts[1] != starts[2]).any()


@pytest.mark.parametrize("id", BUILT)
def test_fast_resets_change_no_bit(make, id):
    fast, slow = make(id), make(id, fast_reset=False)
    np.testing.assert_array_equal(episode(fast, 3), episode(slow, 3))
    pixels = [env.unwrapped.task.model.ntexdata for env in (fast, slow)]
    assert pixels[0] < 1e6 < 1e7 < pixels[1]  # what is saved


def test_fast_resets_can_be_switched_off_for_a_block(dsrl, make):
    env = make("OfflinePointCircle1Gymnasium-v0")
    with dsrl.fast_resets(False):
        env.env.reset(seed=0)  # past the wrapper, which says so itself
        assert env.unwrapped.task.model.ntexdata > 1e7
    env.env.reset(seed=0)
    assert env.unwrapped.task.model.ntexdata < 1e6


@pytest.mark.parametrize("name", TASKS)
def test_episodes_end_on_time(make, name):
    """The limit is in the spec, and a whole episode of one task per suite keeps to it."""
    env = make(TASKS[name].id)
    assert env.spec.max_episode_steps == TASKS[name].steps
    if name in ("BallRun", "PointCircle1"):
        env.reset(seed=0)
        for k in range(1, TASKS[name].steps + 1):
            *_, terminated, truncated, _ = env.step(np.zeros(env.action_space.shape))
            assert not terminated and truncated == (k == TASKS[name].steps)
