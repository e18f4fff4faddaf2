"""FISOR end to end on simulator rollouts that are not shipped: set SAFEPLAN_DATA to run this."""

from dataclasses import replace

import numpy as np
import pytest

from safeplan.data import load_log, locate
from safeplan.errors import DataError
from safeplan.feasibility import FisorConfig
from safeplan.rng import torch_rng
from safeplan.training import fisor_from_log, load, train


def present() -> bool:
    try:
        return locate("velocity").is_file()
    except DataError:
        return False


@pytest.mark.skipif(not present(), reason="no velocity rollouts under $SAFEPLAN_DATA")
def test_from_the_file_to_actions(tmp_path):
    log = load_log("velocity")
    assert log.observations.shape == (48000, 17) and len(log.episodes) == 48
    config = replace(FisorConfig(), batch=64, critic_rows=64, hidden=32, actor_width=32, normalize=True)
    learner, source = fisor_from_log(log, config)
    assert set(source.columns["h"].unique().tolist()) == {-1.0, 25.0}
    last = train(learner, source, tmp_path, updates=30, checkpoint_every=30, log_every=10)
    agent = load(last)
    actions = agent.act(log.observations[:6], torch_rng(0))
    assert actions.shape == (6, 6) and np.abs(actions).max() <= 1 and np.isfinite(agent.v_h(log.observations)).all()
