"""Against numbers of the official agent, by `scripts/fisor_parity.py`; and the check fails where it must."""

import importlib.util
import os
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from safeplan.errors import DataError
from safeplan.feasibility import Fisor, FisorConfig, FisorPolicy, official
from safeplan.feasibility import losses as formulas

ROOT = Path(__file__).resolve().parents[2]
FULL = Path(os.environ.get("SAFEPLAN_DATA", "/nonexistent")) / "fisor_golden" / "fisor_golden.npz"

spec = importlib.util.spec_from_file_location("fisor_parity", ROOT / "scripts" / "fisor_parity.py")
parity = importlib.util.module_from_spec(spec)
sys.modules["fisor_parity"] = parity  # dataclasses look themselves up
spec.loader.exec_module(parity)


@pytest.fixture(scope="module")
def gold():
    return parity.read(parity.DEFAULT)


def failed(rows):
    return {r.quantity for r in rows if not r.passed}


@pytest.mark.parametrize("path", [parity.DEFAULT, FULL], ids=["trimmed", "full"])
def test_all_quantities_agree(path):
    if not path.is_file():
        pytest.skip("no fisor_golden/fisor_golden.npz under $SAFEPLAN_DATA")
    rows = list(parity.compare(parity.read(path)))
    assert len(rows) > 70 and not failed(rows)
    assert sum(r.undecided for r in rows) == 0


def test_other_sizes_of_batch_are_read_from_the_file(gold):
    """Half of the rows: what is per row still agrees, means do not."""
    half = {k: v[:32] if k.startswith(("batch/", "fixed/")) else v for k, v in gold.items()}
    half |= {k: v[..., :32] if k in ("out/Q", "out/Qh", "out/Q_target", "out/Qh_target") else v[:32]
             for k, v in gold.items() if k.startswith("out/")}  # fmt: skip
    half.pop("dropout/keep_mask")
    assert not failed(parity.networks(half))
    wrong = failed(parity.losses(half))
    assert {"loss V", "loss Q", "loss actor", "gradient V"} <= wrong
    assert not wrong & {"target y", "target y_h", "weights", "noisy actions", "q, q_h"}


def swap(name, function):
    return patch.object(formulas, name, function)


FAULTS = {
    "expectile the other way": (
        lambda: swap("reversed_expectile", lambda u, tau: formulas.expectile(u, tau)),
        "losses", {"loss Vh", "gradient Vh"},
    ),
    "violation of the next state ignored": (
        lambda: swap("feasible_bellman", lambda h, mask, v, gamma: h),
        "losses", {"loss Qh", "gradient Qh"},
    ),
    "mish became relu": (
        lambda: patch("safeplan.nets.fisor_mlp.mish", torch.relu),
        "networks", {"network actor", "network actor_ema"},
    ),
    "the other head": (
        lambda: patch.object(FisorPolicy, "_heads", flipped(FisorPolicy._heads)),
        "losses", {"q, q_h", "weights"},
    ),
    "the mean noise": (
        lambda: patch.object(parity, "ddpm", temperate(parity.ddpm)),
        "sampling", {"sample: each step from its stored input", "sample: the whole chain"},
    ),
    "targets do not move": (
        lambda: patch.object(Fisor, "apply", lambda self, name, rate=0.0: self.optimisers[name].step()),
        "steps", {"target network Q_target", "target network actor_ema"},
    ),
    "schedule of another T": (
        lambda: patch.object(parity, "FisorVP", lambda T, schedule: real_path(T + 1, schedule=schedule)),
        "schedules", {"schedule vp_T5"},
    ),
}  # fmt: skip
real_path = parity.FisorVP


def flipped(heads):
    return lambda self, name, obs, actions: -heads(self, name, obs, actions)


def temperate(sampler):
    return lambda *a, **k: sampler(*a, temperature=0.0, **k)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(gold, fault):
    make, part, expected = FAULTS[fault]
    assert not failed(getattr(parity, part)(gold)) & expected
    with make():
        assert expected <= failed(getattr(parity, part)(gold))


def test_a_narrower_epsilon_of_the_layer_norm_is_found(gold):
    agent = parity.agent_of(gold)
    agent.nets["actor"].blocks[0].norm.eps = 1e-5
    with patch.object(parity, "agent_of", lambda *a: agent):
        assert "layer norm" in failed(parity.networks(gold))


def test_flipped_steps_are_counted_and_wrong_ones_are_not(gold):
    """An entry that rounding decides may differ by a few learning rates; any other may not differ at all."""
    moved = dict(gold)
    key = "update3/V/MLP_0/Dense_0/kernel"
    moved[key] = gold[key].copy()
    moved[key][0, 0] += 3e-4
    assert "three updates: V" in failed(parity.updates(moved))


def test_faults_of_the_file(gold, tmp_path, capsys):
    short = {k: v for k, v in gold.items() if k != "batch/states"}
    with pytest.raises(DataError, match="no entry 'batch/states'"):
        list(parity.compare(short))
    short = {k: v for k, v in gold.items() if k != "Q/VmapStateActionValue_0/Dense_0/bias"}
    with pytest.raises(DataError, match="parameters of Q are missing"):
        list(parity.compare(short))
    file = tmp_path / "broken.npz"
    file.write_bytes(b"PK broken")
    with pytest.raises(DataError, match="cannot be read"):
        parity.read(file)
    with pytest.raises(DataError, match="cannot be read"):
        parity.read(tmp_path / "missing.npz")


def test_exit_status(gold, tmp_path, monkeypatch, capsys):
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, **{**gold, "out/y": gold["out/y"] + 1e-3})
    for path, status in ((parity.DEFAULT, 0), (wrong, 1), (tmp_path / "none.npz", 2)):
        monkeypatch.setattr(sys, "argv", ["fisor_parity.py", str(path)])
        assert parity.main() == status
    out = capsys.readouterr()
    assert "1 above 1e-05" in out.out and "target y" in out.out and "none.npz: cannot be read" in out.err


def test_official_settings(gold):
    c = official()
    assert c != FisorConfig()
    assert (c.steps, c.candidates, c.batch, c.critic_rows, c.schedule, c.pick) == (5, 16, 2048, 256, "vp", "minqc")
    assert {k: float(gold[f"cfg/{k}"]) for k in ("discount", "tau", "actor_tau")} == pytest.approx(
        {"discount": c.gamma, "tau": c.target_rate, "actor_tau": c.ema_rate}
    )
