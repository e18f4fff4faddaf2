"""scripts/point_robot_iou.py: any critic keeps its calibrated promises; the exit status says when a goal is missed."""

import importlib.util
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from safeplan.evaluation import feasible_set as fs
from safeplan.evaluation.point_robot import RADIUS, violation
from safeplan.feasibility import Fisor, FisorConfig, FisorPolicy
from safeplan.training import FisorLearner, save_model

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("point_robot_iou", ROOT / "scripts" / "point_robot_iou.py")
script = sys.modules["point_robot_iou"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


@pytest.fixture
def run(tmp_path):
    """A run's folder with the checkpoint of an untrained agent; what it holds needs no training."""
    small = FisorConfig(hidden=16, actor_width=16, actor_blocks=1)
    tensors, meta = FisorLearner(Fisor(11, 2, small)).export()
    save_model(tmp_path / "run/checkpoints/000000010/model.safetensors", "fisor", tensors, meta, step=10, seed=0)
    (tmp_path / "run/metrics.csv").write_text("update,seconds\n10,60.0\n")
    return tmp_path / "run"


def test_a_run_that_is_not_there_is_said_at_once(capsys):
    assert script.main(["nowhere"]) == 2
    assert "nowhere: no such file" in capsys.readouterr().err


def command(run, *words):
    out = ["--out", f"{run.parent}/point_robot_iou.json", "--picture", f"{run.parent}/p.png"]
    status = script.main([str(run), "--points", "21", "--headings", "2", *out, *words])
    return status, json.loads((run.parent / "point_robot_iou.json").read_text())


def test_an_untrained_critic_is_poor_and_its_promises_are_kept(run, capsys):
    status, data = command(run, "--states", "3000", "--alpha", "0.1", "--delta", "0.1", "--curve")
    c, (iou, false_safe, promises) = data["calibration"], data["goals"].values()
    assert status == 1 and not iou and false_safe and promises
    assert c["new"]["false_safe"] <= 0.1 < c["new"]["false_unsafe"]
    low, high = c["new_false_safe_interval"]
    assert low < c["new"]["false_safe"] < high and c["threshold"] != 0.0
    assert [p["delta"] for p in c["promises"].values()] == [None, 0.1]
    for p in c["promises"].values():
        assert p["splits"] == 100 and p["calibrated_on"] + p["measured_on"] == c["states"]
    assert 0 < c["states"] < c["drawn"] == 3000 and data["curve"] == {"10": data["iou"]}
    said = capsys.readouterr().out
    assert said.count("kept\n") == 2 and "MISSED IoU" in said and "met    at most 10 % of new" in said
    text = runpy.run_path(str(ROOT / "scripts" / "make_readme_tables.py"))["table"]("point_robot_iou", run.parent)
    row = (c[kind][key] for kind in ("grid", "new") for key in ("iou", "false_safe"))
    assert f"| FISOR, calibrated | {' | '.join(f'{v:.4g}' for v in row)} |" in text
    assert "for all but 10 % of splits; found in 100 splits" in text and "BROKEN" not in text


def wavy(obs):
    """Almost the set of `braking`: its border is off by up to 6 cm, either way."""
    gap = RADIUS - np.minimum(obs[:, 5], obs[:, 8]) + 0.1 * obs[:, 2] ** 2
    return gap + 0.06 * np.sin(9 * obs[:, 0]) * np.cos(7 * obs[:, 1])


@pytest.fixture
def braking(monkeypatch):
    """A truth that costs no roll-outs, and a critic that nearly knows it."""
    monkeypatch.setattr(fs, "infeasible", lambda x: violation(x) + 0.1 * x[2] ** 2 > 0)
    monkeypatch.setattr(script, "falsify", lambda x, tries, rng: 0)
    monkeypatch.setattr(FisorPolicy, "v_h", lambda self, obs: wavy(obs))


def test_all_goals_are_met_by_a_good_critic_once_calibrated(run, braking, capsys):
    words = ("--states", "20000", "--alpha", "0.02", "--delta", "0.1")
    status, data = command(run, *words)
    c = data["calibration"]
    assert status == 0 and all(data["goals"].values()) and "MISSED" not in capsys.readouterr().out
    assert c["threshold"] < 0 and c["new"]["false_safe"] < 0.02 < c["new_at_zero"]["false_safe"]
    assert c["grid"]["false_safe"] < data["false_safe"]


def test_without_calibration_the_goals_are_missed(run, braking, monkeypatch, capsys):
    from safeplan.evaluation import calibration

    for module in (calibration, script):
        real = module.calibrate
        monkeypatch.setattr(module, "calibrate", lambda *a, real=real: replace(real(*a), threshold=0.0))
    status, data = command(run, "--states", "20000", "--alpha", "0.02", "--delta", "0.1")
    assert status == 1 and list(data["goals"].values()) == [True, False, False]
    assert data["calibration"]["new"]["false_safe"] == data["calibration"]["new_at_zero"]["false_safe"]
    assert capsys.readouterr().out.count("BROKEN") == 2
