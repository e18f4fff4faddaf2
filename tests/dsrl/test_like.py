"""Logs like DSRL's: mixed quality, the same from the same seed, continued where they were stopped, compared by hash."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from safeplan.data import read_log
from safeplan.data.dsrl import TASKS
from safeplan.data.dsrl_process import totals

pytestmark = pytest.mark.usefixtures("dsrl")

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_dsrl_like.py"
spec = importlib.util.spec_from_file_location("make_dsrl_like", SCRIPT)
like = importlib.util.module_from_spec(spec)
sys.modules["make_dsrl_like"] = like
spec.loader.exec_module(like)


def run(folder, episodes, *more):
    return like.main(
        ["BallRun", "--episodes", str(episodes), "--out", str(folder), "--processes", "1", *map(str, more)]
    )


def test_a_log_of_mixed_quality_that_says_what_it_is(tmp_path, capsys):
    assert run(tmp_path, 30) == 0
    log = read_log(tmp_path / "BallRun-like-30-seed0.hdf5")
    _, returns, costs = totals(log)
    assert 10 < len(returns) <= 30 and costs.min() == 0 and 0 < costs.max() <= TASKS["BallRun"].cap
    assert returns[costs > 0].max() > returns[costs == 0].max()  # there is something to be tempted by
    assert "simulated" in log.attrs["origin"] and log.attrs["drawn"] == 30 and log.attrs["seed"] == 0
    assert "none is recorded" in capsys.readouterr().out


def test_stopped_it_continues_and_seeds_count(tmp_path, monkeypatch):
    run(tmp_path / "whole", 30)
    roll, made = like.roll, []

    def stop(*job):
        if made:
            raise KeyboardInterrupt
        made.append(job[-2])
        return roll(*job)

    monkeypatch.setattr(like, "roll", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "halves", 30)
    monkeypatch.setattr(like, "roll", lambda *job: made.append(job[-2]) or roll(*job))
    run(tmp_path / "halves", 30)
    assert made == [0, 25]
    name = "BallRun-like-30-seed0.hdf5"
    assert read_log(tmp_path / "whole" / name).digest() == read_log(tmp_path / "halves" / name).digest()
    run(tmp_path / "other", 26, "--seed", 1)
    assert len(made) == 4


def test_hashes_are_recorded_and_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(like, "HASHES", tmp_path / "hashes.json")
    run(tmp_path, 3, "--record")
    run(tmp_path, 3)
    known = json.loads((tmp_path / "hashes.json").read_text())
    assert list(known) == ["BallRun-like-3-seed0.hdf5"]
    (tmp_path / "hashes.json").write_text(json.dumps({k: "0" * 64 for k in known}))
    run(tmp_path, 3)
    out = capsys.readouterr().out
    assert "recorded\n" in out and "as recorded" in out and "IS NOT 000000000000" in out


@pytest.mark.parametrize("task", sorted(set(like.EPISODES) - set(like.ROUNDS)))
def test_demonstrators_act_within_bounds_and_differ(task):
    from safeplan_envs.dsrl.demonstrators import DRIVERS, Demonstrator, Style

    assert set(DRIVERS) == set(like.EPISODES) - set(like.ROUNDS)
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(50, 12))
    for seed in range(30):
        drive = Demonstrator(task, 50, np.random.default_rng(seed))
        actions = np.array([drive(o) for o in obs])
        assert actions.shape == (50, 2) and np.abs(actions).max() <= 1 and np.isfinite(actions).all()
    styles = [Style.draw(task, rng) for _ in range(400)]
    assert 0.35 < np.mean([s.careful for s in styles]) < 0.55 and any(s.lost for s in styles)


def test_bad_number_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, 0)
    assert like.main(["PointGoal1", "--episodes", "7", "--out", str(tmp_path)]) == 2
    assert "give 8 or more" in capsys.readouterr().err


def goal(folder, *more):
    return like.main(["PointGoal1", "--episodes", "8", "--out", str(folder), "--processes", "1", *more])


def test_rounds_continue_where_they_were_stopped(tmp_path, monkeypatch):
    facts = replace(TASKS["PointGoal1"], cap=1000)  # so that all eight episodes are kept
    monkeypatch.setitem(TASKS, "PointGoal1", facts)
    goal(tmp_path / "whole")
    roll, made = like.roll, []

    def stop(*job):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(job[3])
        return roll(*job)

    monkeypatch.setattr(like, "roll", stop)
    with pytest.raises(KeyboardInterrupt):
        goal(tmp_path / "halves")
    monkeypatch.setattr(like, "roll", lambda *job: made.append(job[3]) or roll(*job))
    goal(tmp_path / "halves")
    assert made == [0, 2, 4, 6]  # first episodes of the rounds
    name = "PointGoal1-like-8-seed0.hdf5"
    whole = read_log(tmp_path / "whole" / name)
    assert whole.digest() == read_log(tmp_path / "halves" / name).digest()
    assert whole.attrs["rounds"] == 4 and len(whole) == 8000 and "simulated" in whole.attrs["origin"]
