"""The study of methods on simulated logs, in miniature: every kind of job runs, stops are continued, cells add up."""

import importlib.util
import json
import re
import sys
from dataclasses import make_dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from safeplan.baselines.offline.cpq import Cpq
from safeplan.data import Log
from safeplan.errors import ConfigError
from safeplan.evaluation.shared_study import held
from safeplan.evaluation.study import read_study

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


methods, shared, bench, table = map(script, ("dsrl_methods", "dsrl_rows", "dsrl_bench", "dsrl_table"))
KINDS = ("FISOR official", "FISOR", "FISOR, minqc", methods.BUDGET, methods.KEPT, methods.FAST)
KINDS += (f"{methods.FAST}, reserve", "FISOR, barrier on Q_h", "FISOR, one step", "FISOR, calibrated")
KINDS += ("FISOR, best of 64", "FISOR, one step, best of 256", "FISOR, one step, margin", "FISOR, Q and barrier")
KINDS += ("FISOR, Q, barrier, margin", "FISOR, CFG on return", "FISOR, CFG, barrier, margin", "BC", "BC-Safe")


@pytest.fixture(scope="module")
def logs(tmp_path_factory, dsrl):
    folder = tmp_path_factory.mktemp("like")
    like = script("make_dsrl_like")
    assert like.main(["BallRun", "--episodes", "60", "--out", str(folder), "--processes", "1"]) == 0
    return folder


def run(logs, out, methods=KINDS, *more):
    arguments = ["--methods", ";".join(methods), "--seeds", "2", "--updates", "3", "--episodes", "2"]
    return table.main([*arguments, "--data", str(logs), "--runs", str(out / "runs"), "--out", str(out), *more])


@pytest.fixture
def one_task(monkeypatch):
    suite = table.SUITES["bullet"]
    monkeypatch.setitem(table.SUITES, "bullet", replace(suite, tasks=("BallRun",), rows={}))
    small = {"batch": 32, "actor_steps": 1, "actor_width": 16, "actor_blocks": 1, "hidden": 16, "candidates": 2}
    for name, value in (small | {"critic_rows": 0}).items():
        monkeypatch.setitem(table.SMALL, name, value)


def test_every_kind_of_job(logs, tmp_path, one_task, capsys):
    assert run(logs, tmp_path) == 0
    summary = json.loads((tmp_path / "dsrl_bullet.json").read_text())
    cells = {(c["method"], c["limit"]): c for c in summary["cells"]}
    assert {m for m, _ in cells} == set(KINDS)
    assert [limit for m, limit in cells if m == "FISOR, normalised, budget"] == [10.0, 20.0, 40.0]
    one = cells["BC", 10.0]
    assert one["seeds"] == 2 and one["return"]["low"] <= one["return"]["estimate"] <= one["return"]["high"]
    low, high = (summary["logs"]["BallRun"][k] for k in ("low", "high"))
    assert one["scaled"]["estimate"] == pytest.approx((one["return"]["estimate"] - low) / (high - low))
    assert 0 <= one["violations"]["estimate"] <= 1 and len(one["by_seed"]["cost"]) == 2
    by_method = {o["method"]: o for o in summary["overall"]}
    assert by_method["FISOR"]["runs"] == 2 and by_method["FISOR"]["safe_runs"] <= 2
    assert by_method["CPQ"]["runs"] == 0 and summary["planned"]["BallRun/CPQ"] == 3
    curves = {c["method"]: c for c in summary["curves"]}
    assert {"FISOR official", "FISOR"} <= set(curves) <= {"FISOR official", "FISOR", "FISOR, one step"}
    assert all(len(c["costs"]) == len(c["updates"]) for c in curves.values())
    assert curves["FISOR"]["updates"] == [1, 2, 3]
    assert cells["FISOR, minqc", 10.0]["cpu_seconds"] is None and cells["FISOR", 10.0]["cpu_seconds"] > 0
    assert all((tmp_path / name).stat().st_size > 10_000 for name in summary["pictures"])
    out = capsys.readouterr().out
    assert "scaled return / cost over limit" in out and re.search(r"CPQ +not run", out)
    before = read_study(tmp_path / "dsrl_bullet.study.jsonl", table.KINDS)[1]
    assert run(logs, tmp_path) == 0 and run(logs, tmp_path, KINDS, "--summary") == 0  # nothing left to do
    assert read_study(tmp_path / "dsrl_bullet.study.jsonl", table.KINDS)[1] == before
    readme = script("make_readme_tables")
    text = readme.table("dsrl_bullet", tmp_path)
    assert re.search(r"\| FISOR, minqc \|.*\| - \|$", text, re.M)  # no CPU time of its own
    assert "| CPQ ‡ | not run |" in text and "2 of 5" in text and "![dsrl_bullet.png]" in text


