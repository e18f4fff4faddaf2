"""Fly the demo on ten seeds and verify every plan: python scripts/check_demo.py [--seeds 10] [key=value ...]

Runs `safeplan plan env=hovercraft seed=N` and `safeplan verify` in this process, writes results/demo.json and the
picture of seed 0, results/demo.png, and leaves with status 1 when fewer than nine in ten reach the goal safely or a
certificate does not come out again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from safeplan.cli.main import main as safeplan
from safeplan.evaluation.study import provenance
from safeplan.strict_json import write

ROOT = Path(__file__).resolve().parents[1]


def fly(seed: int, overrides: list[str]) -> dict:
    """One row of the table."""
    safeplan(["plan", "env=hovercraft", f"seed={seed}", "animate=false", "name=check_demo", *overrides])
    path = Path("runs") / "check_demo" / f"seed_{seed}" / "plan.json"
    data = json.loads(path.read_text())
    try:
        safeplan(["verify", str(path)])
        agrees = True
    except SystemExit:  # it has said why
        agrees = False
    plans = data["plans"]
    certified = [p for p in plans if p["status"] == "certified"]
    times = [1e3 * p["timings_s"].get("total", 0.0) for p in plans]
    return {
        "seed": seed,
        "goal reached": data["outcome"]["reached"],
        "collision": data["outcome"]["collided"],
        "seconds": round(data["outcome"]["seconds"], 1),
        "worst clearance (cm)": round(100 * data["outcome"]["clearance_m"], 1),
        "plans": len(plans),
        "certified": len(certified),
        "worst bound of a certified plan (%)": round(
            100 * max((p["certificate"]["upper"] for p in certified), default=1.0), 2
        ),
        "planning ms p50": round(float(np.percentile(times, 50))),
        "planning ms p95": round(float(np.percentile(times, 95))),
        "verify agrees": agrees,
    }


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 ... N-1")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "demo.json")
    options, overrides = parser.parse_known_args()
    rows = [fly(seed, overrides) for seed in tqdm(range(options.seeds), unit="mission", disable=None)]
    safe = sum(r["goal reached"] and not r["collision"] for r in rows)
    made = provenance()
    note = f"{safe} of {len(rows)} safely at the goal. torch {made['torch']}, {made['machine']}."
    options.out.with_suffix(".png").write_bytes((Path("runs") / "check_demo" / "seed_0" / "plan.png").read_bytes())
    write(options.out, {"rows": rows, "note": note, "made_with": made})
    print(note)
    print(f"results: {options.out}")
    return 0 if safe >= 0.9 * len(rows) and all(r["verify agrees"] for r in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
