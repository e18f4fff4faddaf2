"""Where a system can be: how the density of its states evolves, and how exact a probability is.

  safeplan density system=vdp
  safeplan density system=hovercraft axes=[px,vx] seconds=1.5
  safeplan density system=car control=[2.0,0.3] masses=[0.9]
  safeplan density system.file=scripts/examples/my_vehicle.py axes=[px,py]      (runs the code in it, controls held)

Writes density.png, density.gif and density.json under runs/NAME/seed_SEED.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from safeplan import build
from safeplan.cli.app import fail, quote, shown, value_of
from safeplan.schema import DensityConfig as Config
from safeplan.strict_json import write

if TYPE_CHECKING:
    from safeplan.evaluation.box_error import BoxError
    from safeplan.evaluation.evolution import Evolution


def nested(overrides: Sequence[str]) -> dict[str, type]:
    """Settings whose type the schema leaves open."""
    return {}


def arguments(argv: Sequence[str]) -> list[str]:
    """Name the run after a vehicle of your own."""
    file = value_of(argv, "system.file")
    if not file:
        return list(argv)
    if value_of(argv, "system") is not None:
        fail("density", f"system={value_of(argv, 'system')} and system.file={file}: give one of them")
    named = [] if value_of(argv, "name") else [f"name={quote(f'density_{Path(file).stem}')}"]
    return [*argv, *named]


def run(cfg: Config, out: Path) -> str:
    """Move particles, measure, draw, and say what was found."""
    from safeplan.evaluation.box_error import box_error
    from safeplan.evaluation.density_plot import density_animation, density_figure
    from safeplan.evaluation.evolution import evolve, summary
    from safeplan.evaluation.study import provenance
    from safeplan.reach.rivals.runs import MOST

    device = build.device(cfg.device)
    if cfg.system.file:
        print(f"running your code: {cfg.system.file}", flush=True)
    case = build.case(cfg)
    axes = build.plane(cfg.axes, case)
    began = time.perf_counter()
    stages = 1 + -(-cfg.cloud // MOST) + 2 * cfg.repeats + cfg.animate * cfg.frames
    with tqdm(total=stages, unit="stage", disable=None, leave=False) as bar:
        evolution = evolve(
            case,
            axes,
            particles=cfg.particles,
            cloud=cfg.cloud,
            frames=cfg.frames,
            seed=cfg.seed,
            device=device,
            progress=bar.update,
        )
        error = box_error(
            case,
            evolution.cloud[-1],
            axes,
            boxes=cfg.boxes,
            most=min(cfg.particles, cfg.cloud // 8),
            repeats=cfg.repeats,
            seed=cfg.seed + 2,
            progress=bar.update,
        )
        density_figure(evolution, error, out / "density.png", cfg.masses)
        files = ["density.png", "density.json"]
        if cfg.animate:
            density_animation(evolution, out / "density.gif", cfg.masses, progress=bar.update)
            files.insert(1, "density.gif")
    record = {
        "system": case.name,
        "source": case.source,
        "seeds": {"particles": cfg.seed, "cloud": cfg.seed + 1, "boxes": cfg.seed + 2, "repeats": cfg.repeats},
        "particles": cfg.particles,
        "cloud": cfg.cloud,
        "seconds": case.horizon_s,
        "control": list(case.command),
        **summary(evolution, cfg.masses),
        "box_error": _error_record(error),
        "took_s": round(time.perf_counter() - began, 2),
        "made_with": provenance(device),
    }
    write(out / "density.json", record)
    print(sentence(evolution, error))
    return f"results: {shown(out)}/ ({', '.join(files)})"


def _error_record(error: "BoxError | None") -> dict[str, Any] | None:
    if error is None:
        return None
    boxes = [{"low": b.low.tolist(), "high": b.high.tolist()} for b in error.boxes]
    rows = {k: getattr(error, k).tolist() for k in ("n", "iid", "sobol", "theory", "equals")}
    return {"boxes": boxes, "p": error.p.tolist(), **rows}


def sentence(evolution: "Evolution", error: "BoxError | None") -> str:
    """What was found, in one sentence."""
    from safeplan.evaluation.density_plot import clock
    from safeplan.evaluation.evolution import plane

    case, states = evolution.case, [evolution.case.loop.states[a] for a in evolution.axes]
    sd = evolution.spread[[0, -1]]
    units = [f" {q.unit}" if q.unit not in ("", "1") else "" for q in states]
    spreads = [f"{q.name} from {a:.3g} to {b:.3g}{u}" for q, a, b, u in zip(states, *sd, units, strict=True)]
    parts = [f"{case.name} in {case.horizon_s:g}{clock(case)}: the spread (sd) goes {spreads[0]}, {spreads[1]}"]
    found = plane(evolution.cloud[-1])
    if found is not None:
        where = ", ".join(f"{v:.3g}{u}" for v, u in zip(found.top, units, strict=True))
        parts.append(f"at the end most concentrated at {states[0].name}, {states[1].name} = {where}")
    gain = evolution.gain[-1][np.isfinite(evolution.gain[-1])]
    if len(gain):
        parts.append(f"log-gain {gain.min():.2f} to {gain.max():.2f} nats")
    parts.append(f"{evolution.outside[-1]:.2%} outside the domain")
    if evolution.escaped:
        parts[-1] += f", {evolution.escaped:.2%} escaped to infinity and left out above"
    if error is not None:
        equal = float(f"{error.equals[-1]:.2g}")
        parts.append(f"{error.n[-1]:,} Sobol points give a box's probability as well as {equal:,.0f} independent ones")
    return "; ".join(parts) + "."
