"""Neural controllers: they imitate their MPC as well as their card says, and are the same network everywhere."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from safeplan.dynamics.backends import NUMPY, TORCH
from safeplan.dynamics.mlp import Mlp, load_mlp
from safeplan.dynamics.mpc import Mpc
from safeplan.dynamics.systems import system
from safeplan.dynamics.systems.double_integrator import double_integrator_plant
from safeplan.errors import CheckpointError, PlanError
from safeplan.rng import numpy_rng
from tests.density_cases import particles

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "make_controllers.py"
spec = importlib.util.spec_from_file_location("make_controllers", SCRIPT)
assert spec is not None and spec.loader is not None
make_controllers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_controllers)
NAMES = tuple(make_controllers.LESSONS)


@pytest.mark.parametrize("name", NAMES)
def test_network_imitates_its_mpc_on_fresh_rollouts(name):
    """On rollouts of a stream of their own at least 95 % of the errors are within the 99 % of the card."""
    lesson, net = make_controllers.LESSONS[name], load_mlp(name)
    teacher = lesson.teacher()
    runs = [make_controllers.rollout(teacher, lesson, numpy_rng(0, "test of controllers", name, i)) for i in range(4)]
    x, u = (np.concatenate(part) for part in zip(*runs, strict=True))
    e = np.abs(np.stack(net(tuple(x.T), NUMPY), -1) - u)
    assert (np.mean(e < net.card["held"]["p99"], axis=0) > 0.95).all(), np.sort(e, axis=0)[-5:]
    share = np.sqrt((e**2).mean(0)) / u.std(0)
    assert (share < 0.1).all(), share  # the best constant would score 1


@pytest.mark.parametrize("name", NAMES)
def test_network_imitates_its_mpc_where_the_loop_goes(name):
    """On the states of the network's own closed loop, which is where an imitator drifts away."""
    net, teacher = load_mlp(name), make_controllers.LESSONS[name].teacher()
    _, flow = particles(system(name), 12, 0)
    x = flow.states[:: max(1, len(flow.times) // 4)].transpose(0, 2, 1).reshape(-1, flow.states.shape[1])
    e = make_controllers.errors(net, x, np.array([teacher(z) for z in x]))
    half = (net.high - net.low) / 2
    assert (np.array(e["rms"]) < 0.1 * half).all(), e


@pytest.mark.parametrize("name", NAMES)
def test_shipped_network_is_what_the_card_says(name):
    """Made from the present teacher; the card in words says what the files say."""
    net = load_mlp(name)
    teacher = make_controllers.LESSONS[name].teacher()
    assert net.card["teacher"] == teacher.fingerprint(), "the teacher has changed: run scripts/make_controllers.py"
    folder = ROOT / "safeplan" / "weights" / "controllers"
    assert (folder / "README.md").read_text() == make_controllers.card(folder)


def test_network_equals_a_torch_module_and_its_jacobian():
    net = load_mlp("robot")
    layers = []
    for W, b in zip(net.weights, net.biases, strict=True):
        layer = torch.nn.Linear(W.shape[1], W.shape[0]).double()
        layer.weight.data, layer.bias.data = torch.as_tensor(W), torch.as_tensor(b)
        layers += [layer, torch.nn.Tanh()]
    module = torch.nn.Sequential(*layers)
    x = torch.as_tensor(np.random.default_rng(0).uniform(net.domain_low, net.domain_high, (20, 4)))
    want = 4.0 * module(x)
    for xp, columns in ((NUMPY, tuple(x.numpy().T)), (TORCH, x.unbind(-1))):
        got = np.stack([np.asarray(c.detach()) if xp is TORCH else c for c in net(columns, xp)], -1)
        np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-12, atol=1e-12)
    jac = torch.func.vmap(torch.func.jacrev(lambda z: 4.0 * module(z)))(x).detach().numpy()
    for j in range(4):
        np.testing.assert_allclose(np.stack(net.partial(tuple(x.numpy().T), j, NUMPY), -1), jac[..., j], atol=1e-12)


def test_network_runs_in_the_precision_of_the_state():
    net = load_mlp("robot")
    x = torch.as_tensor(np.random.default_rng(1).uniform(net.domain_low, net.domain_high, (20, 4)))
    full, half = (torch.stack(net(x.to(kind).unbind(-1), TORCH)) for kind in (torch.float64, torch.float32))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), full, rtol=1e-4, atol=1e-4)


