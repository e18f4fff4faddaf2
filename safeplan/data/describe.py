"""What is in a log, in numbers: episodes, returns, costs, ranges, and what FISOR would make of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from safeplan.data.hdf5 import Log
from safeplan.data.layout import Array

SHARES = {"min": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "max": 1.0}
PROBED = 50_000  # rows, evenly spread, that quantiles of observations and actions are taken from
EDGE = 0.999  # an action this far out is at its bound


def totals(log: Log, values: Array) -> Array:
    """Sums `[E]` of `values [N]` over every episode."""
    return np.add.reduceat(values.astype(np.float64), log.episodes[:, 0])


def lengths(log: Log) -> Array:
    """Rows `[E]` of every episode."""
    return np.diff(log.episodes, axis=1)[:, 0]


def reward_scale(log: Log) -> float:
    """Longest episode / (best - worst episode return): per-step rewards become O(1). 1 when returns do not differ."""
    returns = totals(log, log.rewards)
    spread = float(returns.max() - returns.min())
    return float(lengths(log).max()) / spread if spread > 0 else 1.0


def quantiles(values: Array) -> dict[str, float]:
    """Extremes, median and the middle 80 %."""
    return dict(zip(SHARES, map(float, np.quantile(values, list(SHARES.values()))), strict=True))


def ranges(values: Array) -> dict[str, list[float]]:
    """The same for each column of `[N, D]`; extremes of all rows, the rest of evenly spread ones."""
    probe = values[:: max(1, len(values) // PROBED)]
    inner = np.quantile(probe.astype(np.float64), list(SHARES.values()), axis=0)
    table = dict(zip(SHARES, inner.tolist(), strict=True))
    return table | {"min": values.min(0).astype(float).tolist(), "max": values.max(0).astype(float).tolist()}


def finite(values: Array) -> Array:
    """The finite numbers among `values` of any shape and type, `[n]` float64."""
    values = np.asarray(values)
    numbers = values.astype(np.float64).ravel() if values.dtype.kind in "biuf" else np.zeros(0)
    return numbers[np.isfinite(numbers)]


def describe_columns(columns: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    """Of arrays as a file has them, sound or not: shape, type, entries that are no finite number, range of the rest."""
    table = {}
    for name, values in columns.items():
        values, good = np.asarray(values), finite(values)
        row: dict[str, Any] = {"shape": list(values.shape), "dtype": str(values.dtype)}
        row["not_finite"] = values.size - len(good)
        if len(good):
            row |= {"min": float(good.min()), "mean": float((good / len(good)).sum()), "max": float(good.max())}
        table[name] = row
    return table


def fisor_view(log: Log) -> dict[str, float]:
    """What FISOR would learn from [fisor]: shares of rows, and the factor on rewards.

    A row violates where its cost, or the column `h` if the log has one, is above 0; only the former is the default.
    """
    costly = totals(log, log.costs > 0) > 0
    view = {
        "violating_rows": float((log.costs > 0).mean()),
        "rows_of_episodes_without_violation": float(lengths(log)[~costly].sum() / len(log)),
        "end_rows": float(log.ends.mean()),
        "reward_scale": reward_scale(log),
    }
    return view | ({"rows_with_h_above_0": float((log.extra["h"] > 0).mean())} if "h" in log.extra else {})


def describe(log: Log) -> dict[str, Any]:
    """Everything above in one record that goes into JSON; the log has at least one row."""
    last = log.episodes[:, 1] - 1
    terminal = log.terminals[last]
    return {
        "rows": len(log),
        "episodes": len(last),
        "observation_size": log.observations.shape[1],
        "action_size": log.actions.shape[1],
        "extra": sorted(log.extra),
        "ends": {
            "terminal": int(terminal.sum()),
            "timeout": int((log.timeouts[last] & ~terminal).sum()),
            "unfinished": int((~log.ends[last]).sum()),
        },
        "length": quantiles(lengths(log)),
        "return": quantiles(totals(log, log.rewards)),
        "cost": quantiles(totals(log, log.costs)),
        "costly_rows": float((log.costs > 0).mean()),
        "cost_free_episodes": float((totals(log, log.costs) == 0).mean()),
        "largest_cost": float(log.costs.max()),
        "observations": ranges(log.observations),
        "actions": ranges(log.actions),
        "saturated": (np.abs(log.actions) >= EDGE).mean(0).tolist(),
        "fisor": fisor_view(log),
    }
