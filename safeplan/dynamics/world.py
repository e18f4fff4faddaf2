"""The simulated truth: one vehicle with parameters drawn once, among obstacles that wander as the scene says.

Environments and closed-loop runs share it, so that what is simulated is what the planner assumes unless told otherwise.
"""

from dataclasses import dataclass, replace

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.distance import clearance
from safeplan.dynamics.system import System, rk4
from safeplan.errors import ShapeError
from safeplan.types import CUT, Array, Belief, Scene, cut_normal


@dataclass(frozen=True)
class StepResult:
    """One control step: worst clearance on the way (m), whether the goal disc was entered, states `[substeps, n]`."""

    clearance: float
    reached: bool
    path: Array


class World:
    """Simulator of one episode.

    Args:
        system: the vehicle.
        scene: obstacles and goal at time 0.
        belief: distribution of start state and parameters that the truth is drawn from.
        rng: the episode's generator; all draws happen here, in the constructor and in `measure`.
        horizon_s: seconds for which disturbances and obstacle motions are drawn ahead.
    """

    def __init__(self, system: System, scene: Scene, belief: Belief, rng: np.random.Generator, horizon_s: float = 60.0):
        self.system, self.initial, self.belief, self.rng = system, scene, belief, rng
        stretches = int(np.ceil(horizon_s / belief.stretch_s)) + 1
        draw = belief.sample(1, stretches, rng)
        self.x: Array = draw.x[0].copy()
        self.theta: Array = draw.theta[0]
        self.h = system.dt / system.substeps
        self._last = int(np.ceil(horizon_s / self.h)) + 1
        self._centers = scene.sample(1, np.arange(self._last + 1) * self.h, rng)[0]
        self.k = 0  # control steps taken

    @property
    def time(self) -> float:
        """Seconds since the start."""
        return self.k * self.system.dt

    def centers(self) -> Array:
        """True obstacle centres now, `[K, 2]`."""
        return self._centers[min(self.k * self.system.substeps, self._last)]

    def scene(self) -> Scene:
        """The scene as it can be seen now: true positions, nominal velocities."""
        now = self.centers()
        moved = tuple(
            replace(o, x=float(p[0]), y=float(p[1])) for o, p in zip(self.initial.obstacles, now, strict=True)
        )
        return replace(self.initial, obstacles=moved)

    def measure(self) -> Array:
        """The state with fresh measurement noise, `[n]`, as the belief describes it."""
        cut = getattr(self.belief, "cut", CUT)
        return self.x + self.belief.x_sd * cut_normal(self.rng.random(self.system.n), cut)

    def clearance(self) -> float:
        """Clearance now, m."""
        return float(clearance(self.system, self.x, self.centers(), self.initial).min())

    def step(self, u: Array) -> StepResult:
        """Hold control `u [m]` (clipped to its bounds) for one control step."""
        s = self.system
        u = np.asarray(u, float)
        if u.shape != (s.m,):
            raise ShapeError(f"world.step: control is {u.shape}, expected ({s.m},)")
        u = np.clip(u, s.control_low, s.control_high)
        theta = self.theta[min(int(self.time / self.belief.stretch_s + 1e-9), len(self.theta) - 1)]
        x, path, worst, reached = self.x, [], np.inf, False
        goal, (ix, iy) = self.initial.goal, s.position
        for i in range(1, s.substeps + 1):
            x = rk4(s, 0.0, x, tuple(u), tuple(theta), self.h, NUMPY)
            centers = self._centers[min(self.k * s.substeps + i, self._last)]
            worst = float(np.minimum(worst, clearance(s, x, centers, self.initial).min()))  # keeps NaN
            reached = reached or bool(np.hypot(x[ix] - goal.x, x[iy] - goal.y) <= goal.radius)
            path.append(x)
        self.x = x
        self.k += 1
        return StepResult(worst, reached, np.array(path))
