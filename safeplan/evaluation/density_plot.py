"""Pictures of an evolving density: snapshots with level sets, spread, log-gain, error of probabilities; animation."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.dynamics.systems import Case
from safeplan.evaluation.box_error import BoxError
from safeplan.evaluation.colours import BLUE, GREY, ORANGE, RED, SKY
from safeplan.evaluation.evolution import Evolution, Plane, plane
from safeplan.types import Array

INK = "#30343B"
LINES = (RED, ORANGE, INK)  # level sets, the smallest mass first
SHOWN = 4  # snapshots
FAR = 6.0  # size of the whole view, in those of the smallest snapshot, beyond which snapshots have scales of their own
DOTS = 4096  # particles drawn at a time


def _shades() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("density", ["#DDE3EA", SKY, BLUE, "#00243D"])


def clock(case: Case) -> str:
    """` s`, or nothing for a system without units."""
    return " s" if any(q.unit not in ("", "1") for q in case.loop.states) else ""


def named(case: Case, axis: int) -> str:
    """Name of a state with its unit."""
    q = case.loop.states[axis]
    return f"{q.name} ({q.unit})" if q.unit not in ("", "1") else q.name


def _limits(cloud: Array) -> Array:
    """Ends `[2, 2]` of both axes that hold nearly all of `cloud [..., 2, N]`."""
    seen = np.moveaxis(cloud, -2, 0).reshape(2, -1)
    seen = seen[:, np.isfinite(seen).all(0)]
    low, high = np.quantile(seen, [0.002, 0.998], axis=1)
    pad = 0.08 * (high - low) + 1e-9 * (1 + np.abs(low))
    return np.stack([low - pad, high + pad], axis=1)


def _scale(evolution: Evolution) -> tuple[float, float]:
    """Ends of the colours."""
    rho = evolution.log_rho[np.isfinite(evolution.log_rho)]
    low, high = np.quantile(rho, [0.02, 0.98])
    return float(low), float(max(high, low + 1e-3))


def _snapshot(ax: Any, evolution: Evolution, f: int, found: Plane | None, masses: Sequence[float]) -> tuple[Any, list]:
    """Particles of frame `f`, dense ones on top, and level sets; the dots and everything that was drawn."""
    low, high = _scale(evolution)
    x, rho = evolution.states[f, list(evolution.axes), :DOTS], evolution.log_rho[f, :DOTS]
    order = np.argsort(rho)[: np.isfinite(rho).sum()]  # those that escaped come last
    dots = ax.scatter(*x[:, order], c=rho[order], s=3.0, lw=0, cmap=_shades(), vmin=low, vmax=high, rasterized=True)
    drawn = [dots]
    if found is not None:
        centers = [(e[:-1] + e[1:]) / 2 for e in (found.x, found.y)]
        for mass, colour in _coloured(masses):
            if found.tells(mass):
                level = [found.level(mass)]
                drawn.append(ax.contour(*centers, found.density.T, level, colors=[colour], linewidths=1.4))
    return dots, drawn


def _coloured(masses: Sequence[float]) -> list[tuple[float, str]]:
    return [(m, LINES[i % len(LINES)]) for i, m in enumerate(sorted(masses))]


def _legend(owner: Any, masses: Sequence[float], **where: Any) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=c, lw=1.6, label=f"{m:.0%} of the mass" if m < 0.995 else f"{m:.1%} of the mass")
        for m, c in _coloured(masses)
    ]
    owner.legend(handles=lines, frameon=False, fontsize=9, **where)


def _dress(ax: Any, case: Case, axes: tuple[int, int], limits: Array) -> None:
    ax.set_xlim(*limits[0])
    ax.set_ylim(*limits[1])
    ax.set_xlabel(named(case, axes[0]))
    ax.set_ylabel(named(case, axes[1]))
    wide, tall = np.diff(limits, axis=1)[:, 0]
    units = {case.loop.states[a].unit for a in axes}
    if len(units) == 1 and units != {"1"} and 0.4 < wide / tall < 2.5:
        ax.set_aspect("equal", adjustable="box")


def density_figure(
    evolution: Evolution, error: BoxError | None, path: str | Path, masses: Sequence[float] = (0.5, 0.9, 0.99)
) -> Path:
    """Write `density.png`: four moments, and below them spread, log-gain and the error of probabilities."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    case, axes = evolution.case, evolution.axes
    fig = plt.figure(figsize=(13.5, 7.6), layout="constrained")
    halves: Any = fig.subfigures(2, 1, height_ratios=(1.05, 1.0))
    upper, lower = halves
    fig.suptitle(f"{case.name}: where it can be in the next {case.horizon_s:g}{clock(case)}", fontsize=13)
    top: Any = upper.subplots(1, SHOWN)
    below: Any = lower.subplots(1, 3)
    frames = np.linspace(0, len(evolution.times) - 1, SHOWN).round().astype(int)
    limits = np.array([_limits(evolution.cloud[f]) for f in frames])
    shared = _limits(evolution.cloud)
    apart = bool((np.diff(shared)[:, 0] > FAR * np.diff(limits)[..., 0].min(0)).any())
    dots = None
    for ax, f, own in zip(top, frames, limits, strict=True):
        dots, _ = _snapshot(ax, evolution, f, plane(evolution.cloud[f]), masses)
        _dress(ax, case, axes, own if apart else shared)
        ax.set_title(f"t = {evolution.times[f]:.3g}{clock(case)}" + (" (own scale)" if apart else ""), fontsize=10)
    known = "state and parameters" if case.loop.p else "the state"
    upper.colorbar(dots, ax=top.tolist(), label=f"log-density of\n{known} (nats)", extend="both", pad=0.01)
    _legend(upper, masses, loc="outside upper left", ncols=len(masses))
    _spread(below[0], evolution)
    _gain(below[1], evolution)
    _error(below[2], error)
    return _saved(fig, path)


