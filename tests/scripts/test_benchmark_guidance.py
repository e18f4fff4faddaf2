"""What scripts/benchmark_guidance.py says of its aims: every row must keep them, and the worst is named."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark_guidance.py"
spec = importlib.util.spec_from_file_location("benchmark_guidance", SCRIPT)
assert spec is not None and spec.loader is not None
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


def row(method, over, ratio, B=1):
    return {"network": "n", "B": B, "method": method, "overhead": over, "diffusers_over_ours": ratio}


def test_one_row_is_enough_to_miss_an_aim():
    good = [row("CFG", 0.02, 1.7), row("CFG", 0.01, 1.1, B=16), row("APG", 0.2, 1.6), row("CFG++", 0.0, None)]
    assert [f["met"] for f in benchmark.aims(good)] == [True, True, True]
    bad = [*good, row("CFG + PAG", 0.04, None), row("TCFG", 0.0, 0.9, B=16), row("TCFG", 0.0, 1.4)]
    found = benchmark.aims(bad)
    assert [f["met"] for f in found] == [False, False, False]
    assert found[0]["note"] == "3 of 4 rows; worst 4.0% (n, B = 1, CFG + PAG)"
    assert "worst 0.90x (n, B = 16, TCFG)" in found[1]["note"] and "worst 1.40x" in found[2]["note"]
