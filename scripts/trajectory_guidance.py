"""What each guidance chain does to the proposals of the shipped trajectory models, before any optimiser.

  python scripts/trajectory_guidance.py               # hovercraft and car, 40 scenes each; a few minutes

For the scenes of the stream `tune`: 16 proposals from the start of each with every chain, the same noise for all. Rows:
share whose end is nearer to the goal than the start and mean progress (m); share that keeps clear of all obstacles as
seen, and the median of the least clearance (m); roughness (RMS of second differences of position, mm); network
evaluations per sample. Writes results/trajectory_guidance.json.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from safeplan import build, schema
from safeplan.diffusion import Trace
from safeplan.dynamics.distance import clearance
from safeplan.dynamics.observe import observe
from safeplan.evaluation.study import provenance
from safeplan.planning import LearnedProposer
from safeplan.rng import fold
from safeplan.strict_json import write

CHAINS: dict[str, dict[str, Any]] = {
    "none": {"chain": []},
    "cfg w=1.5": {"chain": ["cfg"]},
    "cfg w=3": {"chain": ["cfg"], "cfg": schema.CfgConfig(3.0)},
    "apg w=3": {"chain": ["apg"], "apg": schema.ApgConfig(3.0)},
    "cfg++ 0.6": {"chain": ["cfgpp"]},
    "adaptive w=3": {"chain": ["adaptive"]},
    "fa_cfg 2, 4": {"chain": ["fa_cfg"]},
    "goal (proximal, posterior)": {"chain": ["goal"]},
    "goal (DiRecT)": {"chain": ["goal"], "goal": schema.GoalConfig(metric="step")},
    "energy": {"chain": ["energy"]},
    "barrier, posterior": {"chain": ["barrier"]},
    "barrier, Euclidean": {"chain": ["barrier"], "barrier": schema.BarrierConfig(metric="identity")},
    "tube": {"chain": ["tube"]},
    "apg + goal + barrier": {"chain": ["apg", "goal", "barrier"], "apg": schema.ApgConfig(1.5)},
}
MARGIN = {"hovercraft": 0.08, "driving": 0.4}
GOAL = {"hovercraft": 1.0, "driving": 0.002}  # 1/m^2


def measure(kind: str, name: str, scenes: int, n: int, seed: int) -> dict[str, Any]:
    """One chain on all scenes of one vehicle."""
    margin = MARGIN[kind]
    settings = {"energy": schema.EnergyConfig(margin=margin), "barrier": schema.BarrierConfig(margin=margin)}
    settings |= {"tube": schema.TubeConfig(margin=margin)} | CHAINS[name]
    if "barrier" in CHAINS[name]:
        settings["barrier"] = schema.BarrierConfig(margin, CHAINS[name]["barrier"].metric)
    if "goal" in settings.get("chain", []):
        settings["goal"] = schema.GoalConfig(GOAL[kind], settings.get("goal", schema.GoalConfig()).metric)
    env = schema.EnvConfig(kind)
    first = build.task(env, "tune", 0)
    proposer = build.proposer(first.system, 20, "auto", "none", schema.GuidanceConfig(**settings), kind)
    assert isinstance(proposer, LearnedProposer)
    progress, least, rough, nfe, seconds = [], [], [], [], []
    for k in range(scenes):
        made = build.task(env, "tune", k)
        s, x, scene = made.system, made.world.measure(), made.world.scene()
        obs, trace = observe(s, x, scene)[None].astype(np.float32), Trace()
        begin = time.process_time()
        states, _ = proposer.model.sample(obs, n, seed=fold(seed, kind, k), trace=trace, **proposer.options)
        seconds.append(time.process_time() - begin)
        ix, iy = s.position
        far = np.hypot(states[..., ix] - scene.goal.x, states[..., iy] - scene.goal.y)
        progress.append(far[:, 0] - far[:, -1])
        times = np.arange(states.shape[1]) * s.dt
        least.append(clearance(s, np.moveaxis(states, -1, 0), scene.centers(times), scene).min((1, 2)))
        rough.append(np.sqrt(np.square(np.diff(states[..., [ix, iy]], n=2, axis=1)).mean((1, 2))))
        nfe.append(trace.total_nfe().double().mean().item())
    p, c = np.concatenate(progress), np.concatenate(least)
    keeps = np.array([(v > 0).mean() for v in least])
    spread = 1.96 * keeps.std(ddof=1) / np.sqrt(scenes)  # scenes are independent, samples of one are not
    return {
        "vehicle": kind,
        "chain": name,
        "nearer": float((p > 0).mean()),
        "progress_m": float(p.mean()),
        "keeps_clear": float(keeps.mean()),
        "keeps_clear_pm": float(spread),
        "clearance_m": float(np.median(c)),
        "roughness_mm": float(1e3 * np.concatenate(rough).mean()),
        "nfe": float(np.mean(nfe)),
        "cpu_ms": float(1e3 * np.median(seconds)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--samples", type=int, default=16, help="per scene")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vehicles", nargs="+", default=list(MARGIN), choices=list(MARGIN))
    parser.add_argument("--out", type=Path, default=Path("results/trajectory_guidance.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    jobs = [(kind, name) for kind in args.vehicles for name in CHAINS]
    rows = [measure(kind, name, args.scenes, args.samples, args.seed) for kind, name in tqdm(jobs, disable=None)]
    print(
        f"{'vehicle':11}{'chain':28}{'nearer':>8}{'progress':>10}{'clear':>8}{'+-':>6}{'gap':>8}{'rough':>8}{'NFE':>6}"
    )
    for r in rows:
        print(
            f"{r['vehicle']:11}{r['chain']:28}{r['nearer']:8.3f}{r['progress_m']:10.3f}{r['keeps_clear']:8.3f}"
            f"{r['keeps_clear_pm']:6.3f}{r['clearance_m']:8.3f}{r['roughness_mm']:8.2f}{r['nfe']:6.1f}"
        )
    note = f"{args.scenes} scenes, {args.samples} proposals each, seed {args.seed}; +-: 95 % over scenes"
    settings = {"scenes": args.scenes, "samples": args.samples, "seed": args.seed}
    result = {"rows": rows, "note": note, "settings": settings, "made_with": provenance()}
    write(args.out, result)
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
