"""What a study of offline methods says: cells per task, method and limit; all tasks together; aims kept or not.

A row of the study is a job `TASK/METHOD` with `flights` {limit: {"returns", "costs"}}, `updates`, `cpu_seconds` and,
for some, a `curve` of flights during training. Made logs have no published extremes, so returns are raw, and scaled by
the least and largest episode return of the log itself; costs are divided by the limit.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from safeplan.evaluation.offline_aims import judge
from safeplan.evaluation.stats import clopper_pearson, iqm, mean_of_runs, stratified_bootstrap
from safeplan.evaluation.study import Row, by_planner
from safeplan.types import Array


def log_facts(returns: Array, costs: Array, limits: Sequence[float], steps: int) -> dict[str, Any]:
    """Of a log's episodes `[E]`: extremes of the returns, and the best return within each limit (None: no episode)."""
    best = {f"{limit:g}": float(returns[costs <= limit].max()) if (costs <= limit).any() else None for limit in limits}
    low, high = float(returns.min()), float(returns.max())
    return {"episodes": len(returns), "steps": steps, "low": low, "high": high, "best_within": best}


def summarise(
    header: Mapping[str, Any],
    rows: Sequence[Row],
    planned: Mapping[str, Sequence[int]],
    logs: Mapping[str, Mapping[str, Any]],
    limits: Sequence[float],
    ours: Sequence[str],
    parity: str,
    chosen_with: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> dict[str, Any]:
    """All that tables and pictures show, as JSON.

    Args:
        chosen_with: TASK/METHOD -> seeds that settings were chosen with; means over the others apart, as `fresh`.
        planned: TASK/METHOD -> seeds of the whole study, in the order of the table. logs: task -> `log_facts`.
        limits: the first is the one at which methods are compared. ours: methods that the aims are judged for.
        parity: the method that has to be beaten. Those of ours that only some tasks have are `variants`.
    """
    found = by_planner(rows)
    names = [*planned, *(p for p in found if p not in planned)]
    found = {name: sorted(mine, key=lambda r: r["seed"]) for name, mine in found.items()}
    cells = [c for name in names if name in found for c in _cells(name, found[name], logs, chosen_with.get(name, ()))]
    for c in cells:
        c["same_as"] = next((n for n in names if n in found and _same(n, c, found)), None)
    main = [c for c in cells if c["limit"] == limits[0]]
    common = [t for t in logs if all(f"{t}/{m}" in planned for m in _methods(list(planned)))]
    return {
        **header,
        "limits": list(limits),
        "logs": dict(logs),
        "planned": {k: len(v) for k, v in planned.items()},
        "cells": cells,
        "common": common,
        "variants": [m for m in ours if 0 < sum(f"{t}/{m}" in planned for t in logs) < len(logs)],
        "overall": [_overall(m, [c for c in main if c["method"] == m], common) for m in dict.fromkeys(_methods(names))],
        "aims": judge(main, planned, ours, parity, chosen_with),
        "curves": [c for name in names if name in found for c in _curve(name, found[name], limits[0])],
    }


def _same(name: str, cell: Mapping[str, Any], found: Mapping[str, Sequence[Row]]) -> bool:
    """Whether the policy of a cell flew as that of the job `name` did, on every seed: nothing was changed."""
    task, _, method = name.partition("/")
    if task != cell["task"] or method == cell["method"]:
        return False
    key, flights = f"{cell['limit']:g}", {r["seed"]: r["flights"] for r in found[name]}
    mine = {r["seed"]: r["flights"] for r in found[f"{task}/{cell['method']}"]}
    return all(key in flights.get(s, {}) and flights[s][key] == f[key] for s, f in mine.items())


def _methods(names: Sequence[str]) -> list[str]:
    return [name.partition("/")[2] for name in names]


def _cells(name: str, mine: Sequence[Row], logs: Mapping[str, Any], chosen_with: Sequence[int]) -> list[dict[str, Any]]:
    task, _, method = name.partition("/")
    low, high = logs[task]["low"], logs[task]["high"]
    out = []
    for limit in mine[0]["flights"]:
        flights = [r["flights"][limit] for r in mine]
        returns = np.array([np.mean(f["returns"]) for f in flights])
        costs = np.array([np.mean(f["costs"]) for f in flights]) / float(limit)
        over = [c > float(limit) for f in flights for c in f["costs"]]
        scaled = (returns - low) / (high - low)
        seeds = [r["seed"] for r in mine]
        new = np.array([s not in chosen_with for s in seeds])
        # a job that was killed and resumed measured the CPU time of its last updates only
        spent = [r["cpu_seconds"]["train"] * r["updates"] / r["cpu_seconds"]["updates"] for r in mine
                 if r["cpu_seconds"]["updates"]]  # fmt: skip
        out.append(
            {
                "task": task, "method": method, "limit": float(limit), "seeds": len(mine),
                "return": mean_of_runs(returns)._asdict(),
                "scaled": mean_of_runs(scaled)._asdict(),
                "cost": mean_of_runs(costs, least=0.0)._asdict(),
                "fresh": _fresh(np.array(seeds)[new], returns[new], costs[new]) if chosen_with and new.any() else None,
                "worst_seed": float(costs.max()),
                "violations": clopper_pearson(sum(over), len(over))._asdict(),
                "by_seed": {"seed": seeds, "return": returns.tolist(),
                            "scaled": scaled.tolist(), "cost": costs.tolist()},
                "updates_range": [min(r["updates"] for r in mine), max(r["updates"] for r in mine)],
                "cpu_seconds": float(np.mean(spent)) if spent else None,
            }
        )  # fmt: skip
    return out


def _fresh(seeds: Array, returns: Array, costs: Array) -> dict[str, Any]:
    return {"seeds": seeds.tolist(), "return": float(returns.mean()), "cost": float(costs.mean())}


def _overall(method: str, mine: Sequence[Mapping[str, Any]], common: Sequence[str]) -> dict[str, Any]:
    """Interquartile means over tasks and the seeds that all have; in how many runs the mean cost is within the limit,
    and what share of their episodes costs more.

    `scaled_iqm` is over all tasks of the method; `common` over the tasks that all methods are planned for.
    """
    both = [c for c in mine if c["task"] in common]
    whole = bool(both) and len(both) == len(common)
    return {
        "method": method,
        "tasks": [c["task"] for c in mine],
        "scaled_iqm": _iqm(mine, "scaled"),
        "common": {k: _iqm(both, k) for k in ("scaled", "cost")} if whole else None,
        "seeds": len(_shared(mine)),
        "episodes_above": sum(c["violations"]["estimate"] * c["seeds"] for c in mine)
        / max(1, sum(c["seeds"] for c in mine)),
        "safe_runs": sum(v <= 1 for c in mine for v in c["by_seed"]["cost"]),
        "runs": sum(c["seeds"] for c in mine),
    }


def _iqm(mine: Sequence[Mapping[str, Any]], key: str) -> dict[str, float] | None:
    """Over cells and the seeds that all of them have; None without any."""
    shared = _shared(mine)
    by = [dict(zip(c["by_seed"]["seed"], c["by_seed"][key], strict=True)) for c in mine]
    values = np.array([[one[s] for one in by] for s in sorted(shared)])
    return stratified_bootstrap(values, statistic=iqm)._asdict() if shared else None


def _shared(mine: Sequence[Mapping[str, Any]]) -> set[int]:
    """Seeds that all cells have."""
    return set.intersection(*(set(c["by_seed"]["seed"]) for c in mine)) if mine else set()


def _curve(name: str, mine: Sequence[Row], limit: float) -> list[dict[str, Any]]:
    """Means by update of every seed that has a curve; its last point is the flight that counts."""
    task, _, method = name.partition("/")
    out = []
    for r in mine:
        if r.get("curve"):
            flights = [*r["curve"], {"update": r["updates"], **r["flights"][f"{limit:g}"]}]
            out.append(
                {
                    "task": task, "method": method, "seed": r["seed"], "limit": limit,
                    "updates": [f["update"] for f in flights],
                    "returns": [float(np.mean(f["returns"])) for f in flights],
                    "costs": [float(np.mean(f["costs"])) for f in flights],
                }
            )  # fmt: skip
    return out
