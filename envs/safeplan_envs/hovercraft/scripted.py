"""A scripted hovercraft pilot: shortest path on a grid past predicted obstacles, tracked with the yaw held at zero."""

from collections.abc import Callable

import numpy as np

from safeplan.dynamics.hovercraft import RADIUS, parameters
from safeplan.types import Array, Scene
from safeplan_envs.base import PlanningEnv
from safeplan_envs.scripted import Behaviour, Driver, gaps

CELL = 0.08  # m
ROOM, SPEED = (0.05, 0.16), (0.25, 0.55)  # margins of careful pilots, m; speeds, m/s
REPLAN = 5  # control steps
AHEAD = 0.22  # m, the point on the path that is steered to
K_SPEED, K_YAW, K_SPIN = 3.0, 25.0, 7.0  # 1/s, 1/s^2, 1/s
HOPS = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (1, 2), (2, -1), (1, -2))


class Grid:
    """Nodes of the arena and the edges between them, `[E]` from, to and length; built once."""

    def __init__(self, bounds: tuple[float, float, float, float]):
        xlo, ylo, xhi, yhi = bounds
        nx, ny = round((xhi - xlo) / CELL), round((yhi - ylo) / CELL)
        ix, iy = (a.ravel() for a in np.meshgrid(np.arange(nx), np.arange(ny), indexing="ij"))
        self.points = np.stack([xlo + (ix + 0.5) * CELL, ylo + (iy + 0.5) * CELL], -1)
        a, b, length = [], [], []
        for dx, dy in HOPS:
            ok = (ix + dx < nx) & (iy + dy >= 0) & (iy + dy < ny)
            a.append(np.flatnonzero(ok))
            b.append((ix[ok] + dx) * ny + iy[ok] + dy)
            length.append(np.full(ok.sum(), CELL * np.hypot(dx, dy)))
        self.a, self.b, self.length = (np.concatenate(v) for v in (a, b, length))
        walls = np.minimum(self.points - (xlo, ylo), np.array((xhi, yhi)) - self.points)
        self.wall = walls.min(-1)

    def path(self, scene: Scene, p: Array, speed: float, b: Behaviour) -> Array | None:
        """Points `[N, 2]` from `p` to the goal, or None when every way is blocked."""
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import dijkstra

        away = np.hypot(*(self.points - p).T)
        gap = np.minimum(gaps(scene, self.points, 1.1 * away / speed, b.predicts, b.sees), self.wall) - RADIUS
        keep = max(b.margin, 1e-3)
        cost = 1.0 + 5.0 * np.clip(1 - gap / keep, 0, 1) + 0.35 * b.bias * (self.points[:, 1] / scene.bounds[3] - 0.5)
        free = (gap >= min(b.margin, 0.02)) | (away < 1.5 * CELL)
        use = free[self.a] & free[self.b]
        i, j = self.a[use], self.b[use]
        weight = self.length[use] * 0.5 * (cost[i] + cost[j])
        n = len(self.points)
        graph = csr_matrix((weight, (i, j)), shape=(n, n))
        goal = int(np.argmin(np.hypot(*(self.points - (scene.goal.x, scene.goal.y)).T)))
        start = int(np.argmin(away))
        _, before = dijkstra(graph, directed=False, indices=start, return_predecessors=True)
        if goal != start and before[goal] < 0:
            return None
        chain = [goal]
        while chain[-1] != start:
            chain.append(int(before[chain[-1]]))
        points = np.vstack([p, self.points[chain[::-1][1:]], (scene.goal.x, scene.goal.y)])
        return smooth(points)


def smooth(points: Array, spacing: float = 0.04, reach: int = 5) -> Array:
    """Evenly spaced, averaged over `2 reach + 1` points, ends kept; `[N, 2]`."""
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    even = np.linspace(0, s[-1], max(int(s[-1] / spacing), 2) + 1)
    p = np.stack([np.interp(even, s, points[:, i]) for i in range(2)], -1)
    padded = np.vstack([2 * p[0] - p[reach:0:-1], p, 2 * p[-1] - p[-2 : -reach - 2 : -1]]) if len(p) > reach else p
    if len(padded) == len(p):
        return p
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    return np.stack([np.convolve(padded[:, i], kernel, "valid") for i in range(2)], -1)


def allocation() -> Array:
    """Pair thrusts `[3]` = matrix `[3, 3]` times body force (N, N) and torque (N m)."""
    c = parameters()
    return np.linalg.inv(np.vstack([np.array(c["pair_direction"]).T, c["pair_arm"]]))


def control_law(env: PlanningEnv, b: Behaviour) -> Callable[[], Array]:
    """Pair thrusts `[3]` (N) for the state as last measured."""
    craft, inverse, grid = parameters(), allocation(), Grid(env.scene().bounds)
    memory: dict = {"steps": 0, "path": None, "speed": b.speed}

    def replan(p: Array) -> None:
        scene = env.scene()
        for factor in (1.0, 0.6, 0.3):
            path, speed = grid.path(scene, p, factor * b.speed, b), factor * b.speed
            if path is None:
                continue
            s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
            near = s < 2.5 * speed
            if gaps(scene, path[near], s[near] / speed, b.predicts, b.sees).min() - RADIUS >= min(b.margin, 0.03):
                break
        else:
            path = None
        memory.update(path=path, speed=speed)

    def control() -> Array:
        x = env.measured
        p, yaw, v, w = x[:2], x[2], x[3:5], x[5]
        if memory["steps"] % REPLAN == 0:
            replan(p)
        memory["steps"] += 1
        want = np.zeros(2)
        if memory["path"] is not None:
            path = memory["path"]
            near = int(np.argmin(np.hypot(*(path - p).T)))
            to = path[min(near + round(AHEAD / 0.04), len(path) - 1)] - p
            want = memory["speed"] * to / max(float(np.hypot(*to)), 1e-6)
        push = craft["mass"] * (np.clip(K_SPEED * (want - v), -1.5, 1.5) + craft["belief"]["drag"]["mean"] * v)
        c, s = np.cos(yaw), np.sin(yaw)
        turn = craft["inertia"] * (-K_YAW * np.arctan2(s, c) - K_SPIN * w)
        return inverse @ np.array([c * push[0] + s * push[1], c * push[1] - s * push[0], turn])

    return control


def driver(env: PlanningEnv, rng: np.random.Generator) -> Driver:
    """A random pilot for the episode that `env` has just begun."""
    return Driver(control_law, env, rng, ROOM, SPEED, waver=(1.0, 1.0, 1.0))
