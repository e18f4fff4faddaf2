"""Episodes of a policy that acts on observations, as missions: the same book-keeping as for planners."""

import time
from collections.abc import Callable

import numpy as np

from safeplan.dynamics.observe import observe
from safeplan.dynamics.world import World
from safeplan.planning.mission import Mission
from safeplan.types import Array

Act = Callable[[Array, int], Array]  # (observation [O], step) -> action [m] in [-1, 1]


def run_policy(world: World, act: Act, *, max_seconds: float = 30.0, stop_on_collision: bool = True) -> Mission:
    """Fly one mission with a policy that is asked at every control step and acts at once."""
    system, mission = world.system, Mission()
    low, high = system.control_low, system.control_high
    path, centers = [world.x], [world.centers()]
    while world.time < max_seconds - 1e-9:
        obs = observe(system, world.measure(), world.scene()).astype(np.float32)
        begin = time.perf_counter()
        action = np.clip(np.asarray(act(obs, world.k), float), -1.0, 1.0)
        mission.planning_s.append(time.perf_counter() - begin)
        result = world.step(low + (action + 1) / 2 * (high - low))
        path.extend(result.path)
        centers.extend([world.centers()] * len(result.path))
        mission.clearance = min(mission.clearance, result.clearance)
        mission.collided = mission.collided or result.clearance < 0
        mission.reached = mission.reached or (result.reached and not mission.collided)
        if mission.reached or (mission.collided and stop_on_collision):
            break
    mission.seconds, mission.path, mission.centers = world.time, np.array(path), np.array(centers)
    return mission
