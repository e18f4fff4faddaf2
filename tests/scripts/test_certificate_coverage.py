"""scripts/certificate_coverage.py: its truths are true, a broken promise makes it fail, it goes on where it ended."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("certificate_coverage", ROOT / "scripts" / "certificate_coverage.py")
coverage = sys.modules["certificate_coverage"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(coverage)


def test_true_risks_are_those_of_the_draws():
    rng = np.random.default_rng(0)
    plans = coverage.family(rng, 5, 0.02, 0.2)
    k = plans.hits(rng, 40_000, np.arange(5)).sum(axis=0)
    assert min(binomtest(int(a), 40_000, p).pvalue for a, p in zip(k, plans.risk, strict=True)) > 0.002


def test_stopping_follows_each_repetition():
    looks, allowed = np.array([10, 20, 30]), np.array([-1, 2, 3])
    k = np.array([[0, 1, 9], [0, 3, 3], [4, 4, 4], [1, 3, 4]])
    draws, certified = coverage.stop(k, looks, allowed)
    assert draws.tolist() == [20, 30, 10, 30] and certified.tolist() == [True, True, False, False]


def test_few_repetitions_write_every_row_and_the_table(tmp_path, monkeypatch, capsys):
    names = [next(iter(t)) for t in (coverage.BOUNDS, coverage.STOPPING, coverage.MODEL)] + [coverage.CHAIN]
    monkeypatch.setattr(coverage, "TABLES", {k: v for k, v in coverage.TABLES.items() if k in names})
    assert coverage.main(["--repetitions", "15", "--out", str(tmp_path)]) == 0
    data = json.loads((tmp_path / "certificate_coverage.json").read_text())
    assert {r["setting"] for r in data["rows"]} == set(names) and data["made_with"]["numpy"] and data["broken"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["certificate_coverage.json"]
    assert "promises broken" in capsys.readouterr().out
    table = runpy.run_path(str(ROOT / "scripts" / "make_readme_tables.py"))["table"]
    text = table("certificate_coverage", tmp_path)
    assert "same samples again" in text and "15 repetitions" in text


def test_a_broken_promise_is_an_exit_status_and_a_killed_run_goes_on(tmp_path, monkeypatch, capsys):
    ran = []

    def table(rate):
        def rows(name, rng, reps):
            ran.append(name)
            if rate is None:
                raise KeyboardInterrupt
            return [coverage.row("m", True, np.arange(reps) < rate * reps)]

        return rows

    monkeypatch.setattr(coverage, "TABLES", {"good": table(0.05), "killed": table(None)})
    with pytest.raises(KeyboardInterrupt):
        coverage.main(["--out", str(tmp_path)])
    monkeypatch.setattr(coverage, "TABLES", {"good": table(0.05), "killed": table(0.08)})
    assert coverage.main(["--out", str(tmp_path)]) == 1
    assert ran == ["good", "killed", "killed"]
    rows = json.loads((tmp_path / "certificate_coverage.json").read_text())["rows"]
    assert [r["kept"] for r in rows] == [True, False] and "BROKEN" in capsys.readouterr().out
