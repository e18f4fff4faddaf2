"""The work of a study: one closed-loop episode of one planner, from settings that travel to other processes."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from safeplan import schema
from safeplan.build.planners import planner, policy
from safeplan.build.tasks import Task, task
from safeplan.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from safeplan.planning import Planner
    from safeplan.types import Array, Scene


def check_study(settings: dict[str, Any], planners: Sequence[str], device: str) -> None:
    """Build every planner of a study once, so that what is missing or misspelt is said before the first episode."""
    made = task(schema.EnvConfig(**settings["env"]), settings["split"], 0)
    for key in settings["tuned"]:
        schema.one_of("tuned", key, schema.PLANNERS)
    for rival in planners:
        if rival == "fisor":
            policy(made.system, settings["fisor_weights"], made.kind, device)
            if settings["weights"] == "none":
                raise ConfigError("planner fisor flies learned proposals: give weights=auto or a path, or leave it out")
            _planner(json.dumps(settings), device, "safeplan")
        else:
            _planner(json.dumps(settings), device, rival)


def episode(settings: dict[str, Any], device: str, rival: str, seed: int) -> dict[str, Any]:
    """One closed-loop episode; `settings` is `asdict` of an EvaluateConfig. Planners are built once per process."""
    cfg = schema.EnvConfig(**settings["env"])
    made = task(cfg, settings["split"], seed)
    if rival == "fisor":
        return _policy_episode(settings, device, made, seed)
    from safeplan.planning import run_mission
    from safeplan.types import Status

    pilot = _planner(json.dumps(settings), device, rival)
    mission = run_mission(made.world, pilot, seed, max_seconds=cfg.max_seconds)
    broken = next((p.message for _, p in mission.plans if p.status is Status.FAILED), None)
    if broken is not None:  # no result: a fault must not become a row of the table
        raise PlanError(f"planner {rival}, seed {seed}: {broken}")
    statuses = [p.status.value for _, p in mission.plans]
    return {
        "reached": mission.reached,
        "collided": mission.collided,
        "seconds": round(mission.seconds, 3),
        "clearance": mission.clearance,
        "statuses": {s: statuses.count(s) for s in sorted(set(statuses))},
        "planning_ms": [round(1e3 * s, 1) for s in mission.planning_s],
    }


def _policy_episode(settings: dict[str, Any], device: str, made: Task, seed: int) -> dict[str, Any]:
    from safeplan.baselines.policy import best_proposal, fly_policy
    from safeplan.rng import fold

    pilot = _planner(json.dumps(settings), device, "safeplan")  # its proposer, and how often it is asked
    cfg, propose = pilot.cfg, pilot.proposer
    assert propose is not None

    def offers(x: "Array", scene: "Scene", step: int) -> "tuple[Array, Array]":
        found = propose(x, scene, cfg.proposals, fold(seed, "policy", step))
        assert found.value is not None
        end = scene.at((found.states.shape[1] - 1) * made.system.dt)
        return found.controls, found.value(found.states[:, -1], end)

    act = best_proposal(made.world, offers, cfg.replan_every)
    flight = fly_policy(made.world, act, max_seconds=made.max_seconds, span=made.span)
    return {
        "reached": flight.reached,
        "collided": flight.collided,
        "seconds": round(flight.seconds, 3),
        "clearance": flight.clearance,
        "statuses": {},
        "planning_ms": [round(1e3 * s, 1) for s in flight.acting_s],
    }


@lru_cache(maxsize=8)
def _planner(settings: str, device: str, rival: str) -> "Planner":
    s = json.loads(settings)
    cfg = schema.PilotConfig(
        env=schema.EnvConfig(**s["env"]),
        planner=s["planner"],
        guidance=schema.GuidanceConfig.of(s["guidance"]),
        weights=s["weights"],
        fisor_weights=s["fisor_weights"],
    )
    return planner(task(cfg.env, s["split"], 0), cfg, device, rival=rival, changes=s["tuned"].get(rival))
