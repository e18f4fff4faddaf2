"""scripts/image_table.py on a tiny model: runs are read as chains, cost is held, the table resumes."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from safeplan.errors import ConfigError
from safeplan.training import save_model
from safeplan.training.classifier import classifier_from_set
from safeplan.training.image import image_from_set
from tests.synthetic_images import TINY, synthetic_set, write_mnist

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "image_table.py"
spec = importlib.util.spec_from_file_location("image_table", SCRIPT)
image_table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(image_table)


def test_runs_are_chains():
    run = image_table.parse("cfg:w=2,sigma_max=5+energy:metric=posterior")
    cfg = run.guidance
    assert cfg.chain == ["cfg", "energy"] and (cfg.cfg.w, cfg.cfg.sigma_max) == (2.0, 5.0)
    assert cfg.energy.metric == "posterior" and run.labelled and run.steps is None
    run = image_table.parse("unlabelled+pag:s=1@20")
    assert (run.guidance.chain, run.labelled, run.steps) == (["pag"], False, 20)
    assert image_table.parse("none").guidance.chain == [] and not image_table.parse("unlabelled").labelled
    for fault, said in {
        "cfg:v=2": "cfg has no setting 'v'; it has w",
        "cfgg": "Did you mean 'cfg'",
        "cfg@x": "no number of steps",
    }.items():
        with pytest.raises(ConfigError, match=said):
            image_table.parse(fault)
    for run in image_table.RUNS:
        image_table.parse(run)


def test_effects_are_held_against_their_errors():
    def row(fd, nfe=32.0):
        return {"fd": {"estimate": fd, "se": 0.1}, "nfe": nfe}

    runs = {"unlabelled": row(5.0), "unlabelled+pag:s=1": row(4.0), "unlabelled+pag:s=2": row(4.9)}
    runs |= {
        "cfg:w=2": row(3.0),
        "adaptive:w=2@16": row(3.1, 24.0),
        "cfg:w=3": row(3.0),
        "adaptive:w=3@16": row(3.0, 30),
    }
    found = {f["run"]: f["appears"] for f in image_table.effects(runs)}
    assert found == {
        "unlabelled+pag:s=1": True,
        "unlabelled+pag:s=2": False,
        "adaptive:w=2@16": True,
        "adaptive:w=3@16": False,
    }


def test_table_holds_the_cost_and_resumes(tmp_path, monkeypatch, capsys):
    learner, _ = image_from_set(synthetic_set(), TINY)
    judge, _ = classifier_from_set(synthetic_set())
    save_model(tmp_path / "w" / "image.safetensors", "image", *learner.export())
    save_model(tmp_path / "w" / "judge.safetensors", "classifier", *judge.export())
    write_mnist(tmp_path / "digits", n=12)
    argv = ["image_table.py", "mnist", "--weights", str(tmp_path / "w"), "--data", str(tmp_path / "digits")]
    argv += ["--out", str(tmp_path / "r"), "--n", "10", "--nfe", "5", "--device", "cpu"]

    def go(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", [*argv, *more])
        image_table.main()
        return (tmp_path / "r" / "image_table_mnist.study.jsonl").read_text()

    first = go("--runs", "none", "--seeds", "1")
    assert go("--runs", "none", "cfg:w=3", "unlabelled@3", "--seeds", "2").startswith(first)
    runs = json.loads((tmp_path / "r" / "image_table_mnist.json").read_text())["runs"]
    assert (runs["none"]["steps"], runs["cfg:w=3"]["steps"]) == (5, 2)
    assert runs["none"]["nfe"] == 5 and runs["cfg:w=3"]["nfe"] == 4 and runs["unlabelled@3"]["nfe"] == 3
    assert "accuracy" in runs["none"] and "accuracy" not in runs["unlabelled@3"]
    assert (tmp_path / "r" / "image_table_mnist.png").read_bytes().startswith(b"\x89PNG")
    assert runs["none"]["fd"]["low"] <= runs["none"]["fd"]["estimate"] <= runs["none"]["fd"]["high"]
    assert "| cfg:w=3 | 2 |" in capsys.readouterr().out
