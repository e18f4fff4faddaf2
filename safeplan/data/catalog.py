"""Where logs come from: a name, or the path of any .hdf5 file in the DSRL layout."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from safeplan.data.hdf5 import Log, read_log
from safeplan.errors import DataError

DATA = "SAFEPLAN_DATA"  # environment variable: folder with data sets that this project does not ship
VELOCITY = "safe_velocity_rollouts/SafetyHalfCheetahVelocity-v1-48.hdf5"

SOURCES = {
    "point_robot": "generated on first use, seeded",
    "hovercraft": "recorded by `python scripts/collect.py --env hovercraft`",
    "driving": "recorded by `python scripts/collect.py --env driving`",
    "velocity": f"the file {VELOCITY} under the folder that the environment variable {DATA} names",
}
Maker = Callable[[Path, int], object]


def locate(name: str, *, root: str | Path = "runs/data", seed: int = 0) -> Path:
    """The file behind a source name or path; it need not exist yet.

    Raises:
        DataError: an unknown name, or a source under $SAFEPLAN_DATA while that variable is not set.
    """
    if Path(name).suffix.lower() in (".hdf5", ".h5"):
        return Path(name)
    if name not in SOURCES:
        raise DataError(f"data {name!r} is unknown. Use one of {', '.join(SOURCES)}, or the path of an .hdf5 file")
    if name == "velocity":
        if not os.environ.get(DATA):
            raise DataError(f"data 'velocity': set the environment variable {DATA} to the folder that holds {VELOCITY}")
        return Path(os.environ[DATA]) / VELOCITY
    return Path(root) / (f"{name}_seed{seed}.hdf5" if name == "point_robot" else f"{name}.hdf5")


def load_log(
    name: str, *, root: str | Path = "runs/data", seed: int = 0, makers: Mapping[str, Maker] | None = None
) -> Log:
    """The log behind a source name or path.

    Args:
        makers: `name -> make(path, seed)`; called when the file is not there yet (`build` passes the generators).

    Raises:
        DataError: the file is not there and nothing makes it (with how to get it), or it has faults.
    """
    path = locate(name, root=root, seed=seed)
    if not path.is_file():
        if makers and name in makers:
            makers[name](path, seed)
        elif name in SOURCES:
            raise DataError(f"data {name!r}: {path} is not there. It is {SOURCES[name]}")
    return read_log(path)
