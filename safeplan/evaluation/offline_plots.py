"""Pictures of a study of offline methods: cost against return, and both over the updates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.evaluation.colours import BLUE, GREEN, GREY, ORANGE, RED, SKY
from safeplan.types import Array

INK = "#30343B"
MARKERS = "osD^vP*X<>hd"
WIDTH = 4.4  # inches of a panel


def tradeoff_figure(
    summary: Mapping[str, Any],
    episodes: Mapping[str, tuple[Array, Array]],
    kinds: Mapping[str, str],
    path: str | Path,
) -> Path:
    """Write a PNG with a panel per task: episodes of the log grey, methods coloured, limits as lines.

    Args:
        summary: of `offline_table.summarise`. episodes: task -> returns and costs `[E]` of the log.
        kinds: method -> "parity", "ours", "limits" (takes any limit when it acts) or "rival".
    """
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    tasks = list(episodes)
    columns = len(tasks) if len(tasks) < 4 else 2
    lines = -(-len(tasks) // columns)
    size = WIDTH * columns + 2.2, 3.9 * lines
    fig, grid = plt.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False)
    for ax in grid.flat[len(tasks) :]:
        ax.set_axis_off()
    looks = _looks([c["method"] for c in summary["cells"]], kinds)
    for ax, task in zip(grid.flat, tasks, strict=False):
        returns, costs = episodes[task]
        ax.plot(costs, returns, ".", color=GREY, ms=3, alpha=0.4, zorder=1)
        for limit in summary["limits"]:
            ax.axvline(limit, color=INK, lw=1.4 if limit == summary["limits"][0] else 0.7, ls="--", zorder=2)
        for method, look in looks.items():
            mine = [c for c in summary["cells"] if (c["task"], c["method"]) == (task, method)]
            if mine:
                _points(ax, mine, look)
        ax.set_xscale("symlog", linthresh=5.0, linscale=0.6)
        flown = [_raw(c, "cost")[2] for c in summary["cells"] if c["task"] == task]  # none may fall off the picture
        ax.set_xlim(-0.7, 1.4 * max(costs.max(), *summary["limits"], *flown))
        ax.set_xticks([0, 2, 5, *(v for v in (10, 20, 40, 80, 160, 320, 640) if v < ax.get_xlim()[1])])
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("cost of an episode")
        ax.set_ylabel("return of an episode")
        ax.set_title(task, fontsize=11, loc="left")
    _legend(fig, looks, summary["limits"])
    return _saved(fig, path)


def _looks(methods: Sequence[str], kinds: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Colour by kind, marker by number within it."""
    colours = {"parity": RED, "ours": BLUE, "limits": GREEN, "rival": ORANGE}
    seen: dict[str, int] = dict.fromkeys(colours, 0)
    looks = {}
    for method in dict.fromkeys(methods):
        kind = kinds[method]
        looks[method] = {"color": colours[kind], "marker": MARKERS[seen[kind] % len(MARKERS)]}
        seen[kind] += 1
    return looks


def _points(ax: Any, cells: Sequence[Mapping[str, Any]], look: Mapping[str, Any]) -> None:
    """Means with the range over seeds; the limits of one method joined."""
    cost, ret = ([_raw(c, key) for c in cells] for key in ("cost", "return"))
    style = {**look, "ms": 7, "mec": "white", "mew": 0.7, "lw": 1.2, "zorder": 4}
    error = {"xerr": _bars(cost), "yerr": _bars(ret), "elinewidth": 0.9}
    ax.errorbar([c[0] for c in cost], [r[0] for r in ret], **error, **style)


def _raw(cell: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    """Mean, least and largest over seeds."""
    times, values = cell["limit"] if key == "cost" else 1.0, cell["by_seed"][key]
    return times * cell[key]["estimate"], times * min(values), times * max(values)


def _bars(values: Sequence[tuple[float, float, float]]) -> Array:
    v = np.array(values).T
    return np.maximum(np.stack([v[0] - v[1], v[2] - v[0]]), 0.0)


def _legend(fig: Any, looks: Mapping[str, Mapping[str, Any]], limits: Sequence[float]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], ls="", ms=7, label=method, **look) for method, look in looks.items()]
    lines.append(Line2D([], [], ls="", marker=".", color=GREY, label="episodes of the log"))
    lines.append(Line2D([], [], ls="--", color=INK, label=f"limits {', '.join(f'{v:g}' for v in limits)}"))
    fig.legend(handles=lines, frameon=False, fontsize=8, loc="outside right center")


def curves_figure(summary: Mapping[str, Any], path: str | Path) -> Path:
    """Write a PNG: return and cost over the updates, a column per task; mean over seeds, and their range."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    curves = summary["curves"]
    tasks, methods = (list(dict.fromkeys(c[k] for c in curves)) for k in ("task", "method"))
    size = WIDTH * max(len(tasks), 1), 5.6
    fig, axes = plt.subplots(2, max(len(tasks), 1), figsize=size, layout="constrained", squeeze=False, sharex="col")
    for column, task in enumerate(tasks):
        for key, ax in zip(("returns", "costs"), axes[:, column], strict=True):
            for method, colour in zip(methods, (RED, BLUE, GREEN, ORANGE, SKY, INK), strict=False):
                mine = [c for c in curves if (c["task"], c["method"]) == (task, method)]
                if mine:
                    longest = max(len(c["updates"]) for c in mine)
                    mine = [c for c in mine if len(c["updates"]) == longest]
                    at, values = np.mean([c["updates"] for c in mine], 0), np.array([c[key] for c in mine])
                    ax.plot(at, values.mean(0), "o-", color=colour, lw=1.8, ms=4, label=f"{method} ({len(mine)} seeds)")
                    ax.fill_between(at, values.min(0), values.max(0), color=colour, alpha=0.18, lw=0)
            ax.set_ylim(min(0.0, ax.get_ylim()[0]) if key == "returns" else 0.0)
        axes[1][column].axhline(summary["limits"][0], color=INK, lw=1.2, ls="--", label="limit")
        axes[1][column].set_xlabel("updates")
        axes[0][column].set_title(task, fontsize=11, loc="left")
        axes[1][column].legend(frameon=False, fontsize=8)
    axes[0][0].set_ylabel("return of an episode")
    axes[1][0].set_ylabel("cost of an episode")
    return _saved(fig, path)


def _saved(fig: Any, path: str | Path) -> Path:
    import matplotlib.pyplot as plt

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    fig.savefig(temporary, dpi=110, format="png")
    plt.close(fig)
    temporary.replace(path)
    return path