def test_network_stays_within_its_bounds_far_outside_the_domain():
    net = load_mlp("quad")
    u = np.stack(net(tuple(1e6 * np.random.default_rng(0).normal(size=(6, 50))), NUMPY), -1)
    assert np.isfinite(u).all() and (u >= net.low).all() and (u <= net.high).all()


def test_files_round_trip_and_faults_are_named(tmp_path):
    net = load_mlp("dint")
    net.save(tmp_path / "copy.json")
    back = load_mlp("copy", tmp_path)
    assert back.card == net.card and all((a == b).all() for a, b in zip(back.weights, net.weights, strict=True))
    with pytest.raises(CheckpointError, match="no such controller; make it with"):
        load_mlp("nobody")
    text = (tmp_path / "copy.json").read_text()
    for broken in ("{", text.replace('"layers"', '"leyers"'), "[]"):
        (tmp_path / "broken.json").write_text(broken)
        with pytest.raises(CheckpointError, match=r"broken.json: not a controller"):
            load_mlp("broken", tmp_path)
    cut = Mlp(net.weights[::-1], net.biases[::-1], net.low, net.high, net.domain_low, net.domain_high, {})
    cut.save(tmp_path / "turned.json")
    with pytest.raises(CheckpointError, match="do not follow each other"):
        load_mlp("turned", tmp_path)


def test_mpc_without_limits_is_the_linear_quadratic_one():
    """With room to spare its first control is the finite-horizon LQR's."""
    plant, dt, steps = double_integrator_plant(), 0.25, 12
    Q, R = np.diag([1.0, 0.5]), np.array([[2.0]])

    def stage(x, u, xp):
        return x[0] * x[0] + 0.5 * x[1] * x[1] + 2.0 * u[0] * u[0]

    mpc = Mpc(plant, stage, lambda x, xp: 0.0 * x[0], dt=dt, steps=steps)
    A, B = np.array([[1.0, dt], [0.0, 1.0]]), np.array([[0.5 * dt + dt**2 / 2], [dt]])
    P = np.zeros((2, 2))
    for _ in range(steps):
        S = P + Q
        K = np.linalg.solve(R + B.T @ S @ B, B.T @ S @ A)
        P = A.T @ S @ (A - B @ K)
    for x in ([0.2, 0.1], [-0.3, 0.2]):
        assert mpc(np.array(x)) == pytest.approx(-K @ x, abs=1e-6)
    with pytest.raises(PlanError, match="MPC of 'dint': no optimum from state"):
        mpc(np.array([np.nan, 0.0]))


def test_script_resumes_and_is_deterministic(tmp_path, monkeypatch):
    """Stopped after half its labels it goes on; labels, weights and card are those of one go."""
    lesson = make_controllers.LESSONS["dint"]._replace(rollouts=4, steps=5, adam=30, lbfgs=20)
    monkeypatch.setattr(make_controllers, "LESSONS", {"dint": lesson})
    monkeypatch.setattr(make_controllers, "SHARD", 2)
    make_controllers.labels("dint", "train", 2, 0, tmp_path / "a")
    calls = []
    whole = make_controllers.rollout
    monkeypatch.setattr(make_controllers, "rollout", lambda *a: calls.append(a) or whole(*a))
    nets = []
    for folder in ("a", "b"):
        args = ["dint", "--labels", str(tmp_path / folder), "--out", str(tmp_path / f"{folder}_out")]
        assert make_controllers.main(args) == 0
        nets.append((tmp_path / f"{folder}_out" / "dint.json").read_text())
    assert nets[0] == nets[1]
    assert len(calls) == (4 - 2) + 4 + 2 * 2  # rest of a, all of b, the held-out rollouts of both
    assert "| dint | 2-10-5-1 | 20 |" in (tmp_path / "a_out" / "README.md").read_text()
    assert not list(tmp_path.rglob("*.tmp*"))
    with pytest.raises(SystemExit):
        make_controllers.main(["toon"])
