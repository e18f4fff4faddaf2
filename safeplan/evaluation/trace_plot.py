"""A picture of what a guidance chain did: how far each method moved, what the branches said, what it cost."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeplan.diffusion import Trace
from safeplan.errors import ShapeError


def trace_figure(traces: Sequence[Trace], path: str | Path, title: str = "") -> Path:
    """Write a PNG with one panel each for moves (RMS), cosines of the branches to the conditional prediction, and
    network evaluations per sample; lines are medians over samples, bands the middle 80 %.

    Args:
        traces: of one run each, all with the same chain and steps; samples are put together.

    Raises:
        ShapeError: no evaluated step, or traces of different lengths.
    """
    lengths = {len(t.sigma) for t in traces}
    if lengths in (set(), {0}) or len(lengths) > 1:
        raise ShapeError(f"trace_figure: traces of {sorted(lengths)} evaluations, expected equally many, at least 1")
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    steps = lengths.pop()
    fig, axes = plt.subplots(3, 1, figsize=(8, 7), sharex=True, layout="constrained")
    moves = _merged([[t.rms[k] for t in traces] for k in range(steps)])
    cosines = _merged([[t.cosine[k] for t in traces] for k in range(steps)])
    nfe = [torch.cat([t.nfe[k] for t in traces]).double().numpy() for k in range(steps)]
    for ax, table, label in ((axes[0], moves, "move of x0 (RMS)"), (axes[1], cosines, "cosine to the condition's x0")):
        for name, rows in table.items():
            _band(ax, rows, name)
        ax.set_ylabel(label)
        if table:
            ax.legend(fontsize=8, frameon=False)
        else:
            ax.text(0.5, 0.5, "none in this chain", ha="center", transform=ax.transAxes)
    axes[2].step(range(steps), [n.mean() for n in nfe], where="mid", color="#30343B")
    axes[2].set_ylabel("evaluations a sample")
    axes[2].set_ylim(0)
    axes[2].set_xticks(range(steps), [f"{s:.2g}" for s in traces[0].sigma], rotation=60, fontsize=8)
    axes[2].set_xlabel("noise level sigma of the evaluation")
    total = sum(n.mean() for n in nfe)
    axes[0].set_title(
        f"{title}  {total:.1f} evaluations a sample, {len(nfe[0])} samples".strip(), fontsize=10, loc="left"
    )
    path = Path(path)
    temporary = path.with_name(f".{path.name}")
    fig.savefig(temporary, dpi=130, format="png")
    plt.close(fig)
    os.replace(temporary, path)
    return path


def _merged(steps: list[list[dict[str, Tensor]]]) -> dict[str, list[np.ndarray | None]]:
    """Per name one array of all samples for each step, None where the name does not occur."""
    names = list(dict.fromkeys(k for step in steps for row in step for k in row))
    return {
        k: [torch.cat([r[k] for r in step]).double().numpy() if all(k in r for r in step) else None for step in steps]
        for k in names
    }


def _band(ax: Any, rows: list[np.ndarray | None], name: str) -> None:
    low, middle, high = np.array(
        [[np.nan] * 3 if r is None else np.nanquantile(r, [0.1, 0.5, 0.9]) for r in rows], float
    ).T
    (line,) = ax.plot(range(len(rows)), middle, marker=".", label=name)
    ax.fill_between(range(len(rows)), low, high, color=line.get_color(), alpha=0.2, lw=0)
