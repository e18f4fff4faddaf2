"""The update that a CUDA graph holds is the update; what a device does not have is refused."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch

from safeplan.errors import ConfigError
from safeplan.feasibility import Fisor, FisorConfig
from safeplan.feasibility.agent import actor_lr, seeded
from safeplan.feasibility.budget import draw_shares
from safeplan.feasibility.graphed import GraphedFisor, fisor_class
from safeplan.rng import torch_rng
from safeplan.training import fisor_from_log, load_model, train
from tests.training.test_loop import SMALL as TRAINED
from tests.training.test_loop import assert_same, small_log

SMALL = FisorConfig(
    batch=64, critic_rows=32, hidden=16, actor_width=16, actor_blocks=1, dropout=0.0, actor_decay_steps=9, lr=1e-2
)


def batch(i: int, device: str = "cpu") -> dict[str, torch.Tensor]:
    g = torch_rng(0, "data", i)
    wide = {"observations": 3, "next_observations": 3, "actions": 2}
    made = {k: torch.rand(64, size, generator=g) for k, size in wide.items()}
    made |= {k: torch.rand(64, generator=g) for k in ("rewards", "masks")}
    made["returns"] = torch.rand(64, generator=g)
    made["costs"] = (torch.rand(64, generator=g) > 0.8).float()
    made["h"] = torch.where(made["costs"] > 0, 25.0, -1.0)
    return {k: v.to(device) for k, v in made.items()}


def assert_close(a: Fisor, b: Fisor) -> None:
    for (name, p), q in zip(a.nets.named_parameters(), b.nets.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


SQUARED = {"feasibility_loss": "squared", "critic_lr": 0.0}


@pytest.mark.parametrize(
    "change",
    [{}, SQUARED, {"skip_unweighted": False, "normalize_weights": False}, {"budget": 3.0}, {"condition_dropout": 0.4}],
)
def test_what_is_captured_is_the_update(change):
    """With the same draws, rates that fall and rows that weigh nothing: the same networks after each of four."""
    config = replace(SMALL, **change)
    sizes = (4 if config.budget else 3), 2
    plain, graphed = Fisor(*sizes, config, seed=1), GraphedFisor(*sizes, config, seed=1)
    skipped = 0
    for i in range(4):
        b, g = batch(i), torch_rng(1, i)
        share = draw_shares(64, torch_rng(2, i)) if config.budget else None
        t, noise = plain.path.draw(64, g), torch.randn(64, 2, generator=g)
        hidden = torch_uniform(i) < config.condition_dropout if config.condition_dropout else None
        plain.body(b, t, noise, share, hidden)
        graphed.fill(b)
        with (
            patch("torch.randint", lambda *a, t=t, **k: t.long()),
            patch("torch.randn", lambda *a, noise=noise, **k: noise),
            patch("torch.rand", lambda *a, i=i, **k: torch_uniform(i)),
        ):
            graphed.captured()
        obs = torch.cat([b["observations"], share[:, None]], -1) if share is not None else b["observations"]
        skipped += int((plain.weights(obs, b["actions"]) == 0).sum())
        assert_close(plain, graphed)
        assert plain.actor_updates == graphed.actor_updates == 2 * (i + 1)
    assert skipped > 0 or change != SQUARED
    assert float(graphed._rates[1]) == pytest.approx(actor_lr(config, 7))


_rand = torch.rand


def torch_uniform(i: int) -> torch.Tensor:
    return _rand(64, generator=torch_rng(2, i))


def test_checkpoints_of_a_gpu_hold_the_rates_of_the_settings():
    agent = GraphedFisor(3, 2, replace(SMALL, critic_lr=3e-3))
    agent._mark(capturable=True)
    agent.optimisers["actor"].param_groups[0]["lr"] = agent._rates[0]  # as while capturing
    agent._as_anywhere()
    rates = {k: o["param_groups"][0] for k, o in agent.state_dict()["optimisers"].items()}
    assert {k: r["lr"] for k, r in rates.items()} == dict.fromkeys(("v", "q", "v_h", "q_h"), 3e-3) | {"actor": 1e-2}
    assert not any(r["capturable"] for r in rates.values())


def test_what_the_device_does_not_have():
    assert fisor_class(SMALL, "cpu") is Fisor and fisor_class(replace(SMALL, graph="off"), "cuda") is Fisor
    assert fisor_class(SMALL, "cuda") is GraphedFisor
    with pytest.raises(ConfigError, match="device cpu has no CUDA graphs; use auto or off"):
        fisor_from_log(small_log(), replace(TRAINED, graph="on"))
    with pytest.raises(ConfigError, match=r"'tf32', which device cpu does not have; use float32 or bfloat16"):
        fisor_from_log(small_log(), replace(TRAINED, precision="tf32"))
    with pytest.raises(ConfigError, match=r"fisor\.graph is 'yes', expected one of auto, on, off"):
        replace(SMALL, graph="yes")
    with pytest.raises(ConfigError, match="call update first"):
        GraphedFisor(3, 2, SMALL).replay()


def test_bfloat16_rounds_the_actor_alone_and_learns_alike():
    """Critics stay bit for bit what they were; the actor's loss moves by what 8 bits leave open."""
    found = []
    for precision in ("float32", "bfloat16"):
        agent = Fisor(3, 2, replace(SMALL, precision=precision, lr=3e-3, actor_decay_steps=0))
        found.append((agent, [agent.update(batch(i % 5), torch_rng(3, i)) for i in range(60)]))
    (_, exact), (b, rounded) = found
    assert all(p.dtype == torch.float32 for p in b.nets.parameters())
    for key in ("loss_v", "loss_q", "loss_v_h", "loss_q_h"):
        assert all(torch.equal(x[key], y[key]) for x, y in zip(exact, rounded, strict=True))
    one, two = (np.array([float(f["loss_actor"]) for f in run]) for run in (exact, rounded))
    assert (one != two).any() and two[-20:].mean() == pytest.approx(one[-20:].mean(), rel=0.05)
    assert one[-20:].mean() < 0.9 * one[:5].mean()


