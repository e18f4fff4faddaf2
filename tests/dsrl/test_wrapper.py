"""The common face, what it refuses, and what is said where something is missing."""

import importlib
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from safeplan.errors import CapabilityError, ConfigError, DataError, ShapeError

OVERFLOW = "ignore:overflow encountered in cast:RuntimeWarning:gymnasium.spaces.box"  # its own check of float32 bounds
CHECKER = "ignore:.*WARN.*:UserWarning:gymnasium"  # gymnasium's advice to the authors of environments


class Crooked(gym.Env):
    """Bounds that are not [-1, 1]; remembers the last action."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(np.array([-2.0, 0.0]), np.array([4.0, 1.0]), dtype=np.float64)

    def reset(self, *, seed=None, options=None):
        return np.zeros(2), {}

    def step(self, action):
        self.got = action
        return np.ones(2), np.float64(1), np.bool_(False), False, {"cost": np.int64(1)}


def test_actions_are_mapped_and_clipped(dsrl):
    env = dsrl.OfflineTask(Crooked())
    assert env.observation_space.dtype == np.float32 and env.observation_space.is_bounded("below") is False
    env.reset()
    for action, command in (([-1, -1], [-2, 0]), ([1, 1], [4, 1]), ([0, 0.5], [1, 0.75]), ([-9, 9], [-2, 1])):
        obs, reward, terminated, _, info = env.step(action)
        np.testing.assert_allclose(env.unwrapped.got, command)
        assert env.unwrapped.got.dtype == np.float64 and obs.dtype == np.float32
        assert type(reward) is float and type(terminated) is bool and type(info["cost"]) is float
    with pytest.raises(ShapeError, match=r"action is \(3,\), expected \(2,\)"):
        env.step(np.zeros(3))
    with pytest.raises(DataError, match="nan"):
        env.step([np.nan, 0.0])


def test_unknown_names(dsrl):
    with pytest.raises(ConfigError, match="'OfflineBallSquare-v0' is not one of DSRL's 38 tasks"):
        dsrl.make("OfflineBallSquare-v0")
    with pytest.raises(ConfigError, match="use one of bullet, safety, metadrive"):
        dsrl.ids("mujoco")


@pytest.mark.filterwarnings(OVERFLOW, CHECKER)
@pytest.mark.parametrize(
    "id", ["OfflineBallCircle-v0", "OfflineCarGoal1Gymnasium-v0", "OfflineHopperVelocityGymnasium-v1"]
)
def test_gymnasium_alone_makes_them(dsrl, id):
    env = gym.make(f"safeplan_envs.dsrl:{id}")
    first = env.reset(seed=1)[0]
    assert "cost" in env.step(env.action_space.sample())[-1]
    np.testing.assert_array_equal(env.reset(seed=1)[0], first)
    env.close()


def test_patches_are_applied_once(dsrl):
    builder = importlib.import_module("bullet_safety_gym.envs.builder").EnvironmentBuilder
    world, model = importlib.import_module("safety_gymnasium.world"), importlib.import_module("mujoco").MjModel
    before = builder.reset, builder.__init__, world.yaml, model.jnt
    importlib.reload(dsrl)
    assert (builder.reset, builder.__init__, world.yaml, model.jnt) == before
    assert "gym" not in sys.modules, "the alias for MetaDrive must not outlive its import"


def test_metadrive_takes_one_environment_at_a_time(make):
    first, second = make("OfflineMetadrive-easysparse-v0"), make("OfflineMetadrive-easymean-v0")
    first.reset(seed=0)
    with pytest.raises(CapabilityError, match="close"):
        second.reset(seed=0)
    first.step([0.0, 0.0])
    first.close()
    second.reset(seed=0)
    second.step([0.0, 0.0])


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_where_nothing_is_installed():
    """Also where it is: the import system is told that there is no pybullet."""
    said = run("""
import sys
sys.modules["pybullet"] = None
try:
    import safeplan_envs.dsrl
except Exception as e:
    print(type(e).__name__, e)
""")
    assert said.startswith("CapabilityError") and "pybullet" in said and "make dsrl" in said


@pytest.mark.parametrize(
    "package,said", [("panda3d", "not installed (panda3d)"), ("panda3d.bullet", "broken (import of")]
)
def test_where_metadrive_is_missing_or_broken(make, package, said):
    make("OfflineMetadrive-easysparse-v0")
    printed = run(f"""
import sys
sys.modules[{package!r}] = None
from safeplan_envs import dsrl
print(len(dsrl.available()), len(dsrl.ids()))
dsrl.make("OfflineBallRun-v0").reset(seed=0)
try:
    dsrl.make("OfflineMetadrive-easysparse-v0")
except Exception as e:
    print(type(e).__name__, e)
""")
    assert printed.startswith("29 38\nCapabilityError OfflineMetadrive-easysparse-v0: MetaDrive is " + said)
    assert "make dsrl" in printed


def test_first_resets_start_as_dsrl_users_seeded_them(make):
    """An untouched dsrl, whose bullet tasks import without our patches, seeded through numpy's global generator."""
    ours = []
    for id in ("OfflineBallCircle-v0", "OfflineAntRun-v0"):
        env = make(id)
        ours += [*env.reset(seed=3)[0], *env.step(np.full(env.action_space.shape, 0.3))[0]]
    said = run("""
import gymnasium, numpy as np
import dsrl
assert "safeplan_envs" not in __import__("sys").modules
for id in ("OfflineBallCircle-v0", "OfflineAntRun-v0"):
    env = gymnasium.make(id, disable_env_checker=True)
    np.random.seed(3)
    start = env.reset()[0]
    print(*start, *env.step(np.full(env.action_space.shape, 0.3, np.float32))[0])
""")
    np.testing.assert_array_equal(np.array(said.split(), float).astype(np.float32), np.array(ours, np.float32))


def test_environments_leave_no_file_open(make):
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc")
    make("OfflineBallRun-v0").close()
    before = len(list(folder.iterdir()))
    for _ in range(5):
        make("OfflineBallRun-v0").close()
    assert len(list(folder.iterdir())) == before
