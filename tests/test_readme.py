"""README: its Python runs, its commands exist, its tables are those of results/."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
PYTHON = [code for kind, code in BLOCKS if kind == "python"]
SHELL = [line.partition(" #")[0].strip() for kind, code in BLOCKS if kind == "bash" for line in code.splitlines()]


@pytest.mark.parametrize("code", PYTHON)
def test_python_blocks_run(code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    if code == PYTHON[0]:
        assert list(tmp_path.glob("*.png")) and done.stdout.startswith("certified")
    else:
        p, low, high = (float(v) for v in re.findall(r"\d\.\d+", done.stdout))
        assert 0.05 < low <= p <= high < 0.95


def test_the_examples_are_short():
    assert len(PYTHON) == 2
    assert all(len([x for x in code.splitlines() if x.strip()]) <= 15 for code in PYTHON)


def test_commands_are_accepted(capsys):
    """Every `safeplan` line composes; every make target and path exists."""
    from safeplan.cli.main import COMMANDS, main

    makefile = (ROOT / "Makefile").read_text()
    seen = set()
    for line in SHELL:
        words = [w for w in shlex.split(line) if not re.match(r"[A-Z_]+=", w)]
        if words[:1] == ["make"]:
            assert f"\n{words[1]}:" in makefile
        if words[:1] == ["safeplan"] and words[1] in COMMANDS:
            seen.add(words[1])
            main([words[1], *(w for w in words[2:] if w != "-m" and not w.startswith("seed=range")), "--cfg", "job"])
        for word in words:
            path = word.partition("=")[2] or word
            if path.startswith(("scripts/", "requirements/")):
                assert (ROOT / path).exists(), path
    assert {"plan", "train", "evaluate", "verify"} <= seen
    capsys.readouterr()


def test_tables_are_those_of_the_results():
    tables = runpy.run_path(str(ROOT / "scripts" / "make_readme_tables.py"))
    assert tables["main"](["--check"]) == 0


def test_tables_are_written_from_results_and_checked(tmp_path, capsys):
    tables = runpy.run_path(str(ROOT / "scripts" / "make_readme_tables.py"))
    readme, results = tmp_path / "README.md", tmp_path / "results"
    results.mkdir()
    readme.write_text("before\n<!-- table: toy -->\nstale\n<!-- end -->\nafter\n<!-- table: none -->\n<!-- end -->\n")
    (results / "toy.json").write_text(json.dumps({"rows": [{"a": 1, "b": 0.123456}], "note": "seed 0"}))
    assert tables["main"](["--check"], readme, results) == 1
    assert tables["main"]([], readme, results) == 0
    text = readme.read_text()
    assert "| 1 | 0.1235 |" in text and "stale" not in text and "seed 0" in text and "not run yet" in text
    assert text.startswith("before\n") and tables["main"](["--check"], readme, results) == 0
    capsys.readouterr()
