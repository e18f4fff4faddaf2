"""Data sets of Minari (extra `minari`), as arrays with one row for each step."""

import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.data.layout import Array
from safeplan.errors import CapabilityError, DataError

PREFIX = "minari:"


def read_minari(source: str) -> tuple[dict[str, Array], list[str], tuple[Array, Array] | None, Path]:
    """Arrays by name, names left out, bounds of the action space where all are finite, and the folder of the files.

    Observations and actions of a Dict or Tuple space are put side by side, in the order of the space; entries of
    `infos` are called `infos/NAME`. Nothing is downloaded.

    Args:
        source: `minari:DATASET_ID` of a set on this machine, or its folder.

    Raises:
        CapabilityError: minari is not installed.
        DataError: no such set, an episode of zero length, or observations that are no numbers.
    """
    try:
        minari = import_module("minari")
    except ImportError as e:
        raise CapabilityError(f"{source}: reading it needs minari. Install it: pip install 'safeplan[minari]'") from e
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the environment, which is not needed
            data = _open(source, minari)
    except (OSError, ValueError, KeyError) as e:
        remedy = "Give its folder, or fetch it first with `minari download`"
        raise DataError(f"{source}: cannot be opened as a data set of Minari ({e}). {remedy}") from e
    episodes = [_episode(source, e) for e in data.iterate_episodes()]
    names = [n for n in dict.fromkeys(n for e in episodes for n in e) if all(n in e for e in episodes)]
    left_out = sorted({n for e in episodes for n in e} - set(names))
    arrays = {n: np.concatenate([e[n] for e in episodes]) for n in names}
    low, high = (getattr(data.action_space, k, None) for k in ("low", "high"))
    bounded = low is not None and high is not None and bool(np.isfinite([low, high]).all())
    bounds = (np.ravel(low), np.ravel(high)) if bounded else None  # type: ignore[arg-type]
    return arrays, left_out, bounds, Path(data.storage.data_path)


def _open(source: str, minari: Any) -> Any:
    if source.startswith(PREFIX):
        return minari.load_dataset(source.removeprefix(PREFIX), download=False)
    folder = Path(source)
    return minari.MinariDataset(folder / "data" if (folder / "data").is_dir() else folder)


def _episode(source: str, episode: Any) -> dict[str, Array]:
    """One episode: observations are one longer than the rest, so nothing is lost at its end."""
    n = len(episode.rewards)
    if not n:
        raise DataError(f"{source}: episode {episode.id} has zero length. Leave it out with filter_episodes")
    seen = _matrix(source, "observations", episode.observations, n + 1)
    out = {
        "observations": seen[:-1],
        "next_observations": seen[1:],
        "actions": _matrix(source, "actions", episode.actions, n),
        "rewards": np.asarray(episode.rewards),
        "terminations": np.asarray(episode.terminations),
        "truncations": np.asarray(episode.truncations),
        "episode": np.full(n, episode.id),
    }
    for name, value in _leaves("infos", episode.infos or {}):
        if len(value) in (n, n + 1):  # with the entry of the reset, or without
            out[name] = value[len(value) - n :]
    return out


def _leaves(name: str, value: Any) -> list[tuple[str, Array]]:
    """All arrays of nested dictionaries and tuples, with their paths."""
    if isinstance(value, Mapping):
        return [leaf for k, v in value.items() for leaf in _leaves(f"{name}/{k}", v)]
    if isinstance(value, tuple):
        return [leaf for k, v in enumerate(value) for leaf in _leaves(f"{name}/{k}", v)]
    array = np.asarray(value)
    return [(name, array)] if array.ndim else []


def _matrix(source: str, key: str, value: Any, rows: int) -> Array:
    leaves = _leaves(key, value)
    for name, leaf in leaves:
        if leaf.dtype.kind not in "fiub" or len(leaf) != rows:
            raise DataError(f"{source}: {name} is {leaf.dtype} {leaf.shape}, expected {rows} rows of numbers")
    return np.concatenate([leaf.reshape(rows, -1) for _, leaf in leaves], axis=1)
