"""A scripted car driver: dynamic programming over a forward lattice of the road, pure pursuit, speed control."""

from collections.abc import Callable

import numpy as np

from safeplan.dynamics.bicycle import WHEELBASE
from safeplan.types import Array, Scene
from safeplan_envs.base import PlanningEnv
from safeplan_envs.driving.scenes import EGO_HALF
from safeplan_envs.scripted import Behaviour, Driver, gaps

ROOM, SPEED = (0.35, 0.9), (3.5, 6.5)  # margins of careful drivers, m; speeds, m/s
COLUMN, LATERAL, COLUMNS = 1.5, 0.25, 26  # m, m, columns ahead
SLOPE = 3  # lateral cells per column
MIDDLE = WHEELBASE / 2  # m, from the rear axle to the middle of the car
REPLAN = 2  # control steps
PASS = 0.3  # s
STOP = 8.0  # m kept before what blocks the road, so that the car can still turn out


def lattice(scene: Scene, x: float, y: float, speed: float, b: Behaviour) -> tuple[Array, float]:
    """Cheapest way ahead: points `[C, 2]` and the distance (m) up to which it is free."""
    width = scene.bounds[3]
    ys = np.arange(LATERAL, width, LATERAL)
    xs = x + COLUMN * np.arange(1, COLUMNS + 1)
    xs = xs[xs < scene.bounds[2] - 5.0]
    if not len(xs):
        return np.array([[x + 1.0, y]]), 1e3
    points = np.stack(np.meshgrid(xs, ys, indexing="ij"), -1)
    times = np.broadcast_to(((xs - x) / max(speed, 0.5))[:, None], points.shape[:2])
    # the path is for the middle of the car: nose and tail pass a little earlier and later
    near = [gaps(scene, points, np.maximum(times + s, 0.0), b.predicts, b.sees) for s in (-PASS, 0.0, PASS)]
    gap = np.minimum(np.min(near, axis=0), np.minimum(ys, width - ys)) - EGO_HALF
    keep = max(b.margin, 1e-3)
    cost = 3.0 * np.clip(1 - gap / keep, 0, 1) ** 2 + 0.05 * (1 + b.bias * (2 * ys / width - 1))
    cost = np.where(gap < min(b.margin, 0.1), 1e3, cost)
    hops = np.arange(-SLOPE, SLOPE + 1)
    total = np.where(abs(ys - y) <= (SLOPE + 1) * LATERAL, 0.6 * abs(ys - y) ** 2, 1e6) + cost[0]
    back = np.zeros((len(xs), len(ys)), int)
    for c in range(1, len(xs)):
        padded = np.pad(total, SLOPE, constant_values=1e6)
        options = np.stack([padded[SLOPE + h : SLOPE + h + len(ys)] + 0.6 * (LATERAL * h) ** 2 for h in hops])
        best = options.argmin(0)
        back[c] = np.arange(len(ys)) + hops[best]
        total = np.minimum(options[best, np.arange(len(ys))], 1e6) + cost[c]
    row = [int(total.argmin())]
    for c in range(len(xs) - 1, 0, -1):
        row.append(int(np.clip(back[c, row[-1]], 0, len(ys) - 1)))
    row.reverse()
    blocked = cost[np.arange(len(xs)), row] >= 1e3
    reach = float(xs[int(blocked.argmax())] - x) if blocked.any() else 1e3
    line = np.concatenate([[y], ys[row]])
    even = np.convolve(np.pad(line, 1, mode="edge"), np.ones(3) / 3, "valid")
    return np.stack([np.concatenate([[x], xs]), even], -1), reach


def control_law(env: PlanningEnv, b: Behaviour) -> Callable[[], Array]:
    """Acceleration (m/s^2) and steering (rad) `[2]` for the state as last measured."""
    memory: dict = {"steps": 0, "path": np.zeros((1, 2)), "speed": b.speed}

    def replan(x: Array) -> None:
        scene, best = env.scene(), (np.zeros((1, 2)), -1.0, 0.0)
        for factor in (1.0, 0.65, 0.35):
            path, reach = lattice(
                scene, x[0] + MIDDLE * np.cos(x[2]), x[1] + MIDDLE * np.sin(x[2]), factor * b.speed, b
            )
            if reach > best[1]:
                best = (path, reach, factor * b.speed)
            if reach >= 1e3:
                break
        path, reach, speed = best
        room = max(reach - STOP if b.margin > 0 else reach - 5.0, 0.0)
        memory.update(path=path, speed=min(speed, float(np.sqrt(2 * 2.0 * room))))

    def control() -> Array:
        x = env.measured
        if memory["steps"] % REPLAN == 0:
            replan(x)
        memory["steps"] += 1
        path, v = memory["path"], float(x[3])
        ahead = 2.5 + 0.5 * max(v, 0.0)
        ty = float(np.interp(x[0] + ahead, path[:, 0], path[:, 1]))
        dx, dy = ahead, ty - x[1]
        side = -np.sin(x[2]) * dx + np.cos(x[2]) * dy
        steer = np.arctan(WHEELBASE * 2 * side / (dx * dx + dy * dy))
        return np.array([1.5 * (memory["speed"] - v), steer])

    return control


def driver(env: PlanningEnv, rng: np.random.Generator) -> Driver:
    """A random driver for the episode that `env` has just begun."""
    return Driver(control_law, env, rng, ROOM, SPEED, waver=(1.0, 0.3))
