"""Turn a log of your own into one that safeplan reads: CSV, NPZ, HDF5 as D4RL has it, or a data set of Minari.

  safeplan data import drive.csv out=drive.hdf5
  safeplan data import drive.csv out=drive.hdf5 columns.observations=[x,y,'v_*'] columns.costs=penalty
  safeplan data import run.npz out=run.hdf5 action_low=[-2,-0.5] action_high=[2,0.5]
  safeplan data import minari:my/set-v0 out=set.hdf5      (a set on this machine; needs the extra minari)

Columns are found by the names in use: obs_0 obs_1 ..., action_0 ..., reward, cost, terminal, timeout, episode, time.
Actions are never scaled by a guess: without bounds they must lie in [-1, 1]. Without next observations these come from
the following row. A log with a fault is not written. Writes the log, and log.png and stats.json under runs/NAME.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from safeplan import __version__
from safeplan.cli.app import named, shown
from safeplan.errors import DataError
from safeplan.schema import DataImportConfig as Config


def nested(overrides: Sequence[str]) -> dict[str, type]:
    """Settings whose type the schema leaves open."""
    return {}


def arguments(argv: Sequence[str]) -> list[str]:
    """A bare path stands for source=PATH; the run is named after it."""
    return named("import", "source", argv)


def run(cfg: Config, out: Path) -> str:
    """Convert, check, write.

    Raises:
        DataError: the source cannot be read or makes no log, or another file is in the way.
    """
    from dataclasses import replace

    from safeplan.cli.log_words import bullets, report
    from safeplan.data import read_foreign, write_log
    from safeplan.data.convert import convert

    source = read_foreign(cfg.source)
    made = convert(source, cfg)
    attrs = {
        "origin": f"imported by safeplan {__version__}",
        "source": source.name,
        "source_sha256": source.digest,
        "mapping": json.dumps(made.names),
        "notes": json.dumps(made.notes),
        "warnings": json.dumps(made.warnings),
    }
    log = replace(made.log, attrs=attrs)
    if Path(cfg.out).exists():
        refuse_other(Path(cfg.out), log.digest(), cfg)
    print("\n".join(f"{key:<18} <- {', '.join(names)}" for key, names in made.names.items()))
    if made.left_out:
        print(f"{'left out':<18} {', '.join(made.left_out)}")
    print(bullets("What was done:", made.notes))
    said = report(log, cfg.out, out, attrs, more=made.warnings)
    write_log(cfg.out, log)
    print(said)
    return f"results: {cfg.out}, {shown(out)}/ (log.png, stats.json)"


def refuse_other(path: Path, digest: str, cfg: Config) -> None:
    """Raise DataError when `path` is the source, or holds something else and may not be replaced."""
    from safeplan.data import read_log

    if Path(cfg.source).exists() and path.samefile(cfg.source):
        raise DataError(f"out={cfg.out} is the source itself. Give another name")
    if cfg.overwrite:
        return
    try:
        same = read_log(path).digest() == digest
    except DataError:
        same = False
    if not same:
        raise DataError(f"out={cfg.out} is there already and holds something else. Another name, or overwrite=true")
