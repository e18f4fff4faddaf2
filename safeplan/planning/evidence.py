"""plan.json: everything that a certificate rests on, and its recomputation with NumPy and the system alone."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.dynamics.system import System
from safeplan.errors import DataError
from safeplan.reach import clopper_pearson, count_collisions
from safeplan.types import Certificate, CutNormalBelief, Plan, Reference, Scene

FORMAT = 1


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
    record["hash"] = _hash(record)
    return record


def _hash(record: dict[str, Any]) -> str:
    """SHA-256 of what the certificate is a statement about."""
    part = {k: record[k] for k in ("dt", "states", "controls", "gains", "belief", "scene", "status")}
    part["certificate"] = record["certificate"] and {k: v for k, v in record["certificate"].items() if k != "upper"}
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()


def write_json(path: str | Path, data: Any) -> None:
    """Write to a temporary name, then rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data))
    temporary.replace(path)


@dataclass(frozen=True)
class Check:
    """One plan recomputed: what was claimed, what came out, and whether they agree."""

    time_s: float
    status: str
    claimed: float
    recomputed: float
    k: int
    k_again: int
    n: int
    fresh_k: int
    fresh_n: int
    faults: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        return not self.faults


def load_plans(path: str | Path) -> dict[str, Any]:
    """Read plan.json.

    Raises:
        DataError: missing, not JSON, or not a plan file of this format.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file; `safeplan plan` writes plan.json into its run folder")
    try:
        data = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not readable as JSON ({error}); it may be cut short: run `safeplan plan` again"
        ) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("plans"), list):
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise DataError(f"{path}: format {found!r}, expected a plan file of format {FORMAT} with a list `plans`")
    return data


def check_plan(system: System, record: dict[str, Any], fresh_seed: int, fresh_n: int = 2000) -> Check:
    """Recompute one certificate from its seed, and test its bound on `fresh_n` draws that nobody has seen.

    Disagreement: the recorded hash or collision count does not come out again, the bound is not what Clopper-Pearson
    gives, or the fresh draws contradict the bound at 99.9 % confidence.
    """
    faults = []
    if record["belief"] is None:
        raise DataError(
            f"plan at {record['time_s']:.2f} s: its belief is of a kind that cannot be stored, nor verified"
        )
    c = Certificate(**{**record["certificate"], "assumes": tuple(record["certificate"]["assumes"])})
    if _hash(record) != record["hash"]:
        faults.append("the plan, belief or scene was changed after it was certified (hash differs)")
    states, controls, gains = (np.array(record[k]) for k in ("states", "controls", "gains"))
    reference = Reference(states, controls, gains, record["dt"])
    belief, scene = CutNormalBelief.from_dict(record["belief"]), Scene.from_dict(record["scene"])
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
    return Check(record["time_s"], record["status"], c.upper, upper, c.k, again, c.n, fresh, fresh_n, tuple(faults))
