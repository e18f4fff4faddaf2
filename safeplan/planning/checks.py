"""Faults of the input that a planner must answer with a status instead of an exception."""

import numpy as np
from scipy import ndimage

from safeplan.dynamics.distance import clearance, inside_box, rounded_box
from safeplan.dynamics.system import System
from safeplan.types import Array, Belief, Scene, Status


def input_fault(system: System, belief: Belief, scene: Scene) -> str:
    """What makes belief or scene unusable, or an empty string."""
    x, theta = (np.asarray(a, float) for a in belief.mean())
    for name, value, size in (("start state", x, system.n), ("parameters", theta, system.p)):
        if value.shape != (size,):
            return f"belief: {name} has shape {value.shape}, expected ({size},) for system {system.name!r}"
        if not np.isfinite(value).all():
            return f"belief: {name} holds {value[~np.isfinite(value)][0]} at index {int(np.argmin(np.isfinite(value)))}"
    if not hasattr(belief, "x_sd"):
        return f"belief: {type(belief).__name__} has no x_sd [n], the spread of a measurement of the state"
    for name in ("x_sd", "theta_sd"):
        sd = np.asarray(getattr(belief, name, 0.0), float)
        if not (np.isfinite(sd).all() and (sd >= 0).all()):
            return f"belief: {name} is {sd.tolist()}, expected finite numbers of at least 0"
    for owner, what in ((belief, "belief"), (scene, "scene")):
        if not (np.isfinite(owner.stretch_s) and owner.stretch_s > 0):
            return f"{what}: stretch_s is {owner.stretch_s}, expected seconds above 0"
    for name in ("r", "hx", "hy", "sigma_v"):
        if (scene.column(name) < 0).any():
            return f"scene: an obstacle has {name} = {scene.column(name).min():.3g}, expected at least 0"
    fields = ("x", "y", "r", "vx", "vy", "sigma_v", "yaw", "hx", "hy")
    numbers = [scene.column(c) for c in fields] + [
        np.array([scene.goal.x, scene.goal.y, scene.goal.radius, *scene.bounds])
    ]
    if not all(np.isfinite(a).all() for a in numbers):
        return "scene: an obstacle, the goal or the bounds hold a number that is not finite"
    return ""


def scene_fault(system: System, x: Array, scene: Scene) -> tuple[Status | None, str]:
    """Start in collision, or a goal that cannot be reached past the standing obstacles."""
    now = float(clearance(system, x, scene.centers(np.zeros(1))[0], scene).min())
    if now < 0:
        return Status.START_IN_COLLISION, f"the start overlaps an obstacle or the bounds by {-now:.3g} m"
    if not reachable(system, x, scene):
        g = scene.goal
        return Status.UNREACHABLE, f"no way through the standing obstacles to the goal at ({g.x:.3g}, {g.y:.3g})"
    return None, ""


def reachable(system: System, x: Array, scene: Scene, cells: int = 120) -> bool:
    """Whether a disc of the smallest footprint radius can get from start to goal past the standing obstacles."""
    from safeplan.dynamics.backends import NUMPY

    xlo, ylo, xhi, yhi = scene.bounds
    size = max(xhi - xlo, yhi - ylo) / cells
    gx = np.arange(xlo + size / 2, xhi, size)
    gy = np.arange(ylo + size / 2, yhi, size)
    X, Y = (np.asarray(a, float) for a in np.meshgrid(gx, gy, indexing="ij"))
    r = min(radius for _, _, radius in system.footprint)
    free = inside_box(X, Y, scene.bounds, NUMPY) >= r - size
    for o in scene.obstacles:
        if o.vx == o.vy == o.sigma_v == 0:
            free &= rounded_box(X, Y, o.x, o.y, o.yaw, o.hx, o.hy, o.r, NUMPY) >= r - size
    here = (X - x[system.position[0]]) ** 2 + (Y - x[system.position[1]]) ** 2
    goal = (X - scene.goal.x) ** 2 + (Y - scene.goal.y) ** 2 <= max(scene.goal.radius, size) ** 2
    labels = np.zeros(free.shape, np.int32)
    ndimage.label(free, structure=np.ones((3, 3)), output=labels)
    start = labels.ravel()[np.argmin(np.where(free, here, np.inf))]
    return bool((labels[goal & free] == start).any())
