"""Scripted demonstrators of mixed quality for four bullet tasks: some careful, some fast, some lost.

They act on observations alone, so that a policy could do the same. Each episode draws who drives it, how fast, how
surely and with what noise; a third change their mind on the way. None is trained, and none is an expert.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from safeplan.types import Array

RADIUS, LANE = 7.0, 6.0  # m: of the circle that is rewarded; cost beyond |x| = LANE
HALF_WIDTH = 2.0  # m: cost beyond |y| = HALF_WIDTH in the Run tasks
SPEED_LIMIT = {"BallRun": 2.5, "CarRun": 1.5}  # m/s: cost above
CAREFUL, RANDOM, SWITCH = 0.45, 0.03, 0.35  # shares of episodes


@dataclass(frozen=True)
class Style:
    """How one demonstrator drives. `speed` m/s, `lane` m; noise is AR(1) of deviation `sigma` and memory `rho`."""

    careful: bool
    speed: float
    lane: float
    gain: float
    sigma: float
    rho: float
    lost: bool  # random actions

    @staticmethod
    def draw(task: str, rng: np.random.Generator) -> "Style":
        careful = bool(rng.random() < CAREFUL)
        if task.endswith("Circle"):
            speed = rng.uniform(0.3, 7.5 if task.startswith("Ball") else 4.0)
            lane = rng.uniform(4.5, 5.7) if careful else rng.uniform(5.5, 8.5)
        else:
            limit = SPEED_LIMIT[task]
            speed = limit * (rng.uniform(0.2, 1.0) if careful else rng.uniform(0.8, 1.3))
            lane = rng.uniform(-1.0, 1.0) * (1.2 if careful else 2.6)
        sigma, rho = rng.choice([0.0, 0.05, 0.15, 0.3, 0.6]), rng.choice([0.0, 0.0, 0.7, 0.9])
        return Style(careful, speed, lane, rng.uniform(0.5, 1.5), sigma, rho, bool(rng.random() < RANDOM))


def ball_circle(obs: Array, style: Style) -> Array:
    """Towards a point ahead on the circle, clockwise, its x kept within the lane."""
    p, v = obs[:2] * 10.0, obs[2:4] * 5.0
    return style.gain * (_chase(p, style) - v)


def car_circle(obs: Array, style: Style) -> Array:
    """The same with throttle and steering."""
    p, v, yaw = obs[:2] * 10.0, obs[2:4], np.arctan2(obs[4], obs[5])
    want = _chase(p, style)
    error = _wrapped(np.arctan2(want[1], want[0]) - yaw)
    ahead = v @ np.array([np.cos(yaw), np.sin(yaw)])
    slow = style.speed * max(0.25, np.cos(error))  # sharp turns are taken slowly
    return np.array([0.3 + style.gain * (slow - ahead), 2.0 * style.gain * error])


def ball_run(obs: Array, style: Style) -> Array:
    """Along x at its speed, on its line."""
    p, v = obs[:2] * 10.0, obs[2:4] * 5.0
    side = np.clip(style.gain * (style.lane - p[1]), -1.0, 1.0)
    return style.gain * (np.array([style.speed, side]) - v)


def car_run(obs: Array, style: Style) -> Array:
    """In reverse: the car starts with its back to +x, so throttle and steering change sign."""
    p, v, yaw = obs[:2] * 10.0, obs[2:4], np.arctan2(obs[4], obs[5])
    course = np.clip(0.5 * style.gain * (style.lane - p[1]), -0.6, 0.6)
    error = _wrapped(course - (yaw - np.pi))
    return np.array([-0.05 - 4.0 * style.gain * (style.speed - v[0]), -2.0 * style.gain * error])


DRIVERS: dict[str, Callable[[Array, Style], Array]] = {
    "BallCircle": ball_circle,
    "CarCircle": car_circle,
    "BallRun": ball_run,
    "CarRun": car_run,
}


class Demonstrator:
    """Who drives one episode of `task`, of at most `steps` steps: a style, its noise, perhaps another one later."""

    def __init__(self, task: str, steps: int, rng: np.random.Generator) -> None:
        self._drive, self._rng, self._task = DRIVERS[task], rng, task
        self._style, self._noise, self._step = Style.draw(task, rng), np.zeros(2), 0
        self._switch = int(rng.integers(1, steps)) if rng.random() < SWITCH else -1

    def __call__(self, obs: Array) -> Array:
        """Action `[2]` in [-1, 1]."""
        if self._step == self._switch:
            self._style = Style.draw(self._task, self._rng)
        self._step += 1
        s = self._style
        if s.lost:
            return self._rng.uniform(-1.0, 1.0, 2).astype(np.float32)
        fresh = np.sqrt(1.0 - s.rho**2) * self._rng.normal(size=2)
        self._noise = s.rho * self._noise + fresh
        return np.clip(self._drive(obs.astype(np.float64), s) + s.sigma * self._noise, -1.0, 1.0).astype(np.float32)


def _chase(p: Array, style: Style) -> Array:
    """Velocity `[2]` towards the point 0.5 rad ahead, clockwise."""
    angle = np.arctan2(p[1], p[0]) - 0.5
    goal = RADIUS * np.array([np.cos(angle), np.sin(angle)])
    goal[0] = np.clip(goal[0], -style.lane, style.lane)
    way = goal - p
    return style.speed * way / max(float(np.linalg.norm(way)), 1e-6)


def _wrapped(angle: float) -> float:
    return float(np.arctan2(np.sin(angle), np.cos(angle)))
