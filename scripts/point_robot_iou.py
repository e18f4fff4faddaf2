"""How well FISOR's learned infeasible set matches the true one of the point robot; picture and results file.

    safeplan train policy=fisor data=point_robot
    python scripts/point_robot_iou.py            # exit 1 when a goal is missed

Prints IoU and false-safe rate of {V_h > 0} beside those of "inside a disc now", and looks for states that the ground
truth calls infeasible but from which random controls escape (there should be none).

Then V_h gets a threshold with a promise: at most alpha of the truly unsafe states is called safe, for all but a share
delta of calibration sets. It is calibrated on states drawn at random (uniform, none of the grid's), labelled by the
ground truth, and measured on as many new ones and on the grid. Whether such promises are kept, on average and with
delta, is counted over 100 random splits of the calibration states.
"""

import argparse
import csv
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from tqdm import tqdm

from safeplan.errors import ConfigError, SafeplanError
from safeplan.evaluation.calibration import count_misses
from safeplan.evaluation.feasible_set import (
    Grid,
    Value,
    draw_states,
    falsify,
    iou,
    make_grid,
    picture,
    rates,
    score,
    values,
)
from safeplan.evaluation.point_robot import violation
from safeplan.evaluation.stats import clopper_pearson
from safeplan.feasibility import FisorPolicy, calibrate
from safeplan.rng import numpy_rng
from safeplan.strict_json import write
from safeplan.training import load
from safeplan.training.checkpoint import load_model

IOU_GOAL = 0.90


def calibration(v_h: Value, grid: Grid, states: int, splits: int, alpha: float, delta: float) -> dict[str, Any]:
    """Threshold from `states` random states, its rates on as many new ones and on the grid; promises over splits."""
    x, unsafe = draw_states(states, numpy_rng(0, "point_robot", "calibration"))
    pool = values(v_h, x[:, unsafe])
    promises = {
        name: asdict(count_misses(pool, alpha, d, rng=numpy_rng(0, "point_robot", name), splits=splits))
        for name, d in (("on average", None), ("all but delta", delta))
    }
    found = calibrate(pool, alpha, delta)
    new, truth = draw_states(states, numpy_rng(0, "point_robot", "new"))
    v = values(v_h, new)
    called_safe, unsafe_states = found.safe(v), int(truth.sum())
    return {
        **asdict(found),
        "drawn": states,
        "grid": rates(~found.safe(values(v_h, grid.x)), grid.x, grid.truth),
        "new": rates(~called_safe, new, truth),
        "new_at_zero": rates(v > 0, new, truth),  # the same states without calibration
        "new_disc_now": rates(violation(new) > 0, new, truth),
        "new_unsafe": unsafe_states,
        "new_false_safe_interval": clopper_pearson(int((called_safe & truth).sum()), unsafe_states)[1:],
        "promises": promises,
    }


