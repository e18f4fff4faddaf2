"""What a mission comes to, in one paragraph and as plan.json."""

from dataclasses import asdict
from typing import Any

import numpy as np

from safeplan import __version__
from safeplan.planning import Mission, PlannerConfig
from safeplan.planning.evidence import FORMAT, plan_record
from safeplan.types import Certificate, Status


def record(mission: Mission, cfg: PlannerConfig, source: dict[str, Any], seed: int) -> dict[str, Any]:
    """plan.json: the outcome, and every plan with all that its certificate rests on."""
    return {
        "format": FORMAT,
        "safeplan": __version__,
        "system": source,
        "seed": seed,
        "planner": asdict(cfg),
        "outcome": {
            "reached": mission.reached,
            "collided": mission.collided,
            "seconds": mission.seconds,
            "clearance_m": mission.clearance,
        },
        "plans": [plan_record(t, plan) for t, plan in mission.plans],
    }


def verdict(mission: Mission) -> str:
    """Reached or not, how close it came, what the plans promised and on what that rests."""
    end = "Goal reached" if mission.reached else "COLLISION" if mission.collided else "Goal NOT reached"
    touched = "with a collision" if mission.collided else "without collision"
    plans = [p for _, p in mission.plans]
    parts = [f"{end} after {mission.seconds:.1f} s, {touched}; worst clearance {100 * mission.clearance:.1f} cm."]
    stops: dict[str, int] = {}
    for p in plans:
        if p.stops:
            stops[p.status.value] = stops.get(p.status.value, 0) + 1
    text = ", ".join(f"{n} {s}" for s, n in sorted(stops.items()))
    certified = [p for p in plans if not p.stops and p.certificate is not None]
    lines = sum(p.status is Status.OUT_OF_SUPPORT for p in certified)
    unlike = f", {lines} of them along hand-made lines (state unlike the logs)" if lines else ""
    parts.append(
        f"{len(certified)} of {len(plans)} plans are certified{unlike}{f'; safe stops: {text}' if text else ''}."
    )
    if plans and plans[-1].stops:
        parts.append(f"The last plan: {plans[-1].message}.")
    if certified:
        certificates: list[Certificate] = [p.certificate for p in certified if p.certificate is not None]
        worst = max(certificates, key=lambda c: c.upper)
        risk = max((p.risk.estimate for p in certified if p.risk is not None), default=float("nan"))
        parts.append(
            f"Collision risk of a certified plan, safe-stop tail included: estimated at most {risk:.2%}; certified at "
            f"most {worst.upper:.2%} (worst of them: {worst.k} of {worst.n} fresh draws collide; {worst.gamma:.2%} "
            f"asked for), each plan by itself with at least {1 - max(c.delta for c in certificates):.1%} confidence."
        )
        parts.append("Each bound is about one plan, not the mission, and assumes: " + "; ".join(worst.assumes) + ".")
    ms = np.array(mission.planning_s) * 1e3
    if len(ms):
        parts.append(f"Planning time: p50 {np.percentile(ms, 50):.0f} ms, p95 {np.percentile(ms, 95):.0f} ms.")
    if stops.get(Status.LATE.value, 0) > 0.2 * len(plans):
        parts.append(
            "Many plans came late, so the vehicle stopped more often than it must: this machine is slow or busy. Give "
            "plans more time: planner.latency=6 planner.replan_every=6."
        )
    return " ".join(parts)
