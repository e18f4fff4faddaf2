"""A flow whose states gather: as exact in units of the spread at the end as at the start; identity, derivatives."""

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from safeplan.errors import ShapeError
from safeplan.nets.flow_net import FlowNet
from safeplan.nets.following_flow_net import FollowingFlowNet, SpreadTable, gathers, spread_table
from safeplan.reach.learned.trajectories import Trajectories
from safeplan.training import load, train
from safeplan.training.flow import FlowConfig, FlowLearner, flow_from_trajectories

# two states turn into each other while they shrink by e^-10, which a third does not do
A = np.array([[-2.5, 1.5, 0.0], [-1.5, -2.5, 0.0], [0.0, 0.0, -0.2]])
TIMES = np.linspace(0.0, 4.0, 41)


def linear(n, seed):
    """Trajectories of xdot = A x in closed form, from a box that is not around the origin."""
    x = np.random.default_rng(seed).uniform(-1.0, 1.0, (3, n)) + np.array([[0.5], [0.0], [-0.3]])
    states = np.stack([expm(A * t) @ x for t in TIMES])
    gain = np.broadcast_to(-np.trace(A) * TIMES[:, None], (len(TIMES), n))
    return Trajectories(TIMES, states, gain.copy(), np.zeros((n, 1, 0)), float("inf"))


def scattered():
    """A net that follows the spread of the linear system, with random weights."""
    torch.manual_seed(0)
    data = linear(40, 0)
    return FollowingFlowNet(FlowNet(3, 1, (8,), 1.0), spread_table(data.times, data.states, data.gain))


def test_errors_are_small_in_units_of_the_spread_at_the_end(tmp_path):
    """One scale for the whole horizon is off by many times the spread at the end; the log-gain is known exactly."""
    data, test = linear(64, 1), linear(512, 2)
    config = FlowConfig(hidden=(32, 32), updates=800, batch=256, lr=5e-3)
    found = {}
    for follow in (True, False):
        learner, source = flow_from_trajectories(data, config, follow=follow)
        flow = load(train(learner, source, tmp_path / str(follow), updates=config.updates))
        got = flow.push(torch.as_tensor(test.states[0].T), torch.as_tensor(test.theta), TIMES[[20, 40]])
        miss = got.states.numpy() - test.states[[20, 40]]
        found[follow] = np.sqrt(np.square(miss).mean(2)) / test.states[[20, 40]].std(2)
        if follow:
            assert test.gain is not None
            np.testing.assert_allclose(got.gain.numpy(), np.broadcast_to(test.gain[[20, 40]], (2, 512)), atol=1e-3)
    assert found[True].max() < 0.2
    assert found[False].max() > 3


def test_which_systems_are_followed():
    data = linear(64, 1)
    assert gathers(data.states, 0.1) and not gathers(data.states[:3], 0.1)
    small = FlowConfig(hidden=(4,))
    assert isinstance(flow_from_trajectories(data, small)[0].net, FollowingFlowNet)
    assert isinstance(flow_from_trajectories(data, small, follow=False)[0].net, FlowNet)
    still = data._replace(states=np.zeros_like(data.states))
    assert isinstance(flow_from_trajectories(still, small)[0].net, FlowNet)


def test_the_map_is_the_identity_at_time_zero_whenever_it_begins():
    net, x = scattered(), torch.randn(50, 3)
    begin = torch.rand(50) * 4
    state, gain = net(x, torch.zeros(50, 0), torch.zeros(50), begin)
    assert torch.equal(state, x) and torch.equal(gain, torch.zeros(50))


def test_differentiable_in_state_and_times_and_one_graph():
    net = scattered().double()
    x, tau, begin = torch.randn(4, 3), torch.rand(4), torch.rand(4) * 2
    args = [a.double().requires_grad_(True) for a in (x, tau, begin)]
    assert torch.autograd.gradcheck(lambda a, b, c: net(a, torch.zeros(4, 0), b, c), args, atol=1e-6)
    graph = torch.compile(net, backend="eager", fullgraph=True)  # a break in the graph raises
    whole = graph(args[0], torch.zeros(4, 0), args[1], args[2])
    for got, want in zip(whole, net(args[0], torch.zeros(4, 0), args[1], args[2]), strict=True):
        torch.testing.assert_close(got, want)


def test_the_table():
    """The mean is exact; the spread is the largest to come; both are smooth; a state that rests is left alone."""
    data = linear(200, 3)
    rest = np.full((len(TIMES), 1, 200), 2.0)
    grows = np.random.default_rng(0).normal(size=(1, 1, 200)) * TIMES[:, None, None]
    table = spread_table(TIMES, np.concatenate([data.states, rest, grows], 1))
    mean, log_spread, _ = (v.numpy() for v in table(torch.as_tensor(TIMES)))
    np.testing.assert_allclose(mean[:, :3], data.states.mean(2), atol=1e-7)
    assert np.abs(log_spread[:, 0] - np.log(data.states[:, 0].std(1))).max() < 0.3
    np.testing.assert_array_equal(log_spread[:, 3], 0.0)
    np.testing.assert_allclose(log_spread[:, 4], np.log(grows[-1].std()), atol=1e-6)
    middle = (TIMES[:-1] + TIMES[1:]) / 2
    truth = np.stack([expm(A * t) for t in middle]) @ data.states[0].mean(1)
    assert np.abs(table(torch.as_tensor(middle))[0][:, :3].numpy() - truth).max() < 2e-3
    after, last = table(torch.tensor([9.0])), table(torch.tensor([4.0]))
    assert torch.equal(after[0], last[0]) and torch.equal(after[1], last[1])


@pytest.mark.parametrize("points", [2, 3, 5])
def test_few_times(points):
    table = spread_table(TIMES[:points], linear(20, 0).states[:points])
    assert isinstance(table, SpreadTable) and bool(torch.isfinite(table(torch.tensor([0.05]))[1]).all())


def test_not_beyond_what_was_taught():
    learner, _ = flow_from_trajectories(linear(20, 0), FlowConfig(hidden=(4,)), follow=True)
    flow = FlowLearner.restore(*learner.export())
    flow.push(torch.zeros(2, 3), torch.zeros(2, 1, 0), [4.0])
    with pytest.raises(ShapeError, match=r"times up to 5 s, but the spread of the states is known up to 4 s only"):
        flow.push(torch.zeros(2, 3), torch.zeros(2, 1, 0), [5.0])


def test_flows_from_before_load_with_one_scale():
    learner, _ = flow_from_trajectories(linear(20, 0), FlowConfig(hidden=(4,)), follow=False)
    tensors, meta = learner.export()
    assert "follows" not in meta and isinstance(FlowLearner.restore(tensors, meta).net, FlowNet)
