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
    cfg = image_table.parse("cfg:w=2,sigma_max=5+energy:metric=posterior")
    assert cfg.chain == ["cfg", "energy"] and (cfg.cfg.w, cfg.cfg.sigma_max) == (2.0, 5.0)
    assert cfg.energy.metric == "posterior" and image_table.parse("none").chain == []
    with pytest.raises(ConfigError, match="cfg has no setting 'v'; it has w"):
        image_table.parse("cfg:v=2")
    with pytest.raises(ConfigError, match="Did you mean 'cfg'"):
        image_table.parse("cfgg")
    assert {"none", "cfg:w=2"} <= set(image_table.default_runs())


def test_table_holds_the_cost_and_resumes(tmp_path, monkeypatch, capsys):
    learner, _ = image_from_set(synthetic_set(), TINY)
    judge, _ = classifier_from_set(synthetic_set())
    save_model(tmp_path / "w" / "image.safetensors", "image", *learner.export())
    save_model(tmp_path / "w" / "judge.safetensors", "classifier", *judge.export())
    write_mnist(tmp_path / "digits", n=12)
    argv = ["image_table.py", "mnist", "--weights", str(tmp_path / "w"), "--data", str(tmp_path / "digits")]
    argv += ["--out", str(tmp_path / "r"), "--n", "8", "--nfe", "5", "--device", "cpu"]

    def go(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", [*argv, *more])
        image_table.main()
        return (tmp_path / "r" / "image_table_mnist.study.jsonl").read_text()

    first = go("--runs", "none", "--seeds", "1")
    assert go("--runs", "none", "cfg:w=3", "--seeds", "2").startswith(first)
    runs = json.loads((tmp_path / "r" / "image_table_mnist.json").read_text())["runs"]
    assert (runs["none"]["steps"], runs["cfg:w=3"]["steps"]) == (5, 2)
    assert runs["none"]["nfe"]["estimate"] == 5 and runs["cfg:w=3"]["nfe"]["estimate"] == 4
    assert runs["none"]["fd"]["low"] <= runs["none"]["fd"]["estimate"] <= runs["none"]["fd"]["high"]
    assert "| cfg:w=3 | 2 |" in capsys.readouterr().out
