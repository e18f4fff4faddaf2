"""Train a policy on logs. Killed at any moment, the same command goes on and ends with the same weights, bit for bit.

  safeplan train policy=fisor data=point_robot
  safeplan train policy=trajectory data=hovercraft updates=40000
  safeplan train policy=image data=mnist updates=3600
  safeplan train policy=fisor data=file data.path=my_logs.hdf5 device=cuda

Writes checkpoints/ (model.safetensors runs no code when loaded) and metrics.csv under runs/NAME/seed_SEED.
"""

from collections.abc import Sequence
from pathlib import Path

from safeplan import build
from safeplan.cli.app import shown, value_of
from safeplan.schema import TrainConfig as Config


def nested(overrides: Sequence[str]) -> dict[str, type]:
    """Settings whose type the schema leaves open."""
    return {"policy": build.settings_class(value_of(overrides, "policy") or "fisor")}


def arguments(argv: Sequence[str]) -> list[str]:
    """Name the run after a log of your own."""
    path = value_of(argv, "data.path")
    if path and value_of(argv, "data") == "file" and value_of(argv, "name") is None:
        return [*argv, f"name=train_${{policy.kind}}_{Path(path).stem}"]
    return list(argv)


def run(cfg: Config, out: Path) -> str:
    """Train, or go on training."""
    from safeplan.training import train

    learner, source = build.learner(cfg)
    folder = train(
        learner,
        source,
        out,
        updates=cfg.updates,
        seed=cfg.seed,
        checkpoint_every=cfg.checkpoint_every,
        log_every=cfg.log_every,
    )
    last = f"results: {shown(out)}/ (metrics.csv, {folder.relative_to(out)}/model.safetensors)"
    there = int(folder.name)
    if there > cfg.updates:
        last += f"; nothing was trained: this run is at {there} updates already, updates={cfg.updates} asks for fewer"
    return last
