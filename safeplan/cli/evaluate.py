"""Compare planners in closed loop on the same seeds. Killed at any moment, the same command goes on.

  safeplan evaluate env=hovercraft episodes=400 seed=0 processes=2
  safeplan evaluate env=driving planners=[safeplan,mpc] episodes=50
  safeplan evaluate env=hovercraft split=tune tuned.mpc.margin=0.1

Planners: safeplan; mpc (ignores uncertainty, one straight line to start from); density_mpc (checks risks, the same
line); fan (checks risks, detours made by hand); fisor (flies the learned proposal that FISOR likes best as it is).
Writes study.jsonl (one line per episode), summary.json and table.md under runs/NAME/seed_SEED.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from safeplan import build
from safeplan.cli.app import shown
from safeplan.schema import EvaluateConfig as Config
from safeplan.strict_json import write, write_text


def nested(overrides: Sequence[str]) -> dict[str, type]:
    """Settings whose type the schema leaves open."""
    return {"planner": build.settings_class("planner")}


def arguments(argv: Sequence[str]) -> list[str]:
    """`tuned.PLANNER.SETTING=VALUE` may name what no file has tuned yet."""
    return [f"++{a}" if a.startswith("tuned.") else a for a in argv]


def run(cfg: Config, out: Path) -> str:
    """Do the missing episodes, then write the table."""
    from safeplan.evaluation.report import markdown, summarise
    from safeplan.evaluation.study import run_study

    device = build.device(cfg.device)
    settings = {k: v for k, v in asdict(cfg).items() if k not in LEFT_OUT}
    settings["guidance"] = cfg.guidance.used()
    settings["weights_sha256"] = build.weight_digests(cfg.env.kind, cfg.weights, cfg.fisor_weights)
    build.check_study(settings, cfg.planners, device)  # a fault must not wait for its episode
    header, rows = run_study(
        partial(build.episode, settings, device),
        cfg.planners,
        range(cfg.seed, cfg.seed + cfg.episodes),
        out / "study.jsonl",
        settings,
        processes=cfg.processes,
        device=device,
    )
    summary = summarise(header, rows)
    table = markdown(summary)
    write_text(out / "table.md", table + "\n")
    for path in [out / "summary.json", *([Path(cfg.summary)] if cfg.summary else [])]:
        write(path, summary)
    print(table)
    return f"results: {shown(out)}/ (study.jsonl, summary.json, table.md)"


# what may change between two halves of a study: how much is done, and how
LEFT_OUT = ("name", "seed", "episodes", "planners", "processes", "summary", "device")
