"""A picture of estimates from a log: each beside the driver's own episodes."""

import os
from pathlib import Path

from safeplan.data import Log
from safeplan.evaluation.colours import BLUE, GREY, RED
from safeplan.evaluation.log_estimate import LogEstimate, flown_on

WORDS = {"rewards": ("return", BLUE), "costs": ("cost", RED)}


def estimate_figure(found: LogEstimate, log: Log, path: str | Path) -> Path:
    """Write a PNG: the discounted returns and costs of the log's episodes, and the policy's estimate as an interval."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    path = Path(path)
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for ax, (signal, (word, color)) in zip(axes, WORDS.items(), strict=True):
        ax.hist(
            flown_on(log, signal, found.gamma), bins=40, color=GREY, alpha=0.6, label="episodes of the log, flown on"
        )
        value = found.policy[signal]
        ax.axvspan(value.low, value.high, color=color, alpha=0.25, label="policy, 95 % interval")
        ax.axvline(value.estimate, color=color, lw=2, label="policy, estimate")
        ax.set(xlabel=f"discounted {word} of an episode (gamma {found.gamma:g})", ylabel="episodes")
        ax.legend(frameon=False, fontsize=8)
    fig.suptitle(f"Unlike the log: {found.unlike:.1%} of the policy's actions", fontsize=10, x=0.01, ha="left")
    temporary = path.with_name(f".{path.name}")
    fig.savefig(temporary, dpi=130, format="png")
    plt.close(fig)
    os.replace(temporary, path)
    return path
