"""A scripted point robot: steers to the goal around the discs by tangents, with margins that may be negative."""

from collections.abc import Callable

import numpy as np

from safeplan.types import Array
from safeplan_envs.base import PlanningEnv
from safeplan_envs.scripted import Behaviour, Driver

ROOM, SPEED = (0.1, 0.4), (0.5, 1.8)  # margins of careful drivers, m; speeds, m/s


def control_law(env: PlanningEnv, b: Behaviour) -> Callable[[], Array]:
    """Acceleration (m/s^2) and turn rate (rad/s) `[2]` for the state as last measured."""

    def control() -> Array:
        px, py, v, yaw = env.measured
        scene = env.scene()
        to = np.array([scene.goal.x - px, scene.goal.y - py])
        want, far = np.arctan2(to[1], to[0]), float(np.hypot(*to))
        for o in scene.obstacles if b.sees else ():
            dx, dy = o.x - px, o.y - py
            d, r = float(np.hypot(dx, dy)), o.r + b.margin
            if d > far + r:
                continue
            bearing = np.arctan2(dy, dx)
            off = np.arctan2(np.sin(want - bearing), np.cos(want - bearing))
            half = np.arcsin(np.clip(r / max(d, 1e-6), 0, 1))
            if abs(off) < half:  # the way is barred: pass on the nearer side
                want = bearing + half * (1.0 if off + 0.2 * b.bias >= 0 else -1.0)
        error = np.arctan2(np.sin(want - yaw), np.cos(want - yaw))
        speed = b.speed * max(np.cos(error), 0.15)
        return np.array([3.0 * (speed - v), 3.0 * error])

    return control


def driver(env: PlanningEnv, rng: np.random.Generator) -> Driver:
    """A random driver for the episode that `env` has just begun."""
    return Driver(control_law, env, rng, ROOM, SPEED, waver=(1.0, 1.0))
