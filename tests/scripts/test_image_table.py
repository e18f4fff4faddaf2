"""scripts/image_table.py on a tiny model: runs are read as chains, cost is held, the table resumes."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
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
    assert image_table.parse("pag:layers=[0,2],s=1").guidance.pag.layers == [0, 2]
    assert image_table.parse("adaptive:per_sample=False").guidance.adaptive.per_sample is False
    for fault, said in {
        "cfg:v=2": "Key 'v' not in 'CfgConfig'",
        "cfg:w=abc": "could not be converted to Float",
        "cfgg": "Did you mean 'cfg'",
        "cfg@x": "no number of steps",
        "cfg:w=2+cfg:w=5": "cfg stands there twice",
    }.items():
        with pytest.raises(ConfigError, match=said):
            image_table.parse(fault)
    for run in (*image_table.RUNS, *image_table.BEYOND):
        image_table.parse(run)


def rows_of(means, noise=0.0, nfe=32.0, steps=16, key="fd"):
    """Rows whose samples share `noise`, so that differences are exact although each mean is not."""
    common = noise * np.random.default_rng(0).normal(size=10)
    return [
        {
            "planner": run,
            "seed": seed,
            "steps": steps,
            "nfe": nfe if run.startswith("cfg") else 0.75 * nfe,
            "seconds": 1.0,
            "columns": {key: {"value": mean, "left": list(mean + common + 0.001 * np.arange(10) * (len(run) % 3))}},
        }
        for run, mean in means.items()
        for seed in (0, 1)
    ]


def found_in(rows):
    return {(f["effect"], f["run"]): f["appears"] for f in image_table.effects(rows, image_table.table(rows))}


def test_effects_are_tested_on_pairs():
    """Each mean is uncertain by 3, their differences are not."""
    rows = rows_of({"unlabelled": 5.0, "unlabelled+pag:s=1": 4.0, "unlabelled+pag:s=2": 5.0}, noise=1.0)
    assert image_table.table(rows)["unlabelled"]["fd"]["high"] > 6
    assert found_in(rows) == {
        ("lowers the distance without labels", "unlabelled+pag:s=1"): True,
        ("lowers the distance without labels", "unlabelled+pag:s=2"): False,
    }
    one = rows_of({"cfg:w=2": 3.0, "adaptive:w=2@12": 3.03, "cfg:w=3": 3.0, "adaptive:w=3@12": 3.3}, noise=0.2)
    ag = {run: yes for (_, run), yes in found_in(one).items() if run.startswith("adaptive")}
    assert ag == {"adaptive:w=2@12": True, "adaptive:w=3@12": False}


@pytest.mark.parametrize(("apg", "kept"), [(4.0, True), (50.0, False)])
def test_apg_keeps_only_what_it_keeps(apg, kept):
    """Below CFG at the same scale is not enough."""
    found = found_in(rows_of({"cfg:w=2": 3.0, "cfg:w=8": 60.0, "apg:w=8": apg}))
    assert found[("CFG loses it at scale 8: fd", "cfg:w=8")]
    assert found[("APG loses at most a fifth of that: fd", "apg:w=8")] is kept


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
    other, _ = image_from_set(synthetic_set(), TINY, seed=1)
    save_model(tmp_path / "w" / "image.safetensors", "image", *other.export())
    with pytest.raises(ConfigError, match="sha256"):
        go("--runs", "none", "--seeds", "3")
    with pytest.raises(SystemExit):
        go("--runs", "none", "gfcg")
    assert "no such file" in capsys.readouterr().err
