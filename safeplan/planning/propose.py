"""Where candidate motions come from: a learned model, or a fan of detours for vehicles without one."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from safeplan.dynamics.observe import observe
from safeplan.dynamics.system import System
from safeplan.types import Array, Scene


class Proposals(NamedTuple):
    """Candidates: states `[B, H+1, n]`, controls `[B, H, m]`; `supported`: the start resembles the logs;
    `dynamic`: they are motions of the system, not only lines to follow; `value`: what is still to be earned from
    states `[B, n]` in a scene, in rewards of the log (metres of progress), or None."""

    states: Array
    controls: Array
    supported: bool = True
    dynamic: bool = True
    value: Callable[[Array, Scene], Array] | None = None


class Proposer(Protocol):
    """Anything that turns a start `x [n]` and the scene at that time into `n` proposals."""

    def __call__(self, x: Array, scene: Scene, n: int, seed: int) -> Proposals: ...


class LearnedProposer:
    """Proposals of a trajectory diffusion model (`TrajectoryModel`), steered by its chain.

    `critic` is a trained FISOR (`FisorPolicy`) that says where they lead: its reward value V less a price on what its
    feasibility value V_h says of ends that are hard to keep safe. `margin` (m) is the clearance that is enough.
    """

    PRICE = 2.0  # rewards (metres) that an end as bad as a collision costs

    def __init__(
        self, system: System, model: Any, horizon: int, critic: Any = None, margin: float = 0.1, **options: Any
    ):
        self.system, self.model, self.horizon, self.options = system, model, horizon, options
        self.critic, self.margin = critic, margin

    def __call__(self, x: Array, scene: Scene, n: int, seed: int) -> Proposals:
        obs = observe(self.system, x, scene)[None].astype(np.float32)
        supported = bool(self.model.supported(obs)[0])
        states, controls = self.model.sample(obs, n, seed=seed, **self.options)
        states, controls = np.asarray(states, float), np.asarray(controls, float)
        h = self.horizon
        if states.shape[1] < h + 1:  # a shorter model: stay at its end
            more = h + 1 - states.shape[1]
            states = np.concatenate([states, np.repeat(states[:, -1:], more, 1)], 1)
            controls = np.concatenate([controls, np.zeros((len(controls), more, controls.shape[2]))], 1)
        value = self._value if self.critic is not None else None
        return Proposals(states[:, : h + 1], controls[:, :h], supported, True, value)

    def _value(self, x: Array, scene: Scene) -> Array:
        obs = np.stack([observe(self.system, row, scene) for row in x]).astype(np.float32)
        worth = np.asarray(self.critic.v(obs), float) / self.critic.reward_scale
        c, v_h = self.critic.config, np.asarray(self.critic.v_h(obs), float)
        # relabelled: 25 is a collision; else minus the worst clearance to come, in metres
        bad = v_h / c.violating if c.violation == "relabel" else 1.0 + v_h / self.margin
        return worth - self.PRICE * np.clip(bad, 0.0, 1.0)


class FanProposer:
    """Straight to the goal and detours to both sides, as lines in the plane at a cruising speed (m/s)."""

    def __init__(self, system: System, horizon: int, speed: float):
        self.system, self.horizon, self.speed = system, horizon, speed

    def __call__(self, x: Array, scene: Scene, n: int, seed: int) -> Proposals:
        s, h = self.system, self.horizon
        ix, iy = s.position
        p, goal = np.array([x[ix], x[iy]]), np.array([scene.goal.x, scene.goal.y])
        far = float(np.hypot(*(goal - p)))
        reach = min(self.speed * s.dt * h, far)
        along = (goal - p) / max(far, 1e-9)
        side = np.array([-along[1], along[0]])
        n = max(n, 1)
        bumps = np.zeros(n)
        if n > 1:
            bumps[1:] = (
                np.array([(i // 2 + 1) / ((n - 1) // 2 + 1) * (1 - 2 * (i % 2)) for i in range(n - 1)]) * 0.5 * reach
            )
        frac = np.linspace(0, 1, h + 1)
        line = p + frac[None, :, None] * reach * along + (np.sin(np.pi * frac)[None] * bumps[:, None])[..., None] * side
        states = np.tile(x, (n, h + 1, 1))
        states[..., ix], states[..., iy] = line[..., 0], line[..., 1]
        if s.yaw is not None and len(s.footprint) > 1:
            d = np.gradient(line, axis=1)
            states[:, 1:, s.yaw] = np.arctan2(d[:, 1:, 1], d[:, 1:, 0])
        return Proposals(states, np.zeros((n, h, s.m)), True, False)


def ways_out(system: System, x: Array, scene: Scene, horizon: int, n: int, speed: float) -> Proposals:
    """`n` lines from `x [n]` that lead out of dead ends.

    What can move sideways gets straight lines to both sides and back, at angles to the goal and half of `speed` (m/s);
    what steers gets detours to both sides, the last one replaced by a straight way back.
    """
    fan = FanProposer(system, horizon, speed)(x, scene, n, 0)
    half = 0.5 * speed * system.dt * np.arange(horizon + 1)
    if system.yaw is not None and len(system.footprint) > 1:
        fan.states[-1] = _line(system, x, x[system.yaw] + np.pi, half)
        return fan
    to_goal = np.arctan2(scene.goal.y - x[system.position[1]], scene.goal.x - x[system.position[0]])
    side = np.arange(1, n + 1)
    angles = np.where(side % 2, 1, -1) * ((side + 1) // 2) * np.pi / ((n + 1) // 2 + 1)
    for i, angle in enumerate(angles):
        fan.states[i] = _line(system, x, to_goal + angle, half)
    return fan


def home(system: System, x: Array, scene: Scene, horizon: int, speed: float) -> Proposals | None:
    """The straight line from `x [n]` to the goal at half of `speed` (m/s), or None where that is too slow."""
    dx, dy = scene.goal.x - x[system.position[0]], scene.goal.y - x[system.position[1]]
    half, far = 0.5 * speed * system.dt * np.arange(horizon + 1), float(np.hypot(dx, dy))
    if far > half[-1]:
        return None
    line = _line(system, x, np.arctan2(dy, dx), np.minimum(half, far))
    return Proposals(line[None], np.zeros((1, horizon, system.m)), True, False)


def _line(system: System, x: Array, angle: float, far: Array) -> Array:
    """States `[H+1, n]` as `x [n]`, moved by `far [H+1]` metres in a direction."""
    ix, iy = system.position
    states = np.tile(x, (len(far), 1))
    states[:, ix] += far * np.cos(angle)
    states[:, iy] += far * np.sin(angle)
    return states
