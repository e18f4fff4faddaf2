"""A study continues where it was killed, refuses other settings, and its table says what the rows say."""

import json

import pytest

from safeplan.errors import ConfigError, DataError
from safeplan.evaluation import study
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
    return {"reached": True, "collided": False, "planning_ms": [len(planner) * base + seed]}


def test_bad_files_are_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_study(tmp_path / "none.jsonl")
    (tmp_path / "x.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="no study header"):
        read_study(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text('{"study": 1}\n{oops\n')
    with pytest.raises(DataError, match="line 2 is no JSON"):
        read_study(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text('{"study": 1}\n')
    with pytest.raises(DataError, match="line 1 has settings = None"):
        read_study(tmp_path / "x.jsonl")


GOOD = {"planner": "safeplan", "seed": 0, "reached": True, "collided": False, "planning_ms": [1.5]}
HEADER = {"study": 1, "settings": {}, "made_with": {"safeplan": "0.0.1"}}


def study_file(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in (HEADER, *lines)))
    return path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (12, "is 12, expected a row"),
        ([], r"is \[\], expected a row"),
        ({}, "has no planner"),
        ({k: v for k, v in GOOD.items() if k != "seed"}, "has no seed"),
        ({k: v for k, v in GOOD.items() if k != "planning_ms"}, "has no planning_ms"),
        ({k: v for k, v in GOOD.items() if k != "reached"}, "has no reached"),
        ({**GOOD, "planner": 3}, "has planner = 3, expected str"),
        ({**GOOD, "seed": "0"}, "has seed = '0', expected int"),
        ({**GOOD, "collided": None}, "has collided = None, expected bool"),
        ({**GOOD, "planning_ms": 3}, "has planning_ms = 3, expected list"),
        ({**GOOD, "planning_ms": ["x"]}, r"has planning_ms = \['x'\], expected finite"),
        ('{"planner": "safeplan", "seed": NaN}', "has seed = 'NaN'"),
    ],
)
def test_lines_that_are_no_rows_are_named(tmp_path, line, words):
    path = study_file(tmp_path / "s.jsonl", GOOD, line)
    with pytest.raises(DataError, match=rf"s\.jsonl: line 3 {words}.*Delete that line"):
        read_study(path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="line 3"):
        run_study(episode, PLANNERS, SEEDS, path, {})
    assert path.read_bytes() == before


def test_a_row_counts_once(tmp_path):
    """Of one planner and seed the first counts, however often its line is there."""
    path = study_file(tmp_path / "s.jsonl", GOOD, {**GOOD, "reached": False}, GOOD)
    assert read_study(path)[1] == [GOOD]
    _, rows = run_study(episode, ("safeplan",), SEEDS, path, {})
    assert [r["seed"] for r in rows] == [0, 1, 2, 3] and rows[0] == GOOD
    for planners, seeds in ((("mpc", "mpc"), SEEDS), ((), SEEDS), (PLANNERS, (1, 1)), (PLANNERS, ())):
        with pytest.raises(ConfigError, match="each once"):
            run_study(episode, planners, seeds, tmp_path / "t.jsonl", {})
    assert not (tmp_path / "t.jsonl").exists()


def test_a_row_without_its_outcome_is_not_written(tmp_path):
    with pytest.raises(DataError, match="planner safeplan, seed 0 has no reached; nothing was written"):
        run_study(lambda planner, seed: {"planning_ms": []}, PLANNERS, SEEDS, tmp_path / "s.jsonl", {})
    assert read_study(tmp_path / "s.jsonl")[1] == []


def test_going_on_with_other_versions_is_told(tmp_path, monkeypatch):
    path = tmp_path / "s.jsonl"
    made = {"safeplan": "1", "torch": "2", "casadi": "3", "numpy": "4", "device": "cpu", "machine": "m"}

    def go(seeds, **versions):
        monkeypatch.setattr(study, "provenance", lambda device: {**made, **versions})
        header, rows = run_study(episode, ("safeplan",), seeds, path, {})
        assert read_study(path) == (header, rows)
        return header, markdown(summarise(header, rows))

    header, text = go([0])
    assert header["made_with"] == made and "continued" not in header and "continued" not in text
    assert "continued" not in go([0], torch="9")[0]  # nothing was left to do with them
    go([0, 1], torch="9")
    header, text = go([0, 1, 2])
    assert header["made_with"] == made and header["continued"] == [{**made, "torch": "9"}, made]
    assert text.count("torch 2,") == text.count("; continued with safeplan 1, torch 9, casadi 3") == 1
    text = go([0, 1, 2, 3], numpy="5")[1]  # which the short form leaves out
    assert "numpy 4" in text and "numpy 5" in text
    assert sum("continued" in json.loads(line) for line in path.read_text().splitlines()) == 3


def test_strict_json_and_files_from_before(tmp_path):
    """Numbers that are not finite are strings; an older file that holds bare ones is the same study."""
    settings, path = {"sigma_max": float("inf")}, tmp_path / "s.jsonl"

    def far(planner, seed):
        return {**episode(planner, seed), "clearance": float("inf") if seed else float("nan")}

    def refuse(token):
        raise AssertionError(token)

    header, rows = run_study(far, ("safeplan",), (0, 1), path, settings)
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    assert header["settings"] == {"sigma_max": "Infinity"} and [r["clearance"] for r in rows] == ["NaN", "Infinity"]
    older = path.read_text().replace('"Infinity"', "Infinity").replace('"NaN"', "NaN")
    path.write_text(older)
    assert run_study(far, ("safeplan",), (0, 1), path, settings) == (header, rows) and path.read_text() == older


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
