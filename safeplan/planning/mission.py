"""The closed loop: measure, plan while the old plan is flown, track, until the goal, a collision or the time limit."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from safeplan.dynamics.world import World
from safeplan.errors import CapabilityError
from safeplan.planning.planner import Planner
from safeplan.planning.references import advance
from safeplan.rng import numpy_rng
from safeplan.types import Array, CutNormalBelief, Plan, Reference, Status


@dataclass
class Mission:
    """What happened. Times in s, lengths in m; `path [T, n]` at every RK4 step, `centers [T, K, 2]` the obstacles."""

    reached: bool = False
    collided: bool = False
    seconds: float = 0.0
    clearance: float = float("inf")
    path: Array = field(default_factory=lambda: np.zeros((0, 0)))
    centers: Array = field(default_factory=lambda: np.zeros((0, 0, 2)))
    plans: list[tuple[float, Plan]] = field(default_factory=list)
    planning_s: list[float] = field(default_factory=list)

    @property
    def safe(self) -> bool:
        """Goal reached and nothing touched."""
        return self.reached and not self.collided

    def share(self, status: Status) -> float:
        """Fraction of plans with this status."""
        return sum(p.status is status for _, p in self.plans) / max(len(self.plans), 1)


def measured(world: World) -> CutNormalBelief:
    """The belief around a fresh measurement."""
    belief = world.belief
    if not isinstance(belief, CutNormalBelief):
        raise CapabilityError(
            f"run_mission: belief is a {type(belief).__name__}; a mission moves it with every measurement (`at`), "
            "which CutNormalBelief can do"
        )
    return belief.at(world.measure())


def control(reference: Reference, k: int, x: Array, world: World) -> Array:
    """Tracking control `[m]` of step k; past the end the last step goes on."""
    k = min(k, len(reference.controls) - 1)
    return reference.controls[k] + reference.gains[k] @ world.system.difference(x, reference.states[k])


def run_mission(
    world: World,
    planner: Planner,
    seed: int,
    *,
    max_seconds: float = 30.0,
    on_plan: Callable[[float, Plan], None] | None = None,
    keep_plans: bool = True,
    stop_on_collision: bool = True,
) -> Mission:
    """Fly one mission.

    The first plan is made before the clock starts, without a deadline. After that a plan that is asked for at step k is
    computed while the steps up to k + latency are flown, and it begins with them; so planning time is never free.
    When it comes late, the previous plan goes on to its safe stop.
    """
    cfg, system = planner.cfg, world.system
    mission, previous, k0 = Mission(), None, 0
    path, centers = [world.x], [world.centers()]
    mission.clearance = world.clearance()
    mission.collided = not mission.clearance >= 0
    every, total = cfg.replan_every, cfg.latency + cfg.horizon + cfg.tail
    while world.time < max_seconds - 1e-9:
        belief, scene = measured(world), world.scene()
        if previous is not None:
            rest = advance(planner.nlp, previous.reference, world.k - k0, total, belief.theta_mean)
            previous = _at(previous, rest)
        limit = float("inf") if previous is None else None
        generator = numpy_rng(seed, "plan", world.k)
        plan = planner.plan(belief, scene, previous=previous, deadline_s=limit, generator=generator)
        mission.planning_s.append(plan.timings.get("total", 0.0))
        if on_plan is not None:
            on_plan(world.time, plan)
        if keep_plans:
            mission.plans.append((world.time, plan))
        if mission.collided and stop_on_collision:  # before the first step
            break
        previous, k0, x = plan, world.k, belief.x_mean
        for i in range(every):
            u = control(plan.reference, i, x, world)
            at = (world.k * system.substeps, system.substeps)
            result = world.step(u)
            path.extend(result.path)
            centers.extend(world._centers[min(at[0] + j + 1, len(world._centers) - 1)] for j in range(at[1]))
            mission.clearance = float(np.minimum(mission.clearance, result.clearance))  # keeps NaN
            mission.collided = mission.collided or not result.clearance >= 0
            mission.reached = mission.reached or (result.reached and not mission.collided)
            if mission.reached or (mission.collided and stop_on_collision):
                break
            x = world.measure()
        if mission.reached or (mission.collided and stop_on_collision):
            break
    mission.seconds, mission.path, mission.centers = world.time, np.array(path), np.array(centers)
    return mission


def _at(plan: Plan, reference: Reference) -> Plan:
    from dataclasses import replace

    return replace(plan, reference=reference)
