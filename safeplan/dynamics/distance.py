"""Signed distances, m: positive outside. One definition for every backend; obstacles are rounded oriented boxes."""

from typing import Any

import numpy as np

from safeplan.types import Array, Scene


def rounded_box(px, py, cx, cy, yaw, hx, hy, r, xp) -> Any:
    """Signed distance of points to a box of half extents (hx, hy) at (cx, cy), turned by yaw, grown by r."""
    dx, dy = px - cx, py - cy
    c, s = xp.cos(yaw), xp.sin(yaw)
    qx, qy = xp.abs(c * dx + s * dy) - hx, xp.abs(c * dy - s * dx) - hy
    ox, oy = xp.maximum(qx, 0.0), xp.maximum(qy, 0.0)
    outside = xp.sqrt(ox * ox + oy * oy + 1e-18)  # the offset keeps the gradient finite on corners
    return outside + xp.minimum(xp.maximum(qx, qy), 0.0) - r


def box_and_normal(px: Array, py: Array, cx: Array, cy: Array, yaw: Array, hx: Array, hy: Array, r: Array):
    """Signed distance of `rounded_box` and its gradient in the point, the outward unit normal; NumPy."""
    dx, dy = px - cx, py - cy
    if not (np.any(hx) or np.any(hy)):
        d = np.sqrt(dx * dx + dy * dy)
        safe = np.maximum(d, 1e-12)
        return d - r, dx / safe, dy / safe
    c, s = np.cos(yaw), np.sin(yaw)
    lx, ly = c * dx + s * dy, c * dy - s * dx
    qx, qy = np.abs(lx) - hx, np.abs(ly) - hy
    ox, oy = np.maximum(qx, 0.0), np.maximum(qy, 0.0)
    d = np.sqrt(ox * ox + oy * oy)
    out, across = d > 0, qx > qy
    safe = np.where(out, d, 1.0)
    gx = np.where(out, ox / safe, across) * np.sign(lx)
    gy = np.where(out, oy / safe, ~across) * np.sign(ly)
    return d + np.minimum(np.maximum(qx, qy), 0.0) - r, c * gx - s * gy, s * gx + c * gy


def polytope(px, py, faces, xp) -> Any:
    """Lower bound of the signed distance to {p: a.p <= b for all (ax, ay, b) in faces}, unit normals; exact inside."""
    d = None
    for ax, ay, b in faces:
        side = ax * px + ay * py - b
        d = side if d is None else xp.maximum(d, side)
    return d


def inside_box(px, py, bounds, xp) -> Any:
    """Distance to the nearest wall of `bounds = (xlo, ylo, xhi, yhi)`, positive inside."""
    xlo, ylo, xhi, yhi = bounds
    return xp.minimum(xp.minimum(px - xlo, xhi - px), xp.minimum(py - ylo, yhi - py))


def footprint_centers(system, x, xp) -> list[tuple[Any, Any, float]]:
    """Centres and radii of the footprint discs for state components `x`."""
    px, py = x[system.position[0]], x[system.position[1]]
    if system.yaw is None or (len(system.footprint) == 1 and system.footprint[0][:2] == (0.0, 0.0)):
        return [(px, py, r) for _, _, r in system.footprint]
    c, s = xp.cos(x[system.yaw]), xp.sin(x[system.yaw])
    return [(px + c * dx - s * dy, py + s * dx + c * dy, r) for dx, dy, r in system.footprint]


def clearance(system, x: Array, centers: Array, scene: Scene) -> Array:
    """Clearance to everything: states `x [n, ...]` (components first) against centres `[..., K, 2]` -> `[..., K+1]`.

    The last entry is the clearance to the bounds. NumPy; the leading shape broadcasts.
    """
    from safeplan.dynamics.backends import NUMPY as xp

    out = None
    yaw, hx, hy, radius = (scene.column(k) for k in ("yaw", "hx", "hy", "r"))
    discs = not (hx.any() or hy.any())
    for px, py, r in footprint_centers(system, x, xp):
        if discs:  # the common case, without the box
            dx, dy = px[..., None] - centers[..., 0], py[..., None] - centers[..., 1]
            d = np.sqrt(dx * dx + dy * dy) - (radius + r)
        else:
            d = rounded_box(px[..., None], py[..., None], centers[..., 0], centers[..., 1], yaw, hx, hy, radius, xp) - r
        wall = inside_box(px, py, scene.bounds, xp) - r
        d = np.concatenate([d, np.broadcast_to(wall[..., None], (*d.shape[:-1], 1))], axis=-1)
        out = d if out is None else np.minimum(out, d)
    assert out is not None
    return out
