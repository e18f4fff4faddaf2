"""Processes that share a study: no job twice, none left out, a killed one's job is done by the others."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from safeplan.errors import ConfigError, DataError
from safeplan.evaluation import shared_study
from safeplan.evaluation.shared_study import held, share_study
from safeplan.evaluation.study import read_study

KINDS = {"value": int}
JOBS = [(f"m{i}", seed) for seed in range(3) for i in range(4)]
WORKER = """
import sys, time
from pathlib import Path
from safeplan.evaluation import shared_study
folder, name, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
shared_study.PAUSE_S = 0.02
jobs = [(f"m{i}", seed) for seed in range(3) for i in range(4)]
def work(planner, seed):
    with open(folder / "begun", "a") as f:
        f.write(f"{planner} {seed} {name}\\n")
    time.sleep(seconds)
    return {"value": seed}
claim = lambda planner, seed: folder / "locks" / f"{planner}-{seed}"
_, rows = shared_study.share_study(work, jobs, folder / "s.jsonl", {"a": 1}, claim, kinds={"value": int})
assert len(rows) == 12
"""


def start(folder, name, seconds):
    return subprocess.Popen([sys.executable, "-c", WORKER, str(folder), name, str(seconds)])


def begun(folder):
    path = folder / "begun"
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.is_file() else []


def test_two_processes_do_every_job_once(tmp_path):
    pair = [start(tmp_path, name, 0.05) for name in "ab"]
    assert [p.wait(60) for p in pair] == [0, 0]
    who = begun(tmp_path)
    assert len(who) == 12 and len({w[:2] for w in who}) == 12
    header, rows = read_study(tmp_path / "s.jsonl", KINDS)
    assert sorted((r["planner"], r["seed"]) for r in rows) == sorted(JOBS)
    assert header["settings"] == {"a": 1} and "continued" not in header


def test_the_job_of_a_killed_process_is_done_by_the_other(tmp_path):
    stuck = start(tmp_path, "stuck", 600)
    while not begun(tmp_path):
        time.sleep(0.01)
    other = start(tmp_path, "other", 0)
    while len(begun(tmp_path)) < 12:  # all but the first, which it waits for
        time.sleep(0.01)
    assert other.poll() is None
    os.kill(stuck.pid, signal.SIGKILL)
    assert stuck.wait(10) == -signal.SIGKILL and other.wait(60) == 0
    assert [w[2] for w in begun(tmp_path) if w[:2] == ("m0", "0")] == ["stuck", "other"]


def run(folder, jobs=JOBS, settings=None, work=lambda planner, seed: {"value": seed}, tell=lambda text: None):
    def claim(planner, seed):
        return folder / "locks" / planner

    return share_study(work, jobs, folder / "s.jsonl", settings or {"a": 1}, claim, kinds=KINDS, tell=tell)


def test_half_a_line_is_done_again_in_the_order_asked_for(tmp_path):
    said = []
    run(tmp_path, tell=said.append)
    assert said == [f"{p}, seed {s}" for p, s in JOBS]
    path = tmp_path / "s.jsonl"
    path.write_bytes(path.read_bytes()[:-3])
    run(tmp_path, tell=said.append)
    assert said[12:] == ["m3, seed 2"]
    assert [json.loads(x).get("value") for x in path.read_text().splitlines()] == [None, *(s for _, s in JOBS)]


def test_a_held_job_is_left_for_later(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(shared_study.time, "sleep", lambda s: lock.__exit__(None, None, None))
    lock = held(tmp_path / "locks" / "m0")
    assert lock.__enter__()
    run(tmp_path, JOBS[:4], work=lambda p, s: done.append(p) or {"value": s})
    assert done == ["m1", "m2", "m3", "m0"]


@pytest.mark.parametrize("content", [b"notes of mine", b'{"a": 1}'])
def test_a_file_that_is_no_study_is_left_as_it_is(tmp_path, content):
    (tmp_path / "s.jsonl").write_bytes(content)
    with pytest.raises(DataError, match="bytes that are no study"):
        run(tmp_path)
    assert (tmp_path / "s.jsonl").read_bytes() == content


@pytest.mark.parametrize("content", [b'{"st', b'{"study": 1, "sett'])
def test_half_a_header_is_begun_anew(tmp_path, content):
    (tmp_path / "s.jsonl").write_bytes(content)
    assert len(run(tmp_path)[1]) == len(JOBS)


def test_refusals(tmp_path):
    run(tmp_path, JOBS[:2])
    with pytest.raises(ConfigError, match="other settings: a"):
        run(tmp_path, settings={"a": 2})
    with pytest.raises(ConfigError, match="name each once"):
        run(tmp_path, [("m", 0), ("m", 0)])
    with pytest.raises(DataError, match="planner m3, seed 0 has no value"):
        run(tmp_path, work=lambda p, s: {} if p == "m3" else {"value": 1})
    assert len(read_study(tmp_path / "s.jsonl", KINDS)[1]) == 3
