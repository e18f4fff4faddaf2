"""Data sets of Minari, made here; skipped where minari is missing."""

import importlib.util
import warnings

import numpy as np
import pytest

from safeplan.data import read_log, write_log
from safeplan.errors import CapabilityError, DataError
from tests.data.foreign import load, same, sample

needs_minari = pytest.mark.skipif(importlib.util.find_spec("minari") is None, reason="minari is not installed")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    return tmp_path / "sets"


def make_set(name: str, log, *, goal: bool = False, infos: bool = True, reset_info: bool = False):
    """`log` as a data set of Minari with actions in [-2, 2]; `goal`: observations are a dictionary."""
    import gymnasium as gym
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer

    box = gym.spaces.Box(-99.0, 99.0, (3,), np.float32)
    buffers = []
    for a, b in log.episodes:
        seen = np.concatenate([log.observations[a:b], log.next_observations[b - 1 : b]])
        costs = np.concatenate([[0.0] * reset_info, log.costs[a:b]])
        buffers.append(
            EpisodeBuffer(
                observations={"achieved": seen[:, :1], "seen": seen[:, 1:]} if goal else seen,
                actions=2.0 * log.actions[a:b],
                rewards=log.rewards[a:b].tolist(),
                terminations=log.terminals[a:b].tolist(),
                truncations=log.timeouts[a:b].tolist(),
                infos={"cost": costs} if infos else {},
            )
        )
    parts = {"achieved": gym.spaces.Box(-99.0, 99.0, (1,)), "seen": gym.spaces.Box(-99.0, 99.0, (2,))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about authors and environments
        return minari.create_dataset_from_buffers(
            name,
            buffers,
            observation_space=gym.spaces.Dict(parts) if goal else box,
            action_space=gym.spaces.Box(-2.0, 2.0, (2,), np.float32),
        )


@needs_minari
@pytest.mark.parametrize("shape", [{}, {"goal": True}, {"reset_info": True}], ids=["plain", "dictionary", "reset"])
def test_a_set_is_the_same_log(home, tmp_path, shape):
    log = sample()
    make_set("mine/toy-v0", log, **shape)
    made = load("minari:mine/toy-v0")
    same(made.log, log)
    assert made.names["costs"] == ["infos/cost"]
    assert any("from [-2.0, -2.0] .. [2.0, 2.0] to [-1, 1], as the source states" in n for n in made.notes)
    same(load(str(home / "mine" / "toy-v0")).log, log)
    same(read_log(write_log(tmp_path / "toy.hdf5", made.log)), log)


@needs_minari
def test_a_set_without_costs_says_so(home):
    make_set("toy-v0", sample(), infos=False)
    with pytest.raises(DataError, match=r"no column for 'costs': .* columns.costs=none"):
        load("minari:toy-v0")
    assert not load("minari:toy-v0", columns={"costs": "none"}).log.costs.any()


@needs_minari
def test_a_set_that_is_not_there(home, tmp_path):
    with pytest.raises(DataError, match="minari download"):
        load("minari:nobody/has-v0")
    with pytest.raises(DataError, match="cannot be opened as a data set of Minari"):
        load(str(tmp_path))


@needs_minari
def test_an_episode_of_zero_length(home):
    from types import SimpleNamespace

    from safeplan.data.minari_sets import _episode

    nothing = np.zeros(0)
    empty = SimpleNamespace(id=3, observations=np.zeros((1, 3)), actions=np.zeros((0, 2)), rewards=nothing, infos={})
    with pytest.raises(DataError, match="toy: episode 3 has zero length"):
        _episode("toy", empty)


def test_without_minari_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    with pytest.raises(CapabilityError, match=r"pip install 'safeplan\[minari\]'"):
        load("minari:mine/toy-v0")