@pytest.mark.gpu
@pytest.mark.parametrize("change", [{}, {"budget": 3.0}, {"dropout": 0.1}, {"condition_dropout": 0.4}])
def test_replays_are_the_update(change):
    """Replay after replay what the same function does launched kernel by kernel, dropout too."""
    config = replace(SMALL, **change)
    sizes = (4 if config.budget else 3), 2
    replayed, eager = (GraphedFisor(*sizes, config, seed=1, device="cuda") for _ in range(2))
    for i in range(4):
        b = batch(i, "cuda")
        found = replayed.update(b, torch_rng(1, i))
        eager.fill(b)
        seed = int(torch.randint(2**62, (1,), generator=torch_rng(1, i)))
        with seeded(seed, eager.device):
            launched = eager.captured()
        for key, value in launched.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)
        assert_close(replayed, eager)
        assert replayed.actor_updates == eager.actor_updates and replayed.updates == i + 1


@pytest.mark.gpu
@pytest.mark.parametrize("change", [{}, {"graph": "off"}, {"precision": "tf32"}, {"precision": "bfloat16"}])
def test_a_resumed_run_on_a_gpu_is_the_unkilled_one(change, tmp_path):
    def go(run, updates):
        learner, source = fisor_from_log(small_log(), replace(TRAINED, **change), device="cuda")
        assert isinstance(learner.agent, GraphedFisor) == (change.get("graph") != "off")
        return train(learner, source, run, updates=updates, checkpoint_every=5, log_every=4)

    whole = go(tmp_path / "whole", 20)
    go(tmp_path / "killed", 12)
    torch.cuda.manual_seed(7)
    assert_same(go(tmp_path / "killed", 20), whole)
    assert load_model(whole).kind == "fisor"