def test_rows_of_a_method_that_has_changed_are_refused(logs, tmp_path, one_task, monkeypatch, capsys):
    assert run(logs, tmp_path, ("BC",)) == 0
    kept = (tmp_path / "dsrl_bullet.study.jsonl").read_bytes()
    monkeypatch.setitem(table.METHODS, "BC", replace(table.METHODS["BC"], candidates=3))
    capsys.readouterr()
    for more in ((), ("--summary",)):
        assert run(logs, tmp_path, ("BC",), *more) == 2
        assert "holds rows of methods that are made in another way now (2, the first " in capsys.readouterr().err
    assert (tmp_path / "dsrl_bullet.study.jsonl").read_bytes() == kept
    with pytest.raises(SystemExit):
        table.main(["--updates", "0"])
    assert "'0': give a whole number above 0" in capsys.readouterr().err


def test_constants_of_acting_and_defaults_make_a_row_what_it_is(monkeypatch):
    before = {m: methods.how(m) for m in methods.METHODS}
    assert before[methods.KEPT]["with"] == {"reserve": methods.RESERVE}
    assert before[methods.KEPT]["fisor"]["with"] == {"normalize": True, "normalize_clip": 5.0, "budget_root": True}
    monkeypatch.setitem(methods.ACTING, "steered", {"ascent": 1.0})
    more = make_dataclass("Settings", [("samples", int, 11)], bases=(Cpq.Settings,), frozen=True)
    monkeypatch.setattr(Cpq, "Settings", more)
    changed = {m for m in methods.METHODS if methods.how(m) != before[m]}
    assert changed == {"FISOR, Q and barrier", methods.BEST, "CPQ"}


def workbench(logs, folder, updates):
    return table.Bench(replace(table.SUITES["bullet"], updates=updates, episodes=2), logs, folder)


def test_a_job_depends_on_its_seed_alone(logs, tmp_path, one_task):
    work = [workbench(logs, tmp_path / name, 4) for name in ("a", "b")]
    first, again = (w("BallRun/FISOR", 1) for w in work)
    assert first["flights"] == again["flights"] != work[0]("BallRun/FISOR", 0)["flights"]
    assert first["curve"] == again["curve"] and [p["update"] for p in first["curve"]] == [1, 2, 3]
    assert work[0]("BallRun/FISOR, minqc", 1)["flights"].keys() == {"10"}


def test_a_killed_training_goes_on_and_says_what_it_measured(logs, tmp_path, one_task):
    whole = workbench(logs, tmp_path / "whole", 4)("BallRun/FISOR", 0)
    workbench(logs, tmp_path / "halves", 2).trained("BallRun", "FISOR", 0)
    rest = workbench(logs, tmp_path / "halves", 4)("BallRun/FISOR", 0)
    assert rest["flights"] == whole["flights"] and rest["curve"] == whole["curve"]
    assert (whole["cpu_seconds"]["updates"], rest["cpu_seconds"]["updates"]) == (4, 2)


def test_a_training_that_went_further_is_refused(logs, tmp_path, one_task):
    workbench(logs, tmp_path, 4).trained("BallRun", "FISOR", 0)
    with pytest.raises(ConfigError, match="has 4 updates, and 3 are asked for; give another --runs"):
        workbench(logs, tmp_path, 3).trained("BallRun", "FISOR", 0)