def _spread(ax: Any, evolution: Evolution) -> None:
    case, sd = evolution.case, evolution.spread
    relative = bool((sd[0] > 0).all())
    for i, (colour, style) in enumerate(((BLUE, "-"), (ORANGE, "--"))):
        q = case.loop.states[evolution.axes[i]]
        unit = f" {q.unit}" if q.unit not in ("", "1") else ""
        label = f"{q.name}: {sd[0, i]:.3g} to {sd[-1, i]:.3g}{unit}"
        ax.plot(evolution.times, sd[:, i] / sd[0, i] if relative else sd[:, i], style, color=colour, lw=2, label=label)
    if relative:
        ax.axhline(1, color=GREY, lw=0.8)
    ax.set_ylabel("standard deviation / that at the start" if relative else "standard deviation")
    ax.set_ylim(0)
    ax.set_xlabel(f"time{' (s)' if clock(case) else ''}")
    ax.set_title("How far the states spread", fontsize=11, loc="left")
    ax.legend(frameon=False, fontsize=9)


def _gain(ax: Any, evolution: Evolution) -> None:
    least, low, middle, high, most = np.nanquantile(evolution.gain, [0, 0.05, 0.5, 0.95, 1], axis=1)
    t = evolution.times
    ax.fill_between(t, least, most, color=SKY, alpha=0.3, lw=0, label="all")
    ax.fill_between(t, low, high, color=SKY, alpha=0.7, lw=0, label="middle 90 %")
    ax.plot(t, middle, color=BLUE, lw=2, label="median particle")
    ax.axhline(0, color=GREY, lw=0.8)
    ax.set_ylim(min(1.05 * np.nanmin(least), -1), max(1.05 * np.nanmax(most), 1))
    ax.set_ylabel("log-gain (nats)")
    ax.set_xlabel(f"time{' (s)' if clock(evolution.case) else ''}")
    ax.set_title("How much denser it gets along a path", fontsize=11, loc="left")
    ax.legend(frameon=False, fontsize=9, loc="upper left")


def _error(ax: Any, error: BoxError | None) -> None:
    from matplotlib.ticker import NullFormatter

    ax.set_title("How exact the probability of a box is at the end", fontsize=11, loc="left")
    if error is None:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "no box here has a probability\nbetween 0.02 and 0.6", ha="center", transform=ax.transAxes)
        return
    n, equals = error.n, error.equals
    far = np.array([n[0], max(n[-1], 1.6 * equals[-1])])
    ax.plot(far, error.theory[0] * np.sqrt(n[0] / far), color=GREY, lw=1.2, label="independent, by theory")
    ax.plot(n, error.iid, "o", color=ORANGE, ms=5, label="independent, measured")
    ax.plot(n, error.sobol, "s-", color=BLUE, ms=5, lw=1.8, label="Sobol points")
    if equals[-1] > 1.5 * n[-1]:
        level = error.sobol[-1]
        arrow = {"arrowstyle": "<->", "color": INK, "lw": 1.2, "shrinkA": 4, "shrinkB": 0}
        ax.annotate("", (equals[-1], level), (n[-1], level), arrowprops=arrow)
        words = f"{n[-1]:,} Sobol = {float(f'{equals[-1]:.2g}'):,.0f} independent"
        ax.text(far[-1], level * 0.80, words, ha="right", va="top", fontsize=9)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(0.45 * min(error.sobol.min(), error.theory[-1]), 1.6 * error.iid.max())
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("particles")
    ax.set_ylabel("relative error (RMS over boxes)")
    ax.legend(frameon=False, fontsize=9, loc="upper right")


def density_animation(
    evolution: Evolution,
    path: str | Path,
    masses: Sequence[float] = (0.5, 0.9, 0.99),
    fps: int = 10,
    progress: Callable[[int], Any] = lambda n: None,
) -> Path:
    """Write `density.gif`: particles and level sets at all frames."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt
    from PIL import Image

    case = evolution.case
    fig, ax = plt.subplots(figsize=(6.4, 5.4), dpi=80, layout="constrained")
    _dress(ax, case, evolution.axes, _limits(evolution.cloud))
    _legend(fig, masses, loc="outside lower center", ncols=len(masses))
    title = ax.set_title("", fontsize=10, loc="left")
    images, drawn = [], []
    for f, t in enumerate(evolution.times):
        for artist in drawn:
            artist.remove()
        dots, drawn = _snapshot(ax, evolution, f, plane(evolution.cloud[f]), masses)
        if f == 0:
            fig.colorbar(dots, ax=ax, label="log-density (nats)", extend="both")
        title.set_text(f"{case.name}, t = {t:5.2f}{clock(case)}")
        fig.canvas.draw()
        images.append(Image.fromarray(np.asarray(fig.canvas.buffer_rgba())[..., :3].copy()).quantize(64))  # type: ignore[attr-defined]
        progress(1)
    plt.close(fig)
    path = Path(path)
    temporary = path.with_name(f".{path.name}")
    duration = [1000 // fps] * (len(images) - 1) + [1500]
    images[0].save(temporary, format="gif", save_all=True, append_images=images[1:], duration=duration, loop=0)
    temporary.replace(path)
    return path


def _saved(fig: Any, path: str | Path) -> Path:
    import matplotlib.pyplot as plt

    path = Path(path)
    temporary = path.with_name(f".{path.name}")
    fig.savefig(temporary, dpi=130, format="png")
    plt.close(fig)
    temporary.replace(path)
    return path
