"""Learned flows: the wiring on exact maps, what training reaches in seconds, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.systems import system
from safeplan.errors import DataError, ShapeError
from safeplan.nets.flow_net import FlowNet
from safeplan.reach import sobol_draw
from safeplan.reach.learned.flow import LearnedFlow
from safeplan.reach.learned.trajectories import Trajectories, controls_as_parameters, simulate
from safeplan.training import train
from safeplan.training.flow import FlowConfig, FlowLearner, PairSource, flow_from_trajectories
from safeplan.training.published_flow import EulerRuns, PublishedFlowConfig, PublishedFlowLearner, published_flow
from safeplan.types import Draw, Reference

A = np.array([[-0.4, 1.0], [-2.0, -0.3]])


class Exact(torch.nn.Module):
    """The flow of xdot = A x + theta in place of a network."""

    n, p = 2, 1
    segment_s, horizon_s = 0.3, float("inf")

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(3, dtype=torch.float64))

    def forward(self, x, theta, tau, begin=None):
        aug = np.zeros((3, 3))
        aug[:2, :2], aug[0, 2] = A, 1.0
        E = torch.as_tensor(np.stack([expm(aug * float(t)) for t in tau]))
        z = torch.cat([x, theta], 1)
        return torch.einsum("pij,pj->pi", E, z)[:, :2], -float(np.trace(A)) * tau


def linear(substeps=8):
    f = lambda t, x, u, theta, xp: (-0.4 * x[0] + x[1] + theta[0], -2.0 * x[0] - 0.3 * x[1])  # noqa: E731
    states = (Quantity("a"), Quantity("b"))
    return Equations("linear", states, (), (Quantity("d"),), f, dt=0.1, substeps=substeps)


def hold(steps, n=2):
    return Reference(np.zeros((steps + 1, n)), np.zeros((steps, 0)), np.zeros((steps, 0, n)), 0.1)


def particles(P=5, S=1, seed=0):
    rng = np.random.default_rng(seed)
    return Draw(rng.normal(size=(P, 2)), rng.normal(size=(P, S, 1)))


@pytest.mark.parametrize(("S", "stretch"), [(1, np.inf), (3, 0.5)])
def test_short_maps_in_a_row_are_the_long_flow(S, stretch):
    """Against RK4, at times inside segments, on their ends, and with parameters that change on the way."""
    draw = particles(S=S)
    times = np.array([0.0, 0.1, 0.3, 0.45, 0.5, 0.9, 1.2])
    flow = LearnedFlow(Exact(), stretch)  # type: ignore[arg-type]
    got = flow.push(torch.as_tensor(draw.x), torch.as_tensor(draw.theta), times)
    # a fine twin: 24 substeps of 1/240 s make every time fall on the grid
    twin = simulate(linear(24), draw, hold(12), stretch, points=10_000)
    at = [int(np.argmin(np.abs(twin.times - t))) for t in times]
    np.testing.assert_allclose(got.states.numpy(), twin.states[at], atol=1e-6)
    np.testing.assert_allclose(got.gain.numpy(), twin.gain[at], atol=1e-6)


def test_jacobian_gives_the_gain_without_a_label():
    draw = particles()
    args = torch.as_tensor(draw.x), torch.as_tensor(draw.theta), [0.2, 1.0]
    by_output = LearnedFlow(Exact()).push(*args)  # type: ignore[arg-type]
    by_jacobian = LearnedFlow(Exact(), jacobian=True).push(*args)  # type: ignore[arg-type]
    torch.testing.assert_close(by_jacobian.gain, by_output.gain, atol=1e-10, rtol=0)
    assert not by_jacobian.states.requires_grad


def test_differentiable_in_start_and_parameters():
    draw = particles()
    x, theta = (torch.as_tensor(a).requires_grad_(True) for a in draw)
    for jacobian in (False, True):
        out = LearnedFlow(Exact(), jacobian=jacobian).push(x, theta, [1.0])  # type: ignore[arg-type]
        g = torch.autograd.grad(out.states[0, 0].sum(), (x, theta))
        np.testing.assert_allclose(g[0].numpy(), np.tile(expm(A)[0], (5, 1)), atol=1e-9)
        assert g[1].abs().min() > 0.1


def test_a_fresh_net_is_exact_at_time_zero():
    net = FlowNet(3, 2, (8,), 0.5)
    net.fit_scales(torch.randn(50, 5), torch.randn(50, 4))
    x = torch.randn(4, 3)
    state, gain = net(x, torch.randn(4, 2), torch.zeros(4))
    assert torch.equal(state, x) and torch.equal(gain, torch.zeros(4))


def test_pairs_are_the_data_and_stay_inside_a_stretch():
    loop, draw = linear(1), particles(P=7, S=3)
    data = simulate(loop, draw, hold(12), 0.4, points=12)
    assert data.stride == 4 and len(data.times) == 13
    source = PairSource(data, FlowConfig(reach=9, batch=400))
    b = source.batch(3, 0)
    assert b["tau"].max() == pytest.approx(0.4) and b["tau"].min() == pytest.approx(0.1)
    assert torch.equal(b["x"], source.batch(3, 0)["x"]) and not torch.equal(b["x"], source.batch(4, 0)["x"])
    flow = LearnedFlow(Exact()).net  # type: ignore[arg-type]
    state, gain = flow(b["x"].double(), b["theta"].double(), b["tau"].double())
    np.testing.assert_allclose(torch.cat([state, gain[:, None]], 1).numpy(), b["target"].numpy(), atol=2e-5)
    first = PairSource(data, FlowConfig(reach=12, batch=100, restarts=False)).batch(0, 0)
    assert set(first["x"][:, 0].tolist()) <= set(draw.x[:, 0].astype(np.float32).tolist())


@pytest.fixture(scope="module")
def van_der_pol():
    case = system("vdp")
    draw = sobol_draw(case.start, 64, 1, 1)
    test = sobol_draw(case.start, 512, 1, 9)
    return case, *(simulate(case.loop, d, case.reference, case.start.stretch_s) for d in (draw, test))


def errors(flow, test):
    got = flow.push(torch.as_tensor(test.states[0].T), torch.as_tensor(test.theta), test.times[-1:])
    rms = lambda e: float(np.sqrt(np.mean(np.square(e))))  # noqa: E731
    return rms(got.states[-1].numpy() - test.states[-1]), rms(got.gain[-1].numpy() - test.gain[-1])


def taught(data, tmp, **settings):
    config = FlowConfig(**{"hidden": (48, 48), "updates": 1500, "batch": 512, "lr": 5e-3, **settings})
    learner, source = flow_from_trajectories(data, config)
    return train(learner, source, tmp, updates=config.updates), learner


def test_seconds_of_training_and_why_short_maps(van_der_pol, tmp_path):
    """64 trajectories: short maps in a row beat one map for the whole horizon many times over."""
    from safeplan.training import load

    _, data, test = van_der_pol
    short = errors(load(taught(data, tmp_path / "a")[0]), test)
    whole = errors(load(taught(data, tmp_path / "b", reach=49, restarts=False)[0]), test)
    assert short[0] < 0.08 and short[1] < 0.2
    assert whole[0] > 2 * short[0] and whole[1] > 1.5 * short[1]


def test_without_labels_the_jacobian_serves(van_der_pol, tmp_path):
    from safeplan.training import load

    _, data, test = van_der_pol
    flow = load(taught(data._replace(gain=None), tmp_path)[0])
    assert flow.jacobian
    state, gain = errors(flow, test)
    assert state < 0.2 and gain < 1.5  # of gains with a standard deviation of 2.4


def test_one_flow_for_every_plan():
    """Controls as parameters: the same motion, the same divergence, whatever the command."""
    loop = system("factest_car").loop
    free = controls_as_parameters(loop)
    assert free.m == 0 and free.p == loop.p + loop.m
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (6, 3))
    command = np.array([1.3, -0.4])
    base = Reference(np.zeros((6, 3)), np.tile(command, (5, 1)), np.zeros((5, 2, 3)), 0.1)
    one = simulate(loop, Draw(x, np.zeros((6, 1, 0))), base, np.inf)
    none = Reference(np.zeros((6, 3)), np.zeros((5, 0)), np.zeros((5, 0, 3)), 0.1)
    two = simulate(free, Draw(x, np.tile(command, (6, 1, 1))), none, np.inf)
    np.testing.assert_array_equal(one.states, two.states)
    np.testing.assert_array_equal(one.gain, two.gain)
    assert controls_as_parameters(replace(loop, divergence=None)).divergence is None


def test_published_recipe(van_der_pol, tmp_path):
    """Labels are Euler's, every step has the stated length, the stages follow one another, the same run resumes."""
    from safeplan.training import load

    case, data, test = van_der_pol
    draw = Draw(data.states[0].T, data.theta)
    runs = EulerRuns(case.loop, draw, (), 49)
    x = data.states[0]
    for k in range(1, 3):
        x = x + 0.05 * np.array([x[1], (1 - x[0] ** 2) * x[1] - x[0]])
        np.testing.assert_allclose(runs.states[k], x)
    config = PublishedFlowConfig(epochs=40)
    learner, source = published_flow(case.loop, draw, (), 49, config)
    before = torch.cat([p.flatten() for p in learner.net.parameters()]).detach().clone()
    first = learner.update(source.batch(0, 0), torch.Generator())
    after = torch.cat([p.flatten() for p in learner.net.parameters()]).detach()
    assert float((after - before).norm()) == pytest.approx(5e-3, rel=1e-3)
    for _ in range(39):
        last = learner.update(source.batch(0, 0), torch.Generator())
    assert last["states"] < first["states"]
    learner, source = published_flow(case.loop, draw, (), 49, config)
    flow = load(train(learner, source, tmp_path, updates=40))
    assert not flow.net.residual and errors(flow, test)[0] < 3.0
    assert flow.net(torch.zeros(1, 2), torch.zeros(1, 0), torch.zeros(1))[1] == 0


