"""The analytic bench finds every effect that it looks for, on fewer samples."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "guidance_bench.py"
spec = importlib.util.spec_from_file_location("guidance_bench", SCRIPT)
guidance_bench = sys.modules["guidance_bench"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guidance_bench)


@pytest.mark.slow
def test_every_effect_appears_and_the_page_is_written(tmp_path, capsys):
    assert guidance_bench.main(["--samples", "1000", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "guidance_bench.json").read_text())
    assert len(found["effects"]) > 15 and all(found["effects"].values())
    assert {r["world"] for r in found["rows"]} == {"clusters", "leaky_ring", "trajectories", "tilts"}
    assert (tmp_path / "guidance_bench.png").stat().st_size > 50_000
    assert "MISSING" not in capsys.readouterr().out


def test_a_missing_effect_is_an_exit_status(tmp_path, monkeypatch):
    monkeypatch.setattr(guidance_bench, "checks", lambda *_: {"pigs fly": False})
    monkeypatch.setattr(guidance_bench, "page", lambda *_: None)
    assert guidance_bench.main(["--samples", "12", "--steps", "8", "--out", str(tmp_path)]) == 1
