"""Against numbers of the official agent (networks, losses, gradients' effect, whole updates, sampling, selection).

The file is not shipped: set SAFEPLAN_DATA to a folder with fisor_golden/fisor_golden.npz to run these.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from safeplan.feasibility import Fisor, FisorConfig
from safeplan.feasibility.agent import actor_lr
from safeplan.feasibility.losses import bellman, feasible_bellman, policy_weights

FILE = Path(os.environ.get("SAFEPLAN_DATA", "/nonexistent")) / "fisor_golden" / "fisor_golden.npz"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="no fisor_golden/fisor_golden.npz under $SAFEPLAN_DATA")

NAMED = ("observations", "actions", "rewards", "h", "masks", "next_observations")
NAMES = {"v": "V", "v_h": "Vh", "q": "Q", "q_h": "Qh", "q_target": "Q_target", "q_h_target": "Qh_target"}


def close(got, want, tol=2e-5):
    got, want = np.asarray(got.detach() if isinstance(got, torch.Tensor) else got), np.asarray(want)
    assert got.shape == want.shape
    assert (np.abs(got - want) / np.maximum(1, np.abs(want))).max() < tol


@pytest.fixture(scope="module")
def gold():
    return dict(np.load(FILE))


def parameters(gold, agent, prefix=""):
    """(parameter of ours, value of theirs) for all networks that the file holds under `prefix`."""

    def leaf(path):
        value = gold.get(prefix + path)
        return None if value is None else torch.tensor(value)

    pairs = []
    for ours, theirs in NAMES.items():
        net = agent.nets[ours]
        if ours in ("v", "v_h"):
            layers = ["MLP_0/Dense_0", "MLP_0/Dense_1", "OutputVDense"]
            for i, name in zip((0, 2, 4), layers, strict=True):
                kernel, bias = leaf(f"{theirs}/{name}/kernel"), leaf(f"{theirs}/{name}/bias")
                pairs += [(net.layers[i].weight, None if kernel is None else kernel.T), (net.layers[i].bias, bias)]
        else:
            root = f"{theirs}/VmapStateActionValue_0"
            for i, name in enumerate(("MLP_0/Dense_0", "MLP_0/Dense_1", "Dense_0")):
                bias = leaf(f"{root}/{name}/bias")
                pairs.append((net.weights[i], leaf(f"{root}/{name}/kernel")))
                pairs.append((net.biases[i], None if bias is None else bias[:, None]))
    for ours in ("actor", "actor_ema"):
        net = agent.nets[ours]
        dense = {"MLP_0/Dense_0": net.time[0], "MLP_0/Dense_1": net.time[2], "MLPResNet_0/Dense_0": net.inp}
        dense["MLPResNet_0/Dense_1"] = net.out
        w = leaf(f"{ours}/FourierFeatures_0/kernel")
        pairs.append((net.w, None if w is None else w[:, 0]))
        for i, block in enumerate(net.blocks):
            root = f"MLPResNet_0/MLPResNetBlock_{i}"
            dense |= {f"{root}/Dense_0": block.up, f"{root}/Dense_1": block.down}
            pairs.append((block.norm.weight, leaf(f"{ours}/{root}/LayerNorm_0/scale")))
            pairs.append((block.norm.bias, leaf(f"{ours}/{root}/LayerNorm_0/bias")))
        for name, layer in dense.items():
            kernel = leaf(f"{ours}/{name}/kernel")
            pairs += [(layer.weight, None if kernel is None else kernel.T), (layer.bias, leaf(f"{ours}/{name}/bias"))]
    return pairs


@pytest.fixture
def agent(gold):
    states, actions = gold["batch/states"], gold["batch/actions"]
    config = FisorConfig(batch=len(states), critic_rows=len(states), hidden=32, actor_width=32, dropout=0.0)
    agent = Fisor(states.shape[1], actions.shape[1], config)
    with torch.no_grad():
        for ours, theirs in parameters(gold, agent):
            assert theirs is not None
            ours.copy_(theirs)
    agent.nets.eval()
    return agent


@pytest.fixture
def batch(gold):
    names = {"observations": "states", "next_observations": "next_states", "actions": "actions", "rewards": "rewards"}
    names |= {"masks": "masks", "h": "costs"}
    return {k: torch.tensor(gold[f"batch/{v}"]) for k, v in names.items()}


def test_values_targets_and_weights(gold, agent, batch):
    obs, act = batch["observations"], batch["actions"]
    close(agent.v(obs), gold["out/V"])
    close(agent.v_h(obs), gold["out/Vh"])
    close(agent.q(obs, act), gold["out/q"])
    close(agent.q_h(obs, act), gold["out/qh"])
    close(agent._heads("q_h", obs, act), gold["out/Qh"])
    v_next, vh_next = agent.v(batch["next_observations"]), agent.v_h(batch["next_observations"])
    close(bellman(batch["rewards"], batch["masks"], v_next, 0.99), gold["out/y"])
    close(feasible_bellman(batch["h"], batch["masks"], vh_next, 0.99), gold["out/yh"])
    close(agent.weights(obs, act), gold["out/w"], 1e-4)
    kinds = gold["out/row_kind"]
    assert set(kinds) == {0, 1, 2}
    w = policy_weights(*(torch.tensor(gold[f"out/{k}"]) for k in ("V", "q", "Vh", "qh")))
    assert (w[kinds == 0] == 0).all()


def test_noise_network_and_actor_loss(gold, agent, batch):
    t, eps = torch.tensor(gold["fixed/t"]).float(), torch.tensor(gold["fixed/eps"])
    with torch.no_grad():
        x = torch.tensor(gold["out/noisy_actions"])
        close(agent.nets["actor"](x, t, {"obs": batch["observations"]}), gold["out/eps_hat"])
    w = torch.tensor(gold["out/w"])
    close(agent.actor_step(batch["observations"], batch["actions"], w, t, eps), gold["loss/actor"])


def test_critic_losses(gold, agent, batch):
    """V and V_h from the initial parameters; Q and Q_h there see the new V, so they are checked by whole updates."""
    found = agent.critic_step(*(batch[k] for k in NAMED))
    close(found["loss_v"], gold["loss/V"])
    close(found["loss_v_h"], gold["loss/Vh"])


def test_three_whole_updates(gold, agent, batch):
    half = len(batch["actions"]) // 2
    for k in range(3):
        with torch.no_grad():
            w = agent._weights(batch["observations"], batch["actions"])
        for i in range(2):
            part = slice(i * half, (i + 1) * half)
            t, eps = torch.tensor(gold["update3/t"][k, i]).float(), torch.tensor(gold["update3/eps"][k, i])
            loss = agent.actor_step(batch["observations"][part], batch["actions"][part], w[part], t, eps)
        found = agent.critic_step(*(batch[n] for n in NAMED))
        got = torch.stack([loss, found["loss_v"], found["loss_q"], found["loss_v_h"], found["loss_q_h"]])
        close(got, gold["update3/losses"][k], 1e-4)
    compared = 0
    for ours, theirs in parameters(gold, agent, "update3/"):
        if theirs is not None:
            # a gradient entry near rounding may flip an Adam step of 3e-4
            off = (ours.detach() - theirs).abs()
            assert off.max() < 2e-3 and off.mean() < 2e-6
            compared += 1
    assert compared > 30


def replay(gold, group):
    """Stands in for torch.randn: the start of all samples at once, then the noise of each step sample by sample."""
    steps = [row for step in gold[f"{group}/z"] for row in step]
    queue = iter([torch.tensor(v) for v in (gold[f"{group}/x_T"], *steps)])
    return lambda *a, **k: next(queue)


def test_sampling(gold, agent, monkeypatch):
    monkeypatch.setattr(torch, "randn", replay(gold, "sample"))
    states = torch.tensor(gold["sample/states"])
    close(agent.sample(states, torch.Generator()), gold["sample/final"], 1e-4)


def test_action_choice(gold, agent, monkeypatch):
    state = torch.tensor(gold["eval/state"])
    for pick in ("minqc", "maxq"):
        with monkeypatch.context() as m:
            m.setattr(torch, "randn", replay(gold, "eval"))
            close(agent.act(state, torch.Generator(), pick=pick), gold[f"eval/action_{pick}"], 1e-4)


def test_schedule_and_learning_rate(gold, agent):
    a = torch.tensor(agent._grid.a)[:-1].flip(0)
    close(a.square(), gold["diffusion/vp_T5/alpha_hats"], 1e-6)
    for step, lr in zip(gold["lr/steps"], gold["lr/actor"], strict=True):
        assert actor_lr(FisorConfig(), int(step)) == pytest.approx(float(lr), abs=1e-9)
    counts = {k: sum(p.numel() for p in n.parameters()) for k, n in agent.nets.items()}
    for ours, theirs in NAMES.items():
        assert counts[ours] == gold[f"count_here/{theirs}"]
