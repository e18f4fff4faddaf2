"""Whether a scene can be solved at all: a coarse grid between start and goal, past the obstacles that stand still."""

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.distance import inside_box, rounded_box
from safeplan.types import Array, Obstacle, Scene


def free_grid(scene: Scene, radius: float, cell: float) -> tuple[Array, Array, Array]:
    """Cells whose centre keeps `radius` (m) from walls and standing obstacles: x `[I]`, y `[J]`, free `[I, J]`."""
    xlo, ylo, xhi, yhi = scene.bounds
    xs, ys = np.arange(xlo + cell / 2, xhi, cell), np.arange(ylo + cell / 2, yhi, cell)
    px, py = np.meshgrid(xs, ys, indexing="ij")
    free = inside_box(px, py, scene.bounds, NUMPY) >= radius
    for o in scene.obstacles:
        if o.vx == 0 and o.vy == 0 and o.sigma_v == 0:
            free &= rounded_box(px, py, o.x, o.y, o.yaw, o.hx, o.hy, o.r, NUMPY) >= radius
    return xs, ys, free


def connected(scene: Scene, start: tuple[float, float], radius: float, cell: float) -> bool:
    """Whether a disc of `radius` (m) can be moved from `start` to the goal past everything that stands still."""
    from scipy.ndimage import label

    xs, ys, free = free_grid(scene, radius, cell)
    parts = np.asarray(label(free)[0])  # type: ignore[index]
    i, j = int(np.argmin(abs(xs - start[0]))), int(np.argmin(abs(ys - start[1])))
    goal = np.hypot(xs[:, None] - scene.goal.x, ys[None] - scene.goal.y) <= scene.goal.radius
    return bool(parts[i, j]) and bool((parts[goal] == parts[i, j]).any())


def separation(a: Obstacle, b: Obstacle) -> float:
    """Distance between two obstacles (m), from the samples of the outline of `b`; exact for discs."""
    t = np.linspace(0, 2 * np.pi, 33)[:-1]
    c, s = np.cos(b.yaw), np.sin(b.yaw)
    lx, ly = b.hx * np.clip(1.5 * np.cos(t), -1, 1), b.hy * np.clip(1.5 * np.sin(t), -1, 1)
    px, py = b.x + c * lx - s * ly, b.y + s * lx + c * ly
    return float(rounded_box(px, py, a.x, a.y, a.yaw, a.hx, a.hy, a.r, NUMPY).min() - b.r)


def interpolate(difficulty: float, easy: float, default: float, hard: float) -> float:
    """Piecewise linear in the difficulty: `easy` at 0, `default` at 1, `hard` at 2."""
    return float(np.interp(difficulty, (0.0, 1.0, 2.0), (easy, default, hard)))
