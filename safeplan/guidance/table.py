"""The capability table: what every method needs, and which networks and samples offer it."""

from collections.abc import Mapping
from typing import NamedTuple

from safeplan.diffusion.guidance import Guidance


class Row(NamedTuple):
    """One method: what it needs, whether it takes gradients through the network, and what is missing per column."""

    name: str
    needs: tuple[str, ...]
    network_gradient: bool
    missing: dict[str, tuple[str, ...]]
    citation: str


def capability_table(methods: Mapping[str, Guidance], offered: Mapping[str, frozenset[str]]) -> list[Row]:
    """Rows for named methods against named sets of capabilities (see `diffusion.executor.offered`)."""
    return [
        Row(
            name,
            tuple(sorted(m.requires)),
            m.grad,
            {k: tuple(sorted(m.requires - have)) for k, have in offered.items()},
            m.citation(),
        )
        for name, m in methods.items()
    ]


def format_table(rows: list[Row]) -> str:
    """The table as aligned text: `yes`, or what is missing."""
    columns = list(rows[0].missing) if rows else []
    lines = [["method", "needs", "VJP", *columns]]
    for r in rows:
        cells = [", ".join(r.missing[c]) or "yes" for c in columns]
        lines.append([r.name, ", ".join(r.needs) or "-", "yes" if r.network_gradient else "-", *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
