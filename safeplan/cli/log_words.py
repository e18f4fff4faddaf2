"""What `safeplan data` says about a log: a short page for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safeplan.data import Log, describe, hints
from safeplan.data.describe import SHARES, describe_columns
from safeplan.strict_json import write


def count(n: int, what: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def page(stats: dict[str, Any]) -> str:
    """Episodes, rows, ranges, and what FISOR would see; `stats` as `data.describe` makes it."""
    ends, fisor = stats["ends"], stats["fisor"]
    rows = [
        f"{count(stats['episodes'], 'episode')}, {count(stats['rows'], 'row')}: "
        f"{ends['terminal']} ended by themselves, {ends['timeout']} timed out, {ends['unfinished']} unfinished",
        "",
        f"{'':<12}" + "".join(f"{name:>10}" for name in SHARES),
        *(f"{k:<12}" + "".join(f"{v:>10.4g}" for v in stats[k].values()) for k in ("length", "return", "cost")),
        "",
        f"costs         {stats['costly_rows']:.1%} of the rows, largest {stats['largest_cost']:.4g}; "
        f"{stats['cost_free_episodes']:.1%} of the episodes are free of them",
        f"observations  {_spread('entries', stats['observation_size'], stats['observations'])}",
        f"actions       {_spread('entries', stats['action_size'], stats['actions'])}; at a bound: "
        f"{_shares(stats['saturated'])} of the rows",
        *([f"more columns  {', '.join(stats['extra'])}"] if stats["extra"] else []),
        f"for FISOR     {fisor['violating_rows']:.1%} of the rows violate, "
        f"{fisor['rows_of_episodes_without_violation']:.1%} lie in episodes without any violation; "
        f"rewards times {fisor['reward_scale']:.3g}",
    ]
    if "rows_with_h_above_0" in fisor:
        rows.append(f"              {fisor['rows_with_h_above_0']:.1%} of the rows violate by their column h")
    return "\n".join(rows)


def _spread(what: str, size: int, table: dict[str, list[float]]) -> str:
    one = what if size > 1 else "entry"
    return f"{size} {one} in [{min(table['min']):.4g}, {max(table['max']):.4g}]"


def _shares(values: Sequence[float]) -> str:
    return f"{values[0]:.1%}" if len(values) == 1 else f"{min(values):.1%} to {max(values):.1%}"


def bullets(heading: str, texts: Sequence[str]) -> str:
    """A heading and one line for each text; nothing without texts."""
    return "\n".join([f"\n{heading}", *(f"  - {t}" for t in texts)]) if texts else ""


def report(
    log: Log, name: str, out: Path, facts: dict[str, Any], ignored: Sequence[str] = (), more: Sequence[str] = ()
) -> str:
    """Print the page and the warnings, write stats.json and log.png into `out`; the last sentence.

    Args:
        ignored: keys of the file that the log has no room for.
        more: warnings of what made the log.
    """
    from safeplan.evaluation.log_plot import log_figure

    stats, warnings = describe(log), [*more, *warned(log.columns, ignored)]
    record = {**facts, "errors": [], "warnings": warnings, **stats, "sha256_of_columns": log.digest()}
    write(out / "stats.json", record)
    log_figure(log, out / "log.png", f"{Path(name).name}: {count(stats['episodes'], 'episode')}")
    print(f"{name}: {page(stats)}")
    if warnings:
        print(bullets("Warnings:", warnings))
    return f"\nThis log can be used: no errors, {count(len(warnings), 'warning')}."


def faulty(columns: Mapping[str, Any], name: str, out: Path, facts: dict[str, Any], warnings: Sequence[str]) -> None:
    """Print what the columns of a file with faults hold, and the warnings; write stats.json and log.png into `out`."""
    from safeplan.evaluation.log_plot import columns_figure

    table = describe_columns(columns)
    write(out / "stats.json", {**facts, "warnings": warnings, "columns": table})
    columns_figure(columns, out / "log.png", f"{Path(name).name}: no log as it stands")
    wide = max(map(len, table), default=0)
    print(f"{'':<{wide}}{'shape':>16}{'not finite':>12}{'min':>12}{'mean':>12}{'max':>12}")
    for key, row in table.items():
        ends = "".join(f"{row[k]:>12.4g}" if k in row else f"{'-':>12}" for k in ("min", "mean", "max"))
        print(f"{key:<{wide}}{' x '.join(map(str, row['shape'])):>16}{row['not_finite']:>12,}{ends}")
    if warnings:
        print(bullets("Warnings:", warnings))


def warned(columns: Mapping[str, Any], ignored: Sequence[str]) -> list[str]:
    """All hints, and keys that are not read."""
    unread = f"keys that are not read, as they are no numbers or no columns: {', '.join(ignored)}"
    return hints(columns) + ([unread] if ignored else [])
