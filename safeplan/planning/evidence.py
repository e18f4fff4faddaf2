"""plan.json: everything that a certificate rests on, and its recomputation with NumPy and the system alone."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from safeplan.dynamics.system import System
from safeplan.errors import DataError
from safeplan.planning.plan_file import FORMAT, load_plans
from safeplan.reach import clopper_pearson, count_collisions
from safeplan.strict_json import strict
from safeplan.types import Certificate, CutNormalBelief, Plan, Reference, Scene

__all__ = ["FORMAT", "Check", "check_plan", "load_plans", "plan_record"]


def plan_record(t: float, plan: Plan) -> dict[str, Any]:
    """One plan of a mission as plain numbers; `t` is the mission time (s) at which it was asked for."""
    belief = plan.belief
    r = plan.reference
    record: dict[str, Any] = {
        "time_s": t,
        "status": plan.status.value,
        "message": plan.message,
        "dt": r.dt,
        "states": r.states.tolist(),
        "controls": r.controls.tolist(),
        "gains": r.gains.tolist(),
        "committed": plan.committed,
        "moving": plan.moving,
        "belief": belief.to_dict() if isinstance(belief, CutNormalBelief) else None,
        "scene": plan.scene.to_dict(),
        "clearance_m": plan.clearance,
        "risk": None,
        "certificate": None if plan.certificate is None else asdict(plan.certificate),
        "timings_s": plan.timings,
    }
    if plan.risk is not None:
        risk = plan.risk
        record["risk"] = {
            "estimate": risk.estimate,
            "low": risk.low,
            "high": risk.high,
            "times_s": risk.times.tolist(),
            "per_step": risk.per_step.tolist(),
        }
    record = strict(record)  # before it is hashed: the hash must come out again from the file
    record["hash"] = _hash(record)
    return record


def _hash(record: dict[str, Any]) -> str:
    """SHA-256 of what the certificate is a statement about."""
    part = {k: record[k] for k in ("dt", "states", "controls", "gains", "belief", "scene", "status")}
    part["certificate"] = record["certificate"] and {k: v for k, v in record["certificate"].items() if k != "upper"}
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Check:
    """One plan recomputed: what was claimed, what came out, and whether they agree."""

    time_s: float
    status: str
    claimed: float
    recomputed: float
    confidence: float
    k: int
    k_again: int
    n: int
    fresh_k: int
    fresh_n: int
    faults: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        return not self.faults


def check_plan(system: System, data: dict[str, Any], index: int, fresh_seed: int, fresh_n: int = 2000) -> Check:
    """Recompute the certificate of plan `index` from its seed, and test its bound on `fresh_n` draws nobody has seen.

    Disagreement: the recorded hash or collision count does not come out again, the bound is not what Clopper-Pearson
    gives, its gamma or confidence is not what the settings ask for, its seed is one that the planner chooses plans
    with, or the fresh draws contradict it (at 99.9 %).

    Args:
        data: as `load_plans` gives it; the plan has a certificate.

    Raises:
        DataError: the plan is of another system.
    """
    record, settings, faults = data["plans"][index], data["planner"], []
    c = Certificate(**{**record["certificate"], "assumes": tuple(record["certificate"]["assumes"])})
    if _hash(record) != record["hash"]:
        faults.append("the plan, belief or scene was changed after it was certified (hash differs)")
    states, controls, gains = (np.array(record[k], float) for k in ("states", "controls", "gains"))
    reference = Reference(states, controls, gains, record["dt"])
    belief, scene = CutNormalBelief.from_dict(record["belief"]), Scene.from_dict(record["scene"])
    found = {"states": states.shape[1], "controls": controls.shape[1], "parameters": len(belief.theta_mean)}
    for (what, there), here in zip(found.items(), (system.n, system.m, system.p), strict=True):
        if there != here:
            raise DataError(
                f"plans[{index}]: it has {there} {what}, system {system.name!r} has {here}: the file's `system` is not "
                "the one that was planned for. Restore the file, or run `safeplan plan` again"
            )
    spend = settings["delta"] / 2**c.attempt
    if not math.isclose(c.delta, spend, rel_tol=1e-9):
        faults.append(
            f"its confidence is {1 - c.delta:.4%}, the settings ask for {1 - spend:.4%} "
            f"(1 - planner.delta / 2^{c.attempt}, planner.delta = {settings['delta']:g})"
        )
    if not math.isclose(c.gamma, settings["gamma"], rel_tol=1e-9):
        faults.append(f"its gamma is {c.gamma:.3g}, the settings ask for planner.gamma = {settings['gamma']:.3g}")
    if c.seed in (settings.get("rank_particles"), settings.get("particles")):  # as in Judge.seeds
        faults.append(f"its seed {c.seed} drew particles that took part in choosing the plan")
    again = count_collisions(system, reference, belief, scene, c.n, c.seed)
    upper = clopper_pearson(again, c.n, c.delta)[1]
    if again != c.k:
        faults.append(f"{again} of {c.n} draws collide, {c.k} recorded")
    if abs(upper - c.upper) > 1e-9:
        faults.append(f"bound {upper:.6g} recomputed, {c.upper:.6g} recorded")
    if (record["status"] == "certified") and not upper <= c.gamma:
        faults.append(f"called certified, yet its bound {upper:.3g} exceeds gamma = {c.gamma:.3g}")
    fresh = count_collisions(system, reference, belief, scene, fresh_n, fresh_seed)
    low = clopper_pearson(fresh, fresh_n, 2e-3, two_sided=True)[0]
    if low > c.upper:
        faults.append(f"{fresh} of {fresh_n} fresh draws collide: at least {low:.3g}, above the bound {c.upper:.3g}")
    return Check(
        record["time_s"],
        record["status"],
        c.upper,
        upper,
        1 - c.delta,
        c.k,
        again,
        c.n,
        fresh,
        fresh_n,
        tuple(faults),
    )
