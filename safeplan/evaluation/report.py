"""The table of a study: success with exact intervals, paired differences, planning times. Markdown and JSON."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from safeplan.errors import DataError
from safeplan.evaluation.stats import Interval, clopper_pearson, paired, percentile
from safeplan.evaluation.study import Row, by_planner

OUTCOMES = {  # column of the table -> what counts in a row
    "goal reached": lambda r: r["reached"],
    "no collision": lambda r: not r["collided"],
    "both": lambda r: r["reached"] and not r["collided"],
}
PERCENTILES = (50, 95, 99)


def summarise(header: dict[str, Any], rows: Sequence[Row], reference: str = "safeplan") -> dict[str, Any]:
    """All that the table shows, as JSON. Rows need `planner, seed, reached, collided` and `planning_ms` (a list).

    Raises:
        DataError: no rows.
    """
    groups = by_planner(rows)
    if not groups:
        raise DataError("report: the study has no rows yet; run `safeplan evaluate` first")
    planners = []
    for name, mine in groups.items():
        times = np.array([ms for r in mine for ms in r["planning_ms"]], float)
        entry: dict[str, Any] = {"planner": name, "episodes": len(mine), "plans": len(times)}
        for outcome, holds in OUTCOMES.items():
            k = sum(bool(holds(r)) for r in mine)
            entry[outcome] = {"k": k, **clopper_pearson(k, len(mine))._asdict()}
        # calls of one episode are pooled; the interval takes them as independent
        entry["planning_ms"] = {
            f"p{q}": percentile(times, q, reps=200)._asdict() if len(times) else None for q in PERCENTILES
        }
        planners.append(entry)
    out = {**header, "planners": planners, "paired": []}
    if reference in groups:
        ours = {r["seed"]: r for r in groups[reference]}
        for name, mine in groups.items():
            both = [(ours[r["seed"]], r) for r in mine if r["seed"] in ours]
            if name == reference or not both:
                continue
            entry = {"planner": name, "reference": reference, "episodes": len(both)}
            for outcome, holds in OUTCOMES.items():
                p = paired([bool(holds(a)) for a, _ in both], [bool(holds(b)) for _, b in both])
                entry[outcome] = {**p._asdict(), "difference": p.difference._asdict()}
            out["paired"].append(entry)
    return out


def markdown(summary: dict[str, Any]) -> str:
    """The table, and below it the paired differences."""
    head = ["planner", "episodes", *OUTCOMES, "planning ms p50 / p95 / p99"]
    table = []
    for e in summary["planners"]:
        ms = " / ".join("-" if v is None else f"{v['estimate']:.0f}" for v in e["planning_ms"].values())
        table.append([e["planner"], str(e["episodes"]), *(_share(e[o]) for o in OUTCOMES), ms])
    parts = [_rows(head, table)]
    if summary["paired"]:
        reference = summary["paired"][0]["reference"]
        head = [f"{reference} minus", *(f"{o} (points), p" for o in OUTCOMES)]
        parts.append(_rows(head, [[e["planner"], *(_difference(e[o]) for o in OUTCOMES)] for e in summary["paired"]]))
    parts.append(
        "Brackets: 95 % intervals (exact Clopper-Pearson; Bonett-Price for differences); p: exact McNemar, same seeds. "
        f"Made with {'; continued with '.join(_versions(summary))}."
    )
    return "\n\n".join(parts)


def _versions(summary: dict[str, Any]) -> list[str]:
    """Each set of versions and machines that rows were made with, once, the first one first."""
    short = "safeplan {safeplan}, torch {torch}, casadi {casadi} on {device}, {machine}"
    every = {tuple(m.items()): m for m in (summary["made_with"], *summary.get("continued", []))}.values()
    texts = [short.format_map(defaultdict(lambda: "unknown", m)) for m in every]
    if len(set(texts)) == len(texts):
        return texts
    return [", ".join(f"{k} {v}" for k, v in m.items()) for m in every]  # they differ in what the short form leaves out


def _share(d: dict[str, Any]) -> str:
    i = Interval(d["estimate"], d["low"], d["high"])
    return f"{100 * i.estimate:.1f} % [{100 * i.low:.1f}, {100 * i.high:.1f}]"


def _difference(d: dict[str, Any]) -> str:
    i = d["difference"]
    return f"{100 * i['estimate']:+.1f} [{100 * i['low']:+.1f}, {100 * i['high']:+.1f}], p = {d['p']:.2g}"


def _rows(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: object) -> str:
    """A cell: floats to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def generic(data: dict) -> str:
    """A result with a list `rows` of equal keys, an optional `note`."""
    rows = data["rows"]
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([number(r[k]) for k in head] for r in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return table + (f"\n\n{data['note']}" if data.get("note") else "")


def spread(v: dict, digits: int = 2) -> str:
    """An estimate with its interval; one seed has none."""
    shown = f"{v['estimate']:.{digits}f}"
    return shown if v["low"] == v["high"] else f"{shown} [{v['low']:.{digits}f}, {v['high']:.{digits}f}]"
