"""A study continues where it was killed, refuses other settings, and its table says what the rows say."""

import json

import pytest

from safeplan.errors import ConfigError, DataError
from safeplan.evaluation.report import markdown, summarise
from safeplan.evaluation.study import read_study, run_study

PLANNERS, SEEDS = ("safeplan", "rival"), (0, 1, 2, 3)


def episode(planner: str, seed: int) -> dict:
    good = planner == "safeplan" or seed == 0
    return {"reached": good, "collided": seed == 3, "planning_ms": [10.0 + seed, 20.0]}


def test_all_jobs_are_done_once_and_kept(tmp_path):
    calls = []

    def work(planner, seed):
        calls.append((planner, seed))
        return episode(planner, seed)

    header, rows = run_study(work, PLANNERS, SEEDS, tmp_path / "s.jsonl", {"env": "toy"})
    assert [(r["planner"], r["seed"]) for r in rows] == [(p, s) for p in PLANNERS for s in SEEDS]
    assert header["made_with"]["safeplan"] and header["settings"] == {"env": "toy"}
    again = run_study(work, PLANNERS, SEEDS, tmp_path / "s.jsonl", {"env": "toy"})
    assert again == (header, rows) and len(calls) == 8


@pytest.mark.parametrize("cut", [1, 7])
def test_killed_while_writing_it_ends_with_the_same_rows(tmp_path, cut):
    path = tmp_path / "s.jsonl"
    whole = run_study(episode, PLANNERS, SEEDS, path, {})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]) + lines[4][:-cut])  # half a line at the end
    assert len(read_study(path)[1]) == 3
    assert run_study(episode, PLANNERS, SEEDS, path, {}) == whole
    assert len(path.read_bytes().splitlines()) == 9


def test_killed_by_an_exception_it_keeps_what_is_done(tmp_path):
    def work(planner, seed):
        if seed == 2:
            raise RuntimeError("power cut")
        return episode(planner, seed)

    with pytest.raises(RuntimeError):
        run_study(work, PLANNERS, SEEDS, tmp_path / "s.jsonl", {})
    assert len(read_study(tmp_path / "s.jsonl")[1]) == 4
    assert len(run_study(episode, PLANNERS, SEEDS, tmp_path / "s.jsonl", {})[1]) == 8


def test_more_seeds_continue_other_settings_are_refused(tmp_path):
    path = tmp_path / "s.jsonl"
    run_study(episode, PLANNERS, SEEDS[:2], path, {"a": 1})
    assert len(run_study(episode, PLANNERS, SEEDS, path, {"a": 1})[1]) == 8
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="other settings: a"):
        run_study(episode, PLANNERS, SEEDS, path, {"a": 2})
    assert path.read_bytes() == before


def test_two_writers_are_refused(tmp_path):
    path = tmp_path / "s.jsonl"

    def work(planner, seed):
        with pytest.raises(ConfigError, match="another process"):
            run_study(episode, PLANNERS, SEEDS, path, {})
        return episode(planner, seed)

    run_study(work, ("safeplan",), (0,), path, {})


def test_worker_processes_give_the_same_rows(tmp_path):
    from functools import partial

    one = run_study(partial(divmod_row, base=7), PLANNERS, SEEDS, tmp_path / "a.jsonl", {})[1]
    two = run_study(partial(divmod_row, base=7), PLANNERS, SEEDS, tmp_path / "b.jsonl", {}, processes=2)[1]
    assert one == two


def divmod_row(planner: str, seed: int, base: int) -> dict:
    return {"value": len(planner) * base + seed}


def test_bad_files_are_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_study(tmp_path / "none.jsonl")
    (tmp_path / "x.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="no study header"):
        read_study(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text('{"study": 1}\n{oops\n')
    with pytest.raises(DataError, match="no JSON"):
        read_study(tmp_path / "x.jsonl")


def test_table_says_what_the_rows_say(tmp_path):
    header, rows = run_study(episode, PLANNERS, SEEDS, tmp_path / "s.jsonl", {"env": "toy"})
    summary = json.loads(json.dumps(summarise(header, rows)))  # it is JSON
    ours, rival = summary["planners"]
    assert [ours[k]["k"] for k in ("goal reached", "no collision", "both")] == [4, 3, 3]
    assert [rival[k]["k"] for k in ("goal reached", "no collision", "both")] == [1, 3, 1]
    assert ours["planning_ms"]["p50"]["estimate"] == 16.5
    (pair,) = summary["paired"]
    assert (pair["goal reached"]["only_a"], pair["goal reached"]["p"]) == (3, 0.25)
    text = markdown(summary)
    assert "| safeplan | 4 | 100.0 % [39.8, 100.0] | 75.0 % [19.4, 99.4] |" in text
    assert "| rival | +75.0 [" in text and "p = 0.25" in text
    with pytest.raises(DataError, match="no rows"):
        summarise(header, [])
