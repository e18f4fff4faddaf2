"""Half-planes that keep a footprint clear of moving sets, taken where the previous iterate passes them."""

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.distance import box_and_normal, footprint_centers
from safeplan.dynamics.system import System
from safeplan.types import Array, Scene

OFF = -1e3  # offset of a padded slot: always satisfied


def nearest(system: System, states: Array, centers: Array, scene: Scene, slots: int) -> Array:
    """Indices of the `slots` obstacles that come nearest to a path `states [H, n]`; centres `[H, K, 2]`."""
    k = len(scene.obstacles)
    if k <= slots:
        return np.arange(k)
    ix, iy = system.position
    hull = np.hypot(scene.column("hx"), scene.column("hy")) + scene.column("r")
    gap = np.hypot(centers[..., 0] - states[:, None, ix], centers[..., 1] - states[:, None, iy]) - hull
    return np.sort(np.argsort(gap.min(axis=0), kind="stable")[:slots])


def supporting(
    system: System, states: Array, centers: Array, scene: Scene, margins: Array, chosen: Array, slots: int
) -> Array:
    """Half-planes `[H, D, slots + 4, 3]` (normal, offset) for the discs of the footprint.

    Args:
        states: previous iterate at steps 1..H, `[H, n]`.
        centers: obstacle centres at those times, `[H, K, 2]`.
        margins: clearance to be kept, `[H, K + 1]`; the last column is for the bounds.
        chosen: indices of the obstacles that get a slot.
    """
    H, D = len(states), len(system.footprint)
    out = np.zeros((H, D, slots + 4, 3))
    out[..., 2] = OFF
    yaw, hx, hy, radius = (scene.column(c)[chosen] for c in ("yaw", "hx", "hy", "r"))
    cx, cy = centers[:, chosen, 0], centers[:, chosen, 1]
    xlo, ylo, xhi, yhi = scene.bounds
    for d, (px, py, r) in enumerate(footprint_centers(system, tuple(states.T), NUMPY)):
        px, py = px[:, None], py[:, None]

        if len(chosen):
            value, gx, gy = box_and_normal(px, py, cx, cy, yaw, hx, hy, radius)
            centred = (gx == 0) & (gy == 0)  # at the very centre every way out is as good
            gy = np.where(centred, 1.0, gy)
            # sd is convex: its tangent is a lower bound, so keeping the tangent keeps the distance
            need = r + margins[:, chosen]
            out[:, d, : len(chosen), 0] = gx
            out[:, d, : len(chosen), 1] = gy
            out[:, d, : len(chosen), 2] = gx * px + gy * py - value + need
        wall = r + margins[:, -1]
        for j, (a, b, c) in enumerate(((1, 0, xlo), (-1, 0, -xhi), (0, 1, ylo), (0, -1, -yhi))):
            out[:, d, slots + j] = np.stack([np.full(H, a), np.full(H, b), c + wall], axis=-1)
    return out
