"""The point robot's true infeasible set on a grid, and how well a learned {V_h > 0} matches it.

Truth by search: a state is feasible when some roll-out of an exhaustive family keeps out of both discs until the robot
stands still (after which it can stand for ever). The family is: hold (a1, w1) for t1 seconds, then brake fully with
turn rate w2, with a1, w1, w2 in {-1, 0, 1} and t1 from 0 to 2 s. Every state found feasible is so for certain (the
roll-out is the proof). That the others are not is tested, not proved: `falsify` looks for escapes with random controls.
Bang-bang controls suffice near one disc, since braking shortens every path and the extreme turns bound the reachable
headings; the switch is for the gap between the discs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.evaluation.point_robot import BOX, HAZARDS, RADIUS, SYSTEM, V_MAX, advance, observe, violation

Array = np.ndarray
Value = Callable[[Array], Array]  # observations [B, 11] -> V_h [B]

SPEEDS = (0.5, 1.0, 1.5, 2.0)  # of the grid, m/s
STOP_STEPS = int(V_MAX / SYSTEM.dt) + 4  # full braking from v_max, and the smooth end of it


def _family() -> Iterator[tuple[float, float, float, int]]:
    """(a1, w1, w2, steps of the first phase), the likeliest escapes first."""
    for w in (-1.0, 1.0, 0.0):
        yield -1.0, w, w, 0
    for steps in (5, 10, 15, 20, 30, 40):
        for a in (-1.0, 1.0, 0.0):
            for w1 in (-1.0, 1.0, 0.0):
                for w2 in (-1.0, 1.0, 0.0):
                    if a > -1.0 or w1 != w2:
                        yield a, w1, w2, steps


def infeasible(x: Array) -> Array:
    """`[M]` true where no roll-out of the family saves the state; states `x [4, M]`."""
    open_ = np.flatnonzero(violation(x) <= 0)
    saved = np.zeros(x.shape[1], bool)
    for a, w1, w2, first in _family():
        if not len(open_):
            break
        index, y = open_, x[:, open_]
        for k in range(first + STOP_STEPS):
            u = np.broadcast_to(np.array([[a], [w1]]) if k < first else np.array([[-1.0], [w2]]), (2, y.shape[1]))
            y = advance(y, u)
            ok = violation(y) <= 0
            index, y = index[ok], y[:, ok]
        saved[index] = True
        open_ = open_[~saved[open_]]
    return ~saved


def falsify(x: Array, tries: int, rng: np.random.Generator) -> int:
    """How many of the states `x [4, M]` escape under one of `tries` random piecewise-constant controls."""
    m = x.shape[1]
    escaped = np.zeros(m, bool)
    for _ in range(tries):
        y, ok = x, violation(x) <= 0
        hold = int(rng.integers(2, 25))
        for k in range(2 * STOP_STEPS):
            if k % hold == 0:
                u = np.clip(rng.uniform(-1.5, 1.5, (2, m)), -1, 1)
            u[0] = -1.0 if k >= STOP_STEPS else u[0]
            y = advance(y, u)
            ok &= violation(y) <= 0
        escaped |= ok
    return int(escaped.sum())


@dataclass(frozen=True)
class Grid:
    """Slices of constant speed and heading: `x [4, V, W, N, N]` over speeds, headings, px, py."""

    x: Array
    speeds: Array
    yaws: Array
    axis: Array
    truth: Array  # [V, W, N, N] true where infeasible


def make_grid(points: int = 81, speeds: tuple[float, ...] = SPEEDS, headings: int = 8) -> Grid:
    """Truth on `points`^2 positions for every speed (m/s) and heading. At rest it is the discs: left out."""
    axis = np.linspace(-BOX, BOX, points)
    yaws = np.linspace(-np.pi, np.pi, headings, endpoint=False) + np.pi / headings / 2
    v, w, px, py = np.meshgrid(np.array(speeds), yaws, axis, axis, indexing="ij")
    x = np.stack([px, py, v, w])
    truth = infeasible(x.reshape(4, -1)).reshape(v.shape)
    return Grid(x, np.array(speeds), yaws, axis, truth)


def draw_states(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """`n` states `[4, n]`, uniform over the positions, headings and range of speeds of the grid; their truth `[n]`."""
    low, high = (-BOX, -BOX, SPEEDS[0], -np.pi), (BOX, BOX, SPEEDS[-1], np.pi)
    x = rng.uniform(low, high, (n, 4)).T
    return x, infeasible(x)


def iou(predicted: Array, truth: Array) -> float:
    """Intersection over union of two boolean sets; 1 when both are empty."""
    union = int((predicted | truth).sum())
    return int((predicted & truth).sum()) / union if union else 1.0


def false_safe(predicted: Array, truth: Array) -> float:
    """Share of the truly infeasible states that are called feasible."""
    return float((truth & ~predicted).sum() / max(truth.sum(), 1))


def rates(predicted: Array, x: Array, truth: Array) -> dict[str, float]:
    """How well the set `predicted [...]` of the states `x [4, ...]` matches `truth [...]`.

    `false_safe_outside_discs` is of the truly infeasible states that are not inside a disc yet: the ones to be learned.
    """
    ahead = truth & (violation(x) <= 0)
    return {
        "iou": iou(predicted, truth),
        "false_safe": false_safe(predicted, truth),
        "false_safe_outside_discs": false_safe(predicted, ahead),
        "false_unsafe": float((predicted & ~truth).sum() / max((~truth).sum(), 1)),
    }


def score(predicted: Array, grid: Grid) -> dict[str, Any]:
    """Rates of a predicted set `[V, W, N, N]` over the whole grid and by speed, beside those of "inside a disc now"."""
    now = violation(grid.x) > 0
    return {
        **rates(predicted, grid.x, grid.truth),
        "iou_disc_now": iou(now, grid.truth),
        "false_safe_disc_now": false_safe(now, grid.truth),
        "iou_by_speed": {f"{s:g}": iou(p, t) for s, p, t in zip(grid.speeds, predicted, grid.truth, strict=True)},
        "states": int(grid.truth.size),
        "infeasible_share": float(grid.truth.mean()),
    }


def values(v_h: Value, x: Array, chunk: int = 65536) -> Array:
    """V_h `[...]` of states `x [4, ...]`."""
    flat = observe(x.reshape(4, -1)).astype(np.float32)
    parts = [np.asarray(v_h(flat[i : i + chunk])) for i in range(0, len(flat), chunk)]
    return np.concatenate(parts).reshape(x.shape[1:])


def picture(v_h: Value, grid: Grid, path: str | Path, heading: int = 1) -> Path:
    """Learned V_h, its zero level, the true set's border and the discs, one panel per speed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    v = values(v_h, grid.x)
    n = len(grid.speeds)
    fig, axes = plt.subplots(1, n, figsize=(3.0 * n, 3.4), squeeze=False, layout="constrained")
    image = None
    for i, ax in enumerate(axes[0]):
        image = ax.pcolormesh(grid.axis, grid.axis, v[i, heading].T, cmap="RdBu_r", vmin=-1, vmax=1, rasterized=True)
        if v[i, heading].min() < 0 < v[i, heading].max():
            ax.contour(grid.axis, grid.axis, v[i, heading].T, [0.0], colors="black", linewidths=1.5)
        true = grid.truth[i, heading].T.astype(float)
        ax.contour(grid.axis, grid.axis, true, [0.5], colors="tab:green", linewidths=1.5)
        for c in HAZARDS:
            ax.add_patch(plt.Circle(tuple(c), RADIUS, fill=False, ls=":", color="0.3"))  # type: ignore[attr-defined]
        yaw = grid.yaws[heading]
        ax.annotate("", (0.5 * np.cos(yaw), 0.5 * np.sin(yaw)), (0, 0), arrowprops={"arrowstyle": "->"})
        match = iou(v[i, heading] > 0, grid.truth[i, heading])
        ax.set(title=f"v = {grid.speeds[i]:g} m/s, IoU {match:.2f}", xlabel="x (m)", ylabel="y (m)" if i == 0 else "")
        ax.set_aspect("equal")
    fig.colorbar(image, ax=axes[0].tolist(), label="V_h (m)", shrink=0.8)  # type: ignore[arg-type]
    degrees = np.degrees(grid.yaws[heading])
    fig.suptitle(f"heading {degrees:.0f}°; black: V_h = 0, green: true infeasible set, dotted: discs")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}")
    fig.savefig(temp, dpi=110)
    plt.close(fig)
    temp.replace(path)
    return path
