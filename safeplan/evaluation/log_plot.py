"""A picture of a log: costs and returns of its episodes, their lengths, what actions and observations cover."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.data import Log
from safeplan.data.describe import finite, lengths, ranges, totals
from safeplan.data.layout import Array
from safeplan.evaluation.colours import BLUE, GREY, RED, SKY

PROBED = 100_000  # rows, evenly spread, in the histograms of actions
LARGEST = 1e100  # that a picture shows
ABOVE: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "frameon": False, "fontsize": 8}


def log_figure(log: Log, path: str | Path, title: str = "") -> Path:
    """Write a PNG of four panels: cost against return of every episode, lengths, actions, ranges of observations."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    path = Path(path)
    fig, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    (scatter, length), (actions, observations) = axes
    costs = totals(log, log.costs)
    free = costs == 0
    for mask, color, label in ((free, BLUE, "free of cost"), (~free, RED, "with cost")):
        scatter.plot(costs[mask], totals(log, log.rewards)[mask], ".", ms=5, alpha=0.5, color=color, label=label)
    scatter.set(xlabel="cost of an episode", ylabel="return of an episode")
    scatter.legend(**ABOVE, ncols=2)
    length.hist(lengths(log), bins=40, range=(0, 1.05 * lengths(log).max()), color=BLUE)
    length.set(xlabel="rows of an episode", ylabel="episodes")
    _actions(actions, log)
    _observations(observations, log)
    fig.suptitle(title, fontsize=11, x=0.01, ha="left")
    temporary = path.with_name(f".{path.name}")
    fig.savefig(temporary, dpi=130, format="png")
    plt.close(fig)
    os.replace(temporary, path)
    return path


def columns_figure(columns: Mapping[str, Any], path: str | Path, title: str = "") -> Path:
    """Write a PNG with a histogram of the finite numbers of every column, for a file that is no log as it stands."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    path, wide = Path(path), 4
    rows = max(1, -(-len(columns) // wide))
    fig, axes = plt.subplots(rows, wide, figsize=(11, 2.3 * rows), layout="constrained", squeeze=False)
    for ax in axes.flat[len(columns) :]:
        ax.set_axis_off()
    for ax, (name, values) in zip(axes.flat, columns.items(), strict=False):
        good = finite(values)
        _histogram(ax, good[:: max(1, len(good) // PROBED)])
        bad = np.asarray(values).size - len(good)
        ax.set_title(name + (f": {bad:,} not finite" if bad else ""), fontsize=9, color=RED if bad else "black")
    fig.suptitle(title, fontsize=11, x=0.01, ha="left")
    temporary = path.with_name(f".{path.name}")
    fig.savefig(temporary, dpi=130, format="png")
    plt.close(fig)
    os.replace(temporary, path)
    return path


def _histogram(ax: Any, values: Array) -> None:
    """Of any finite numbers: floats leave no room for 40 bins around a large number that hardly varies."""
    values = np.clip(values, -LARGEST, LARGEST)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    room = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-300)
    ax.hist(values, bins=40, range=((low + high - room) / 2, (low + high + room) / 2), color=BLUE)


def _actions(ax: Any, log: Log) -> None:
    probe = log.actions[:: max(1, len(log) // PROBED)]
    for i, column in enumerate(probe.T):
        density, edges = np.histogram(column, bins=50, range=(-1.0, 1.0))
        ax.stairs(density / len(probe), edges, lw=1.2, label=f"action {i}")
    ax.set(xlabel="action", ylabel="share of the rows")
    if probe.shape[1] <= 8:
        ax.legend(**ABOVE, ncols=4)


def _observations(ax: Any, log: Log) -> None:
    table = ranges(log.observations)
    at = np.arange(log.observations.shape[1])
    ax.vlines(at, table["min"], table["max"], color=GREY, lw=1, label="min to max")
    ax.vlines(at, table["10 %"], table["90 %"], color=SKY, lw=4, label="middle 80 %")
    ax.plot(at, table["median"], "_", color=BLUE, label="median")
    ax.set_yscale("symlog", linthresh=1.0)
    ax.set(xlabel="entry of the observation", ylabel="value")
    ax.legend(**ABOVE, ncols=3)
