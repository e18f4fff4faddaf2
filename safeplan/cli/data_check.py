"""Find all faults of a log at once, and show what is in it.

  safeplan data check my_logs.hdf5

An error keeps safeplan from reading the log (exit status 2); a warning does not. Other formats: safeplan data import.
Writes log.png (costs and returns, lengths, actions, observations) and stats.json under runs/NAME.
"""

from collections.abc import Sequence
from pathlib import Path

from safeplan.cli.app import named, shown
from safeplan.schema import DataCheckConfig as Config


def nested(overrides: Sequence[str]) -> dict[str, type]:
    """Settings whose type the schema leaves open."""
    return {}


def arguments(argv: Sequence[str]) -> list[str]:
    """A bare path stands for path=PATH; the run is named after it."""
    return named("check", "path", argv)


def run(cfg: Config, out: Path) -> str:
    """Print and write what was found.

    Raises:
        DataError: the log has faults; it holds all of them, in the words of `read_log`.
    """
    from safeplan.cli.log_words import faulty, report, warned
    from safeplan.data import read_raw

    raw = read_raw(cfg.path)
    if errors := raw.faults():
        facts = {"path": cfg.path, "errors": errors}
        faulty(raw.columns, cfg.path, out, facts, warned(raw.columns, raw.ignored))
    print(report(raw.log(), cfg.path, out, {"path": cfg.path}, raw.ignored))
    return f"results: {shown(out)}/ (log.png, stats.json)"