@pytest.mark.parametrize("kind", [FlowLearner, PublishedFlowLearner])
def test_checkpoints_of_another_shape_are_refused(kind):
    from safeplan.errors import CheckpointError

    with pytest.raises(CheckpointError, match="Train again"):
        kind.restore({"net.x": torch.zeros(1)}, {"n": 2, "p": 0})


def test_faults_of_trajectories():
    data = simulate(linear(1), particles(S=3), hold(12), 0.4, points=12)
    broken = data.states.copy()
    broken[2, 0, 1] = np.nan
    with pytest.raises(DataError, match="1 values of states are not finite"):
        data._replace(states=broken).check()
    with pytest.raises(DataError, match="not an even grid"):
        data._replace(times=data.times + 0.5).check()
    with pytest.raises(DataError, match=r"hold for 0.45 s, which is not a multiple of the grid's step 0.1"):
        data._replace(stretch_s=0.45).check()
    with pytest.raises(ShapeError, match="gain"):
        data._replace(gain=data.gain[:, :2]).check()
    with pytest.raises(ShapeError, match=r"expected \[T\]"):
        Trajectories(data.times, data.states[0], None, data.theta, 0.4).check()
    flow = LearnedFlow(FlowNet(2, 1, (4,)))
    with pytest.raises(ShapeError, match=r"x \(5, 3\)"):
        flow.push(torch.zeros(5, 3), torch.zeros(5, 1, 1), [1.0])
    for times in ([], [1.0, 0.5], [-1.0]):
        with pytest.raises(ShapeError, match="ascending"):
            flow.push(torch.zeros(5, 2), torch.zeros(5, 1, 1), times)
