"""What would a policy return and cost? Estimated from a log alone, where there is no simulator.

  safeplan data estimate held_out.hdf5 run=runs/train_fisor_drive/seed_0

Fitted-Q evaluation of the discounted sums of rewards and costs, with intervals over bootstrap samples of the log's
episodes, beside what the log's own driver got, episodes that timed out flown on as they were. It also says how often
the policy acts as nobody did in the log: there an estimate is an extrapolation, and no interval covers that. Estimate
on episodes that the policy was not trained on.
Writes estimate.png and estimate.json under runs/NAME.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safeplan.cli.app import named, shown
from safeplan.schema import DataEstimateConfig as Config

if TYPE_CHECKING:
    from safeplan.evaluation.log_estimate import LogEstimate


def nested(overrides: Sequence[str]) -> dict[str, type]:
    """Settings whose type the schema leaves open."""
    return {}


def arguments(argv: Sequence[str]) -> list[str]:
    """A bare path stands for path=PATH; the run is named after it."""
    return named("estimate", "path", argv)


def run(cfg: Config, out: Path) -> str:
    """Print and write the estimates.

    Raises:
        CheckpointError: no policy there. DataError: faults of the log. ConfigError: a policy that sees more.
    """
    from safeplan.data import read_log
    from safeplan.evaluation.estimate_plot import estimate_figure
    from safeplan.evaluation.fqe import FqeConfig
    from safeplan.evaluation.log_estimate import estimate
    from safeplan.evaluation.study import provenance
    from safeplan.strict_json import write
    from safeplan.training import load

    sizes = {"batch": 256, "hidden": 128, "lr": 5e-4}  # minutes on one core
    config = FqeConfig(gamma=cfg.gamma, members=cfg.members, updates=cfg.updates, **sizes)
    policy, log = load(cfg.run), read_log(cfg.path)
    found = estimate(policy, log, config, seed=cfg.seed)
    facts = {"path": cfg.path, "sha256_of_columns": log.digest(), "run": cfg.run, "seed": cfg.seed}
    estimate_figure(found, log, out / "estimate.png")
    write(out / "estimate.json", facts | found.to_dict() | {"updates": cfg.updates, "made_with": provenance()})
    print(words(found, len(log.episodes)))
    return f"results: {shown(out)}/ (estimate.png, estimate.json)"


def words(found: "LogEstimate", episodes: int) -> str:
    """The estimates in three sentences."""

    def told(signal: str, word: str) -> str:
        p, d = found.policy[signal], found.driver[signal]
        return f"{word} {p.estimate:.4g} [{p.low:.4g}, {p.high:.4g}] (the log's driver, flown on: {d.estimate:.4g})"

    sums = f"{told('rewards', 'return')}, {told('costs', 'cost')}"
    return (
        f"From {episodes} episodes, discounted by {found.gamma:g}: {sums}.\n"
        f"In {found.unlike:.1%} of the states the policy acts as nobody did there in the log "
        f"({found.chance:.1%} would be chance): "
        + ("the estimate is an extrapolation." if found.unlike > 2 * found.chance else "no sign of extrapolation.")
        + " The intervals are of which episodes were logged: they do not cover an error of the fit."
    )
