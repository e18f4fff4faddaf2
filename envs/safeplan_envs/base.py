"""What the environments share: a Gymnasium face on `safeplan.dynamics.world.World`."""

from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from safeplan.dynamics.observe import observation_size, observe
from safeplan.dynamics.system import System
from safeplan.dynamics.world import World
from safeplan.errors import ConfigError, ShapeError
from safeplan.rng import numpy_rng
from safeplan.types import Array, CutNormalBelief, Scene
from safeplan_envs import render

SPLITS = ("train", "tune", "eval", "demo")
Drawn = tuple[Scene, Array]  # a scene and the nominal start state [n]


def check_difficulty(difficulty: float) -> float:
    """`difficulty` as a float in [0, 2] (0 easy, 1 default, 2 hard), or ConfigError."""
    if not 0.0 <= float(difficulty) <= 2.0:
        raise ConfigError(f"difficulty={difficulty}: must lie in [0, 2] (0 easy, 1 default, 2 hard)")
    return float(difficulty)


class PlanningEnv(gym.Env[Array, Array]):
    """Drive one vehicle with uncertain parameters to a goal disc, among obstacles that wander.

    Observation: `observe(system, measured state, scene)`, float32. Action: `[m]` in [-1, 1], linear onto the control
    bounds. Reward: decrease of the distance to the goal (m), +1 on arrival. `info["cost"]` is 1.0 on a step on which
    the clearance was negative. Terminates at the goal (and at a collision when asked to), truncates after
    `max_seconds`. `reset(options=)` takes `difficulty`, `scene` (a Scene that replaces the drawn one) and `start`
    (a nominal state `[n]`).

    Args:
        difficulty: 0 easy, 1 default, 2 hard.
        split: name of the random stream ("train", "tune", "eval", "demo"): equal seeds of two splits share nothing.
        max_seconds: length of an episode, s.
        terminate_on_collision: end the episode at the first collision.
        render_mode: None or "rgb_array".
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}
    name: ClassVar[str]
    span: ClassVar[float]  # m, bound on every entry of the observation
    style: ClassVar[render.Style]

    def __init__(
        self,
        system: System,
        make_belief: Callable[[Array], CutNormalBelief],
        draw: Callable[[np.random.Generator, float], Drawn],
        difficulty: float,
        split: str,
        max_seconds: float,
        terminate_on_collision: bool,
        render_mode: str | None,
    ):
        if split not in SPLITS:
            raise ConfigError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode={render_mode!r}: choose None or 'rgb_array'")
        if not max_seconds > 0:
            raise ConfigError(f"max_seconds={max_seconds}: must be positive")
        self.system, self.split, self.render_mode = system, split, render_mode
        self.difficulty, self.max_seconds = check_difficulty(difficulty), float(max_seconds)
        self.terminate_on_collision = terminate_on_collision
        self._make_belief, self._draw = make_belief, draw
        size = observation_size(system)
        self.observation_space = gym.spaces.Box(-self.span, self.span, (size,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (system.m,), np.float32)
        self._world: World | None = None
        self.measured: Array = np.zeros(system.n)  # the state as last measured, [n]
        self.trail: list[Array] = []  # true states since the reset, [n] each

    @property
    def world(self) -> World:
        """The simulated truth of this episode."""
        if self._world is None:
            raise gym.error.ResetNeeded(f"{self.name}: call reset() before anything else")
        return self._world

    def scene(self) -> Scene:
        """Obstacles as seen now, goal and bounds."""
        return self.world.scene()

    def belief(self) -> CutNormalBelief:
        """Start state and parameters, around the state as last measured."""
        return self._make_belief(self.measured)

    def action(self, u: Array) -> Array:
        """The action `[m]` in [-1, 1] that commands control `u [m]`, clipped to the bounds."""
        lo, hi = self.system.control_low, self.system.control_high
        return np.clip(2 * (np.asarray(u, float) - lo) / (hi - lo) - 1, -1, 1).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        options = options or {}
        unknown = set(options) - {"difficulty", "scene", "start"}
        if unknown:
            raise ConfigError(f"reset option {sorted(unknown)[0]!r} is unknown: use difficulty, scene or start")
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        difficulty = check_difficulty(options.get("difficulty", self.difficulty))
        rng = numpy_rng(seed, self.name, self.split)
        scene, start = self._draw(rng, difficulty)
        scene, start = options.get("scene", scene), np.asarray(options.get("start", start), float)
        if start.shape != (self.system.n,):
            raise ShapeError(f"reset option start is {start.shape}, expected ({self.system.n},)")
        self._world = World(self.system, scene, self._make_belief(start), rng, self.max_seconds + 1.0)  # type: ignore[arg-type]
        self.measured = self._world.measure()
        self.trail = [self._world.x.copy()]
        self._distance = self._goal_distance()
        return self._observe(), self._info(self._world.clearance(), False)

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        lo, hi = self.system.control_low, self.system.control_high
        a = np.clip(np.asarray(action, float), -1.0, 1.0)
        result = self.world.step(lo + 0.5 * (a + 1.0) * (hi - lo))
        self.measured = self.world.measure()
        self.trail.append(self.world.x.copy())
        distance = self._goal_distance()
        reward = self._distance - distance + float(result.reached)
        self._distance = distance
        info = self._info(result.clearance, result.reached)
        terminated = result.reached or (self.terminate_on_collision and result.clearance < 0)
        truncated = not terminated and self.world.time >= self.max_seconds - 1e-9
        return self._observe(), float(reward), terminated, truncated, info

    def render(self) -> Array | None:  # type: ignore[override]
        """The scene now, `[rows, columns, 3]` uint8, or None without a render mode."""
        if self.render_mode is None:
            return None
        w = self.world
        return render.frame(self.system, w.x, w.scene(), np.array(self.trail), w.time, self.style)

    def _goal_distance(self) -> float:
        (ix, iy), x, goal = self.system.position, self.world.x, self.world.initial.goal
        return float(np.hypot(x[ix] - goal.x, x[iy] - goal.y))

    def _observe(self) -> Array:
        obs = observe(self.system, self.measured, self.scene())
        return np.clip(obs, -self.span, self.span).astype(np.float32)

    def _info(self, clearance: float, goal: bool) -> dict[str, Any]:
        w = self.world
        k = min(int(w.time / w.belief.stretch_s + 1e-9), len(w.theta) - 1)
        return {
            "cost": float(clearance < 0),
            "goal": bool(goal),
            "clearance": float(clearance),
            "theta": w.theta[k].copy(),
        }
