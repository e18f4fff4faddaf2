"""Cloning finds the conditional mean of a known policy; the safe one does not see unsafe episodes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from safeplan.baselines.offline import make
from safeplan.baselines.offline.bc import safe_rows
from safeplan.baselines.offline.facts import episode_sums
from safeplan.errors import DataError
from safeplan.rng import torch_rng
from tests.baselines.toy import H, descend, road_log


def guess(learner, speeds):
    obs = np.stack([speeds, np.full(len(speeds), 0.5)], 1)
    return learner.act(obs, learner.start(len(speeds), learner.facts.cost_limit), torch_rng(0))[0][:, 0]


def test_it_regresses_to_the_conditional_mean():
    """In the log the action is the last speed plus noise, cut at 1."""
    learner, source = make("bc", road_log(200, noise=0.1), 0.0, batch=128, hidden=32, lr=5e-3)
    descend(learner, source, 250)
    speeds = np.array([-0.4, 0.0, 0.3, 0.6])
    np.testing.assert_allclose(guess(learner, speeds), speeds, atol=0.06)


def test_the_safe_one_sees_safe_episodes_alone():
    log = road_log(50)
    rows = safe_rows(log, 2.0)
    kept = episode_sums(log, log.costs) <= 2.0
    assert 0 < kept.sum() < 50 and len(rows) == H * kept.sum()
    # what unsafe episodes do cannot be felt
    mad = log.actions.copy()
    mad[np.setdiff1d(np.arange(len(log)), rows)] = -1.0
    runs = []
    for actions in (log.actions, mad):
        learner, source = make("bc_safe", replace(log, actions=actions), 2.0, batch=32, hidden=16)
        descend(learner, source, 5)
        runs.append(learner.nets.state_dict())
    assert all(torch.equal(v, runs[1][k]) for k, v in runs[0].items())
    every = make("bc_safe", log, float("inf"), batch=8, hidden=16)[1]
    assert every.rows == len(log)


def test_no_safe_episode_is_an_error_with_its_remedy():
    with pytest.raises(DataError, match=r"no episode of the log costs at most 1, the least is 12. Give a larger limit"):
        make("bc_safe", road_log(5, low=0.9, high=0.95, noise=0.0), 1.0)