def report(result: dict[str, Any]) -> None:
    """Print the results."""
    c = result["calibration"]
    low, high = c["new_false_safe_interval"]
    print(f"{'':40}{'IoU':>8}{'false safe':>12}")
    for name, r in (
        ("learned {V_h > 0}", result),
        (f"calibrated {{V_h >= {c['threshold']:.4f}}}", c["grid"]),
        ("inside a disc now", {k: result[f"{k}_disc_now"] for k in ("iou", "false_safe")}),
        ("new states, {V_h > 0}", c["new_at_zero"]),
        ("new states, calibrated", c["new"]),
        ("new states, inside a disc now", c["new_disc_now"]),
    ):
        print(f"{name:40}{r['iou']:8.3f}{r['false_safe']:12.4f}")
    print(f"by speed (m/s): {', '.join(f'{k}: {v:.3f}' for k, v in result['iou_by_speed'].items())}")
    print(f"escapes found from states called infeasible: {result['escapes_found']} of {result['escapes_tried']}")
    print(
        f"calibrated on {c['states']} unsafe states, alpha = {c['alpha']:g}, delta = {c['delta']:g}; of "
        f"{c['new_unsafe']} new unsafe ones {c['new']['false_safe']:.2%} are called safe "
        f"(95 %: {low:.2%} to {high:.2%}), {c['new']['false_safe_outside_discs']:.1%} of those not yet in a disc"
    )
    for name, p in c["promises"].items():
        above = "" if p["delta"] is None else f"{p['above']} splits above (promised {100 * p['delta']:g} % of them), "
        print(
            f"promise {name}: {p['splits']} splits of {p['calibrated_on']} + {p['measured_on']}, mean miss rate "
            f"{p['mean']:.3%}, standard error {p['standard_error']:.3%} (theory {p['expected']:.3%}, promised "
            f"{100 * p['alpha']:g} %), {above}p = {p['p']:.2g}: {'kept' if p['kept'] else 'BROKEN'}"
        )
    for goal, met in result["goals"].items():
        print(f"{'met   ' if met else 'MISSED'} {goal}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "run",
        type=Path,
        nargs="?",
        default=Path("runs/train_fisor_point_robot/seed_0"),
        help="run folder, checkpoint folder or .safetensors file; default: what the line above trains",
    )
    parser.add_argument("--points", type=int, default=81, help="grid points per axis")
    parser.add_argument("--headings", type=int, default=8)
    parser.add_argument("--states", type=int, default=200_000, help="random states to calibrate on; as many new ones")
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--alpha", type=float, default=0.01, help="promised share of unsafe states called safe")
    parser.add_argument("--delta", type=float, default=0.01, help="share of calibration sets that may break it")
    parser.add_argument("--out", type=Path, default=Path("results/point_robot_iou.json"))
    parser.add_argument("--picture", type=Path, default=Path("results/point_robot_iou.png"))
    parser.add_argument("--curve", action="store_true", help="score every kept checkpoint of the run")
    args = parser.parse_args(argv)

    try:
        agent, model = load(args.run), load_model(args.run)
        if not isinstance(agent, FisorPolicy):
            raise ConfigError(f"it holds a {type(agent).__name__}")
        values(agent.v_h, np.zeros((4, 1)))  # of another size?
    except SafeplanError as e:
        print(f"point_robot_iou: error: {args.run}: {e}. Give a FISOR of the point robot", file=sys.stderr)
        return 2
    grid = make_grid(args.points, headings=args.headings)
    folders = sorted((args.run / "checkpoints").glob("[0-9]*")) if args.curve else []
    curve = {int(p.name): iou(values(load(p).v_h, grid.x) > 0, grid.truth) for p in tqdm(folders, disable=None)}
    result = score(values(agent.v_h, grid.x) > 0, grid)
    result["calibration"] = c = calibration(agent.v_h, grid, args.states, args.splits, args.alpha, args.delta)
    result["goals"] = {
        f"IoU of {{V_h > 0}} at least {IOU_GOAL:g}": result["iou"] >= IOU_GOAL,
        f"at most {100 * args.alpha:g} % of new unsafe states called safe": c["new"]["false_safe"] <= args.alpha,
        f"promises kept over {args.splits} splits": all(p["kept"] for p in c["promises"].values()),
    }

    flat, rng = grid.x.reshape(4, -1), numpy_rng(0, "point_robot", "falsify")
    suspects = np.flatnonzero(grid.truth.reshape(-1) & (violation(flat) <= 0))
    suspects = rng.choice(suspects, min(1000, len(suspects)), replace=False)
    result["escapes_found"] = falsify(flat[:, suspects], 100, rng)
    result["escapes_tried"] = len(suspects)

    result |= {"update": model.info.get("step"), "seed": model.info.get("seed"), "settings": model.meta["fisor"]}
    if (args.run / "metrics.csv").is_file():
        with (args.run / "metrics.csv").open(newline="") as file:
            spent = {int(r["update"]): float(r["seconds"]) for r in csv.DictReader(file)}
        result["training_seconds"] = spent.get(result["update"])
    if curve:
        result["curve"] = curve
    result |= {"device": "cpu", "machine": platform.machine(), "threads": torch.get_num_threads()}
    result |= {"versions": model.info["versions"], "data": model.info.get("data")}
    write(args.out, result)
    picture(agent.v_h, grid, args.picture)

    report(result)
    print(f"results: {args.out}  picture: {args.picture}")
    return 0 if all(result["goals"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
