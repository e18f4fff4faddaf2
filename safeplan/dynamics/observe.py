"""What a policy sees: the state, where the goal is, and the nearest obstacles, in one flat vector."""

import numpy as np

from safeplan.dynamics.system import System
from safeplan.types import Array, Scene

SLOTS = 6  # nearest obstacles seen; empty slots are far away and small
OBSTACLE = 8  # dx, dy, vx, vy, r, hx, hy, clearance
FAR = 10.0


def observation_size(system: System, slots: int = SLOTS) -> int:
    """Length of the observation: state, goal offset, distance to the four walls, obstacle slots."""
    return system.n + 2 + 4 + slots * OBSTACLE


def observe(system: System, x: Array, scene: Scene, slots: int = SLOTS) -> Array:
    """Observation `[O]` of state `x [n]`: (x, goal - p, walls, slots x (o - p, velocity, r, hx, hy, clearance))."""
    p = np.array([x[system.position[0]], x[system.position[1]]])
    xlo, ylo, xhi, yhi = scene.bounds
    k = len(scene.obstacles)
    rows = np.zeros((slots, OBSTACLE))
    rows[:, 0] = rows[:, 7] = FAR
    if k:
        d = scene.centers(np.zeros(1))[0] - p
        yaw, hx, hy, r = (scene.column(c) for c in ("yaw", "hx", "hy", "r"))
        c, s = np.cos(yaw), np.sin(yaw)
        q = np.abs(np.stack([c * d[:, 0] + s * d[:, 1], c * d[:, 1] - s * d[:, 0]], -1)) - np.stack([hx, hy], -1)
        gap = np.hypot(*np.maximum(q, 0).T) + np.minimum(q.max(-1), 0) - r
        near = np.argsort(gap, kind="stable")[:slots]
        velocity = np.stack([scene.column("vx"), scene.column("vy")], -1)
        full = np.concatenate([d, velocity, r[:, None], hx[:, None], hy[:, None], gap[:, None]], -1)
        rows[: len(near)] = full[near]
    walls = [p[0] - xlo, p[1] - ylo, xhi - p[0], yhi - p[1]]
    return np.concatenate([x, [scene.goal.x - p[0], scene.goal.y - p[1]], walls, rows.ravel()])
