"""The work of a study: one closed-loop episode of one planner, from settings that travel to other processes."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from safeplan import schema
from safeplan.build.planners import planner, policy
from safeplan.build.tasks import Task, task

if TYPE_CHECKING:
    from safeplan.planning import Planner


def check_study(settings: dict[str, Any], planners: Sequence[str], device: str) -> None:
    """Build every planner of a study once, so that what is missing or misspelt is said before the first episode."""
    made = task(schema.EnvConfig(**settings["env"]), settings["split"], 0)
    for key in settings["tuned"]:
        schema.one_of("tuned", key, schema.PLANNERS)
    for rival in planners:
        if rival == "fisor":
            policy(made.system, settings["fisor_weights"], made.kind, device)
        else:
            _planner(json.dumps(settings), device, rival)


def episode(settings: dict[str, Any], device: str, rival: str, seed: int) -> dict[str, Any]:
    """One closed-loop episode; `settings` is `asdict` of an EvaluateConfig. Planners are built once per process."""
    cfg = schema.EnvConfig(**settings["env"])
    made = task(cfg, settings["split"], seed)
    if rival == "fisor":
        return _policy_episode(settings, device, made, seed)
    from safeplan.planning import run_mission

    pilot = _planner(json.dumps(settings), device, rival)
    mission = run_mission(made.world, pilot, seed, max_seconds=cfg.max_seconds)
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
    from safeplan.baselines.policy import fly_policy
    from safeplan.rng import torch_rng

    agent = policy(made.system, settings["fisor_weights"], made.kind, device)
    generator = torch_rng(seed, "policy", device=device)
    flight = fly_policy(
        made.world, lambda o: agent.act(o[None], generator)[0], max_seconds=made.max_seconds, span=made.span
    )
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
