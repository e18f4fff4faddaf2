"""Where will the hovercraft be, from its recordings alone? A conditional flow against a linear-Gaussian model.

  python scripts/density_black_box.py            # every recording held out in turn, about 10 CPU-minutes
  python scripts/density_black_box.py --quick    # two recordings, little training

No equations: the context is what is known at the start (body-frame velocity, turn rate, how they changed, the motor
signals so far) and the signals to come; the target is the displacement, turn and change of velocity 0.25 and 0.5 s
later, in the body frame. Scored on a recording that took no part in the fit: log-likelihood (nats) and how often the
truth lies in the model's own 90 % region. Killed, the same command goes on with the next recording.
Writes results/density_black_box.json.
"""

import argparse
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from safeplan.dynamics.identification import Recording, lag, load_recordings
from safeplan.evaluation.study import run_study
from safeplan.reach.learned.conditional import ConditionalFlow, inside_region, linear_gaussian
from safeplan.rng import torch_rng
from safeplan.strict_json import write

DATA = Path(__file__).resolve().parent / "data" / "holohover"
HORIZONS = (0.25, 0.5)  # s
PAST_S, LAG_S, EVERY_S, FIRST_S = 0.1, 0.03, 0.025, 0.5
BINS = 5  # in which the signals to come are averaged
MASS = 0.9
SPARSE = 10  # of the held-out windows one in so many is looked at for coverage
BLOCK_S = 2.0  # the rows that stop the training are whole blocks of time, since neighbours are alike


def body(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """World vectors `v [W, 2]` in the body frame of states `x [W, 6]`."""
    c, s = np.cos(x[:, 2]), np.sin(x[:, 2])
    return np.stack([c * v[:, 0] + s * v[:, 1], c * v[:, 1] - s * v[:, 0]], 1)


def single(a: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(a, dtype=torch.float32)


def windows(rec: Recording, horizon_s: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Context `[W, c]`, target `[W, 6]` (m, rad, m/s, rad/s) and the time of the start `[W]` (s)."""
    steps, past = round(horizon_s * rec.rate), round(PAST_S * rec.rate)
    first = np.arange(round(FIRST_S * rec.rate), len(rec.state) - steps - 1, round(EVERY_S * rec.rate))
    x, before, after = rec.state[first], rec.state[first - past], rec.state[first + steps]
    spun = lag(rec.signals, LAG_S, 1 / rec.rate)[first]
    edges = np.linspace(0, steps, BINS + 1).round().astype(int)
    come = [np.mean([rec.signals[first + k] for k in range(a, b)], 0) for a, b in pairwise(edges)]
    now = np.concatenate([body(x, x[:, 3:5]), x[:, 5:]], 1)
    change = np.concatenate([body(x, x[:, 3:5] - before[:, 3:5]), x[:, 5:] - before[:, 5:]], 1)
    moved = body(x, after[:, :2] - x[:, :2])
    target = np.concatenate([moved, after[:, 2:3] - x[:, 2:3], body(x, after[:, 3:5]), after[:, 5:]], 1)
    context = np.concatenate([now, change, spun, *come], 1)
    return single(context), single(target), single(first / rec.rate)


def one(quick: bool, name: str, seed: int) -> dict[str, Any]:
    """Both horizons with recording `name` held out."""
    recordings = load_recordings(DATA)
    out: dict[str, Any] = {"horizons": {}}
    for horizon in HORIZONS:
        sets = {r.name: windows(r, horizon) for r in recordings}
        others = [sets[r.name] for r in recordings if r.name != name]
        c, y = torch.cat([s[0] for s in others]), torch.cat([s[1] for s in others])
        held = torch.cat([(s[2] // BLOCK_S).long() % 5 == 4 for s in others])
        new_c, new_y, _ = sets[name]
        flow = ConditionalFlow.fit(c, y, held, updates=150 if quick else 4000, seed=seed)
        row: dict[str, Any] = {"windows": len(new_y), "fitted_on": len(y)}
        for label, model in (("linear_gaussian", linear_gaussian(c, y)), ("conditional_flow", flow)):
            inside = inside_region(model, new_c[::SPARSE], new_y[::SPARSE], MASS, torch_rng(seed, "region", label))
            row[label] = {
                "log_likelihood": float(model.log_prob(new_c, new_y).mean()),
                "median": float(model.log_prob(new_c, new_y).median()),
                "coverage": float(inside.float().mean()),
            }
        out["horizons"][str(horizon)] = row
    return out


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two recordings, little training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = [r.name for r in load_recordings(DATA)][: 2 if args.quick else None]
    settings = {"quick": args.quick, "mass": MASS, "horizons": HORIZONS}
    study = args.out / f"density_black_box{'_quick' if args.quick else ''}.study.jsonl"
    header, rows = run_study(partial(one, args.quick), names, [args.seed], study, settings, kinds={"horizons": dict})
    better = {}
    for h in map(str, HORIZONS):
        wins = 0
        for r in rows:
            a, b = (r["horizons"][h][m] for m in ("linear_gaussian", "conditional_flow"))
            wins += b["log_likelihood"] > a["log_likelihood"]
            print(
                f"{h} s  {r['planner']:36s} log-likelihood: linear {a['log_likelihood']:7.2f}, flow "
                f"{b['log_likelihood']:7.2f}; 90 % regions hold {a['coverage']:.1%} and {b['coverage']:.1%}"
            )
        better[h] = wins
        print(f"{h} s: the flow is above the linear model on {wins} of {len(rows)} held-out recordings")
    write(
        args.out / f"density_black_box{'_quick' if args.quick else ''}.json",
        {**header, "rows": rows, "flow_better": better},
    )
    study.unlink()  # whole: the next run starts anew
    print(f"results: {args.out}/density_black_box{'_quick' if args.quick else ''}.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
