"""How well FISOR's learned infeasible set matches the true one of the point robot; picture and results file.

    safeplan train policy=fisor data=point_robot
    python scripts/point_robot_iou.py

Prints IoU and false-safe rate of {V_h > 0} beside those of "inside a disc now", and looks for states that the ground
truth calls infeasible but from which random controls escape (there should be none).
"""

import argparse
import csv
import os
import platform
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from tqdm import tqdm

from safeplan.evaluation.feasible_set import falsify, make_grid, picture, score
from safeplan.evaluation.point_robot import violation
from safeplan.rng import numpy_rng
from safeplan.strict_json import write
from safeplan.training import load
from safeplan.training.checkpoint import load_model


def main() -> None:
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
    parser.add_argument("--out", type=Path, default=Path("results/point_robot_iou.json"))
    parser.add_argument("--picture", type=Path, default=Path("results/point_robot_iou.png"))
    parser.add_argument("--curve", action="store_true", help="score every kept checkpoint of the run")
    args = parser.parse_args()

    grid = make_grid(args.points, headings=args.headings)
    folders = sorted((args.run / "checkpoints").glob("[0-9]*")) if args.curve else []
    curve = {int(p.name): score(load(p).v_h, grid)["iou"] for p in tqdm(folders, disable=None)}
    agent, model = load(args.run), load_model(args.run)
    result = score(agent.v_h, grid)

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

    print(f"{'':28}{'IoU':>8}{'false safe':>12}")
    print(f"{'learned {V_h > 0}':28}{result['iou']:8.3f}{result['false_safe']:12.3f}")
    print(f"{'inside a disc now':28}{result['iou_disc_now']:8.3f}{result['false_safe_disc_now']:12.3f}")
    print(f"by speed (m/s): {', '.join(f'{k}: {v:.3f}' for k, v in result['iou_by_speed'].items())}")
    print(f"escapes found from states called infeasible: {result['escapes_found']} of {result['escapes_tried']}")
    print(f"results: {args.out}  picture: {args.picture}")


if __name__ == "__main__":
    main()
