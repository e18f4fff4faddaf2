"""Logs in the formats that others write, for tests of the import."""

import csv
from pathlib import Path

import h5py
import numpy as np

from safeplan.data import read_foreign
from safeplan.data.convert import convert
from safeplan.data.hdf5 import Log
from safeplan.schema import ColumnsConfig, DataImportConfig
from tests.data.test_hints import apart

LENGTHS = (5, 7, 3, 4)


def sample() -> Log:
    """Four episodes, the second of which ends by itself."""
    columns = apart(LENGTHS)
    columns["terminals"][11], columns["timeouts"][11] = True, False
    return Log(**columns)


def table(log: Log) -> dict[str, np.ndarray]:
    """Columns `[N]` as a CSV file has them, without next observations; time starts anew in each episode."""
    starts = np.repeat(log.episodes[:, 0], np.diff(log.episodes, axis=1)[:, 0])
    out = {"episode": np.cumsum(np.r_[0, log.ends[:-1]]) + 17, "time": 0.1 * (np.arange(len(log)) - starts)}
    for name, matrix in (("obs", log.observations), ("action", log.actions)):
        out |= {f"{name}_{i}": column for i, column in enumerate(matrix.T)}
    return out | {"reward": log.rewards, "cost": log.costs, "terminated": log.terminals, "truncated": log.timeouts}


def with_next(log: Log) -> dict[str, np.ndarray]:
    """The same with them."""
    return table(log) | {f"next_obs_{i}": column for i, column in enumerate(log.next_observations.T)}


def write_csv(path: Path, columns: dict[str, np.ndarray], separator: str = ",") -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(columns)
        writer.writerows(zip(*(v.tolist() for v in columns.values()), strict=True))
    return str(path)


def write_d4rl(path: Path, log: Log) -> str:
    """D4RL's layout: no next observations, costs in a group, facts about the policy beside the data."""
    with h5py.File(path, "w") as file:
        for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
            file[key] = log.columns[key]
        file["infos/cost"] = log.costs[:, None]
        file["infos/qpos"] = log.observations
        file["metadata/policy/bias"] = np.zeros(len(log))
    return str(path)


def load(source: str, **settings):
    """The import of a file, as `safeplan data import` does it."""
    columns = ColumnsConfig(**settings.pop("columns", {}))
    return convert(read_foreign(source), DataImportConfig(source, "x.hdf5", columns, **settings))


def same(a: Log, b: Log) -> None:
    """The seven columns are equal, bit for bit."""
    for key in apart():
        np.testing.assert_array_equal(a.columns[key], b.columns[key], err_msg=key)


def without_last(log: Log) -> Log:
    """What is left of a log without next observations, by a loop: rows of time-outs go, terminal rows stay."""
    rows, following, timeouts = [], [], []
    for a, b in log.episodes:
        terminal = bool(log.terminals[b - 1])
        kept = list(range(a, b if terminal else b - 1))
        rows += kept
        following += [log.observations[i if i == b - 1 else i + 1] for i in kept]
        timeouts += [False] * (len(kept) - 1) + [not terminal]
    columns = {k: log.columns[k][rows] for k in apart()}
    return Log(**{**columns, "next_observations": np.array(following), "timeouts": np.array(timeouts)})