def test_methods_that_share_a_training_are_not_run_at_once(logs, tmp_path, one_task):
    work = workbench(logs, tmp_path, 3)
    shared = {
        work.claim(f"BallRun/{m}", 0)
        for m in ("FISOR", "FISOR, minqc", "FISOR, one step", "FISOR, one step, best of 256")
    }
    assert len(shared) == 1 and work.claim("BallRun/BC", 0) not in shared | {work.claim("BallRun/BC", 1)}
    with held(shared.pop()), held(work.claim("BallRun/FISOR, minqc", 0), wait=False) as mine:
        assert not mine


def test_rivals_get_the_same_cpu_time(logs, tmp_path, one_task):
    work = workbench(logs, tmp_path, 1000)
    count = work.count("BallRun", "BC", *work.learner("BallRun", "BC", 0))
    known = json.loads((tmp_path / "BallRun" / "seconds_per_update.json").read_text())
    assert count == max(1, round(1000 * known["FISOR"] / known["BC"]))
    assert work.count("BallRun", "FISOR", None, None) == 1000
    assert work.count("BallRun", "BC", None, None) == count  # kept, not measured again


def test_gates_of_rivals(logs, tmp_path, one_task, capsys, monkeypatch):
    """Clones and methods for any limit are those of the table; the others are trained again, without a limit."""
    assert run(logs, tmp_path, ("BC-Safe", "CDT", "CDT, reserve", "CPQ")) == 0
    for name, module in {"dsrl_methods": methods, "dsrl_rows": shared, "dsrl_bench": bench}.items():
        monkeypatch.setitem(sys.modules, name, module)  # other tests load these scripts too
    gates = script("rival_gates")
    argv = ["--methods", "BC-Safe;CDT;CPQ", "--updates", "3", "--episodes", "2", "--data", str(logs)]
    flown = {r["seed"]: r["flights"]["10"] for r in read_study(tmp_path / "dsrl_bullet.study.jsonl", table.KINDS)[1]
             if r["planner"] == "BallRun/BC-Safe"}  # fmt: skip
    argv += ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    made = set((tmp_path / "runs").rglob("checkpoints"))
    assert gates.main(argv) == 0
    more = {p.parts[-3:-1] for p in set((tmp_path / "runs").rglob("checkpoints")) - made}
    assert more == {("CPQ", "seed_0_without_limit"), ("BC-Safe", "seed_2")}  # the table has two seeds
    _, rows = read_study(tmp_path / "rival_gates_bullet.study.jsonl", gates.KINDS)
    made = [("BC-Safe", 0), ("BC-Safe", 1), ("BC-Safe", 2), ("CPQ", 0), ("CDT", 0)]
    assert [(r["planner"], r["seed"]) for r in rows] == [(f"BallRun/{m}", s) for m, s in made]
    assert [r["flight"] for r in rows[:2]] == [flown[0], flown[1]]
    for r in rows:
        low, high = r["gate"]["needed"]
        assert r["gate"]["reached"] == pytest.approx(sum(r["flight"]["returns"]) / 2)
        assert r["gate"]["passed"] == (low <= r["gate"]["reached"] and (high is None or r["gate"]["reached"] <= high))
    shown = json.loads((tmp_path / "rival_gates_bullet.json").read_text())["rows"]
    assert not any("reserve" in s["rival"] for s in shown)
    assert [s["passed"] for s in shown if s["rival"] == "BC"] == [None] and "at least" in shown[-2]["needed"]
    for suite in ("bullet", "safety"):  # each has a table of its own, that the study's reads
        monkeypatch.setitem(table.SUITES, "safety", table.SUITES["bullet"])
        assert run(logs, tmp_path, ("BC-Safe", "CDT", "CPQ"), "--suite", suite) == 0
        known = json.loads((tmp_path / f"dsrl_{suite}.json").read_text())["gates"]
        seeds = [known[f"BallRun/{m}"][1] for m in ("BC-Safe", "CPQ", "CDT, reserve", "BC")]
        assert seeds == ([3, 1, 1, 0] if suite == "bullet" else [0, 0, 0, 0])
    assert gates.main([*argv, "--data", str(tmp_path / "no logs"), "--summary"]) == 0
    before = (tmp_path / "rival_gates_bullet.study.jsonl").read_bytes()
    assert gates.main(argv) == 0 and (tmp_path / "rival_gates_bullet.study.jsonl").read_bytes() == before
    with pytest.raises(SystemExit):
        gates.main(["--methods", "FISOR"])
    assert "unknown rival 'FISOR': choose from BC," in capsys.readouterr().err
    monkeypatch.setitem(methods.METHODS, "CDT", replace(methods.METHODS["CDT"], settings={"batch": 9}))
    assert gates.main(argv) == 2 and gates.main([*argv, "--summary"]) == 2
    assert "made in another way now (1, the first BallRun/CDT, seed 0)" in capsys.readouterr().err
    assert (tmp_path / "rival_gates_bullet.study.jsonl").read_bytes() == before


