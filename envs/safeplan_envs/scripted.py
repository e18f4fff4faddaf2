"""Scripted drivers of mixed quality for behaviour logs: what they see, how much room they keep, how they waver."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.distance import rounded_box
from safeplan.types import Array, Scene
from safeplan_envs.base import PlanningEnv

KINDS = {"careful": 0.6, "careless": 0.2, "shortsighted": 0.12, "blind": 0.08}
WAVER = 0.8  # correlation of the action noise from one step to the next


@dataclass(frozen=True)
class Behaviour:
    """One way to drive. Lengths in m, speeds in m/s."""

    kind: str
    margin: float  # room kept to obstacles; may be negative
    speed: float
    predicts: bool  # obstacles are met where they will be, not where they are
    sees: bool  # obstacles are seen at all
    bias: float  # preference for one side, -1 to 1
    noise: float  # standard deviation of the action noise
    random: float  # probability of a random action


def draw_behaviour(rng: np.random.Generator, room: tuple[float, float], speed: tuple[float, float]) -> Behaviour:
    """A random driver; `room` is the range of margins of careful ones, `speed` of all."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    steady = rng.random() < 0.6
    b = Behaviour(
        kind=kind,
        margin=float(rng.uniform(*room)),
        speed=float(rng.uniform(*speed)),
        predicts=True,
        sees=True,
        bias=float(rng.uniform(-1, 1)),
        noise=float(rng.uniform(0.0, 0.03) if steady else rng.uniform(0.05, 0.25)),
        random=0.0 if steady else float(rng.uniform(0.0, 0.05)),
    )
    if kind == "careless":
        return replace(b, margin=float(rng.uniform(-0.8, 0.15) * room[0]))
    if kind == "shortsighted":
        return replace(b, predicts=False, margin=float(rng.uniform(0.0, 1.0) * room[0]))
    return replace(b, sees=False) if kind == "blind" else b


def gaps(scene: Scene, points: Array, times: Array, predicts: bool, sees: bool) -> Array:
    """Distance `[...]` of `points [..., 2]` to the nearest obstacle at `times [...]` (s); 10 m when nothing is near."""
    out = np.full(np.shape(times), 10.0)
    if not sees:
        return out
    for o in scene.obstacles:
        t = times if predicts else 0.0
        d = rounded_box(points[..., 0], points[..., 1], o.x + t * o.vx, o.y + t * o.vy, o.yaw, o.hx, o.hy, o.r, NUMPY)
        out = np.minimum(out, d)
    return out


class Driver:
    """Actions for one episode: a control law, with noise, random actions, and sometimes a change of mind.

    Args:
        law: makes the control law of one behaviour.
        rng: draws everything that is random about the driver.
        room, speed: ranges for `draw_behaviour`.
        waver: scale of noise and random actions, per control `[m]`.
    """

    def __init__(
        self,
        law: Callable[[PlanningEnv, Behaviour], Callable[[], Array]],
        env: PlanningEnv,
        rng: np.random.Generator,
        room: tuple[float, float],
        speed: tuple[float, float],
        waver: tuple[float, ...],
    ):
        self.env, self.rng, self.law, self.waver = env, rng, law, np.array(waver)
        first, second = draw_behaviour(rng, room, speed), draw_behaviour(rng, room, speed)
        when = rng.uniform(0.1, 0.5) * env.max_seconds if rng.random() < 0.15 else np.inf
        self.plan = [(0.0, first), (when, second)]
        self.noise = np.zeros(env.system.m)
        self.control: Callable[[], Array] | None = None
        self.behaviour = first

    def __call__(self) -> Array:
        """The action `[m]` in [-1, 1] for the state as last measured."""
        if self.plan and self.env.world.time >= self.plan[0][0]:
            self.behaviour = self.plan.pop(0)[1]
            self.control = self.law(self.env, self.behaviour)
        assert self.control is not None
        b, m = self.behaviour, self.env.system.m
        fresh = self.rng.standard_normal(m) * b.noise * np.sqrt(1 - WAVER**2)
        self.noise = WAVER * self.noise + fresh
        wild = self.rng.uniform(-1, 1, m) if self.rng.random() < b.random else self.noise
        action = self.env.action(self.control()) + self.waver * wild
        return np.clip(action, -1, 1).astype(np.float32)
