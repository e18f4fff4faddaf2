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
    readme, page = tmp_path / "README.md", tmp_path / "results" / "README.md"
    page.parent.mkdir()
    readme.write_text("before\n<!-- table: toy -->\nstale\n<!-- end -->\nafter\n<!-- table: none -->\n<!-- end -->\n")
    page.write_text("<!-- table: toy -->\n<!-- end -->\n")
    (page.parent / "toy.json").write_text(json.dumps({"rows": [{"a": 1, "b": 0.123456}], "note": "seed 0"}))
    assert tables["main"](["--check"], tmp_path) == 1
    assert tables["main"]([], tmp_path) == 0
    text = readme.read_text()
    assert "| 1 | 0.1235 |" in text and "stale" not in text and "seed 0" in text and "not run yet" in text
    assert "| 1 | 0.1235 |" in page.read_text()
    assert text.startswith("before\n") and tables["main"](["--check"], tmp_path) == 0
    page.write_text("<!-- table: toy -->\nstale\n<!-- end -->\n")
    assert tables["main"](["--check"], tmp_path) == 1
    capsys.readouterr()


def test_the_front_page_is_short_and_its_excerpts_are_part_of_the_whole():
    """A row of an excerpt of closed loops or densities stands in the page of all results."""
    whole = (ROOT / "results" / "README.md").read_text()
    assert len(TEXT.splitlines()) < 350
    for name in ("evaluate_hovercraft", "evaluate_driving", "density_table"):
        rows = TEXT.partition(f"<!-- table: {name}, short -->")[2].partition("<!-- end -->")[0].splitlines()
        rows = [r for r in rows if r.startswith("|")]
        assert len(rows) > 3 and all(r in whole for r in rows)


def test_links_and_pictures_exist():
    for page in (ROOT / "README.md", ROOT / "results" / "README.md"):
        links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text())
        assert links and all((page.parent / link).is_file() for link in links)
