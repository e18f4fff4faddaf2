"""Driving without optimiser or certificate: a policy's actions, or the proposal that FISOR likes best, as they are."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from safeplan.dynamics.observe import observe
from safeplan.dynamics.world import World
from safeplan.errors import ShapeError
from safeplan.types import Array, Scene

Act = Callable[[Array], Any]  # observation [O], float32 -> action [m] in [-1, 1]
Propose = Callable[[Array, Scene, int], tuple[Array, Array]]


class Flight(NamedTuple):
    """What happened. Times in s, lengths in m; `acting_s` is the latency of every action."""

    reached: bool
    collided: bool
    seconds: float
    clearance: float
    acting_s: list[float]


def best_proposal(world: World, propose: Propose, every: int) -> Act:
    """Acting on proposals: the one whose end is worth most, its first `every` controls, then the next ones.

    Args:
        propose: `(state [n], scene, step) -> (controls [B, H, m], worth [B])`, worth what FISOR's critics say.
    """
    system, plan, step = world.system, np.zeros((0, world.system.m)), 0

    def act(seen: Array) -> Array:
        nonlocal plan, step
        k = step % every
        if k == 0:
            controls, worth = propose(world.measure(), world.scene(), step)
            plan = controls[int(np.argmax(worth))]
        step += 1
        low, high = system.control_low, system.control_high
        return 2 * (plan[k] - low) / (high - low) - 1

    return act


def fly_policy(world: World, act: Act, *, max_seconds: float, span: float = float("inf")) -> Flight:
    """Drive `world` until the goal, the first collision or the time limit.

    Acting takes no simulated time, which favours the policy: a planner pays for its own.

    Args:
        span: bound on every entry of the observation, as in the environment that the logs come from.

    Raises:
        ShapeError: an action of another size than the controls.
    """
    system = world.system
    low, high = system.control_low, system.control_high
    reached, collided, clearance, acting = False, False, float("inf"), []
    while world.time < max_seconds - 1e-9 and not (reached or collided):
        seen = np.clip(observe(system, world.measure(), world.scene()), -span, span).astype(np.float32)
        begin = time.perf_counter()
        action = np.asarray(act(seen), float)
        acting.append(time.perf_counter() - begin)
        if action.shape != (system.m,):
            raise ShapeError(f"policy: action is {action.shape}, expected ({system.m},) for system {system.name!r}")
        result = world.step(low + 0.5 * (np.clip(action, -1, 1) + 1) * (high - low))
        clearance = float(np.minimum(clearance, result.clearance))
        collided = not result.clearance >= 0  # NaN counts as a collision
        reached = result.reached and not collided
    return Flight(reached, collided, world.time, clearance, acting)
