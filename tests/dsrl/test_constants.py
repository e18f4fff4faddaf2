"""Our table of tasks against the installed package, number by number, and both ways of normalising."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from safeplan.data import read_log, write_log
from safeplan.data.dsrl import TASKS, normalized_cost, normalized_return
from safeplan.data.dsrl_files import ADDRESS
from safeplan.data.dsrl_process import DENSITY
from tests.data.test_hdf5 import make as make_log


def test_the_table_is_that_of_the_package(dsrl):
    infos = import_module("dsrl.infos")
    assert set(infos.DATASET_URLS) == set(TASKS)
    for name, task in TASKS.items():
        assert infos.DATASET_URLS[name] == ADDRESS + task.file
        theirs = [
            getattr(infos, f"{end}_EPISODE_{what}")[name] for what in ("REWARD", "COST") for end in ("MIN", "MAX")
        ]
        assert theirs == [task.return_min, task.return_max, task.cost_min, task.cost_max]
        assert infos.DEFAULT_MAX_EPISODE_STEPS[name] == task.steps


def test_the_settings_for_thinning_are_those_of_the_package(dsrl):
    ours = {
        f"{TASKS[name].id}_density{share}": {"cbins": 10, "rbins": bins, "max_npb": most, "min_npb": 2}
        for name, shares in DENSITY.items()
        for share, (bins, most) in shares.items()
    }
    assert ours == import_module("dsrl.infos").DENSITY_CFG


@pytest.mark.parametrize("name", TASKS)
def test_scores_are_those_of_the_environment(make, name):
    task, env = TASKS[name], make(TASKS[name].id)
    inner = env.unwrapped
    assert (inner.min_episode_reward, inner.max_episode_reward) == (task.return_min, task.return_max)
    assert (inner.min_episode_cost, inner.max_episode_cost) == (task.cost_min, task.cost_max)
    assert inner.dataset_url == ADDRESS + task.file
    for limit in (0, task.fisor_limit, *task.limits):
        env.set_target_cost(limit)
        for ret, cost in ((-3.25, 0.0), (100.0, 17.5), (1e4, 300.0)):
            ours = (normalized_return(task, ret), normalized_cost(cost, limit))
            assert env.get_normalized_score(ret, cost) == ours


def test_both_readers_give_the_same_log(make, tmp_path):
    env = make("OfflineBallRun-v0")
    rng = np.random.default_rng(0)
    small = make_log(30)
    obs = rng.normal(size=(31, 7)).astype(np.float32)
    path = write_log(tmp_path / "log.hdf5", replace(small, observations=obs[:-1], next_observations=obs[1:]))
    theirs, ours = env.get_dataset(str(path)), read_log(path).columns
    assert set(theirs) == set(ours)
    for key, value in theirs.items():
        np.testing.assert_array_equal(value, ours[key])
