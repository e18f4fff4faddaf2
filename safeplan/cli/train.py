"""Train a policy on logs. Killed at any moment, the same command goes on and ends with the same weights, bit for bit.

  safeplan train policy=fisor data=point_robot
  safeplan train policy=trajectory data=hovercraft updates=40000
  safeplan train policy=image data=mnist updates=3600
  safeplan train policy=fisor data=file data.path=my_logs.hdf5 device=cuda
  safeplan train policy=fisor data=dsrl data.task=BallCircle
  safeplan train policy=one_step policy.teacher=runs/train_fisor_point_robot/seed_0
  safeplan train policy=cpq policy.limit=10 data=dsrl data.task=BallCircle

policy=one_step distils a trained FISOR into one evaluation. Rivals of FISOR: bc_safe, bcq_lag, cpq and coptidice are
trained for one cost limit of episodes (policy.limit), bc knows none, cdt and trebi are given theirs when they act.
Files of data=dsrl are looked for in $DSRL_DATASET_DIR (~/.dsrl/datasets), then in $SAFEPLAN_DATA, or downloaded.

Writes checkpoints/ (model.safetensors runs no code when loaded) and metrics.csv under runs/NAME/seed_SEED.
"""

from collections.abc import Sequence
from pathlib import Path

from safeplan import build
from safeplan.cli.app import fail, shown, stem, value_of
from safeplan.cli.help import schema_of
from safeplan.errors import ConfigError
from safeplan.schema import TrainConfig as Config


def nested(overrides: Sequence[str]) -> dict[str, type]:
    """Settings whose type the schema leaves open."""
    try:
        return {"policy": build.settings_class(schema_of("policy", value_of(overrides, "policy") or "fisor"))}
    except ConfigError as e:
        fail("train", str(e))


def arguments(argv: Sequence[str]) -> list[str]:
    """Name the run after a log of your own, or a task of DSRL."""
    if value_of(argv, "data") == "dsrl" and value_of(argv, "name") is None:
        return [*argv, "name=train_${policy.kind}_dsrl_${data.task}"]
    path = value_of(argv, "data.path")
    if path and value_of(argv, "data") == "file" and value_of(argv, "name") is None:
        return [*argv, f"name=train_${{policy.kind}}_{stem(path)}"]
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
