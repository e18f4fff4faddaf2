"""The flows that ship: as exact as their table says, and a missing one is named."""

import numpy as np
import pytest
import torch

from safeplan.build import shipped_flow
from safeplan.dynamics.systems import system
from safeplan.errors import CheckpointError
from safeplan.reach.learned.trajectories import simulate


@pytest.mark.parametrize("name", ["vdp", "car", "pend"])
def test_gain_and_state_at_the_horizon(name):
    case = system(name)
    truth = simulate(case.loop, case.start.sample(2000, 1, np.random.default_rng(3)), case.reference, np.inf)
    flow = shipped_flow(name).push(torch.as_tensor(truth.states[0].T), torch.as_tensor(truth.theta), truth.times[-1:])
    assert truth.gain is not None
    gain = flow.gain[-1].numpy() - truth.gain[-1]
    state = (flow.states[-1].numpy() - truth.states[-1]) / truth.states[-1].std(1)[:, None]
    assert np.sqrt(np.mean(gain**2)) < 0.02 and np.sqrt(np.mean(state**2)) < 0.02


def test_a_flow_that_does_not_ship():
    with pytest.raises(CheckpointError, match=r"make it with scripts/make_flows.py nowhere"):
        shipped_flow("nowhere")