def test_refusals(logs, tmp_path, one_task, capsys):
    assert run(tmp_path, tmp_path) == 2
    assert "make one: scripts/make_dsrl_like.py BallRun" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(logs, tmp_path, ["SAC"])
    assert "unknown method 'SAC'" in capsys.readouterr().err


def test_the_threshold_is_calibrated_on_rows_that_lead_into_a_violation():
    class Seen:
        def q_h(self, obs, actions):
            self.rows = obs[:, 0].astype(int).tolist()
            return -np.ones(len(obs))

    n, policy = 24, Seen()
    costs, ends = np.zeros(n, np.float32), np.zeros(n, bool)
    costs[[8, 9, 12, 22]], ends[[19, 23]] = 1.0, True
    rows = np.arange(n, dtype=np.float32)[:, None]
    log = Log(rows, rows, np.zeros((n, 1), np.float32), costs, costs, np.zeros(n, bool), ends)
    assert script("dsrl_bench").threshold(policy, log, alpha=0.5) == pytest.approx(-1.0)  # the next number below
    assert policy.rows == [4, 5, 6, 7, 8, 10, 11, 12, 20, 21, 22]  # 9 violates already, 19 is of another episode


def test_a_study_that_goes_on_elsewhere_trains_as_long_as_its_rows_say(tmp_path):
    made = [("BC", 1, 8), ("BC", 0, 7), ("FISOR, minqc", 0, 9)]  # the last acts with the training of another
    lines = [{"planner": f"BallRun/{m}", "seed": s, "updates": n, "how": methods.how(m)} for m, s, n in made]
    lines.append({"planner": "BallRun/CPQ", "seed": 0, "updates": 9, "how": {"made": "in another way"}})
    work = workbench(tmp_path, tmp_path, 4)
    work.known = shared.trained_so_far(lines)
    assert work.known == {"BallRun/BC": 7} and work.count("BallRun", "BC", None, None) == 7


def test_gates_are_counted_by_seed_and_hold_for_what_acts_with_the_training(tmp_path):
    passed = [("BC", False), ("BC", True), ("CDT", True), ("CPQ", None)]
    rows = [{"task": "BallRun", "rival": m, "passed": p} for m, p in passed]
    (tmp_path / "gates.json").write_text(json.dumps({"rows": rows}))
    plan = [f"BallRun/{m}" for m in ("FISOR", "BC", "CDT", "CDT, reserve", "CPQ")]
    found, counts = table.verdicts(tmp_path / "gates.json", plan), ((1, 2), (1, 1), (1, 1), (0, 0))
    assert found == {f"BallRun/{m}": n for m, n in zip(("BC", "CDT", "CDT, reserve", "CPQ"), counts, strict=True)}
    assert set(table.verdicts(tmp_path / "none.json", plan).values()) == {(0, 0)}
