"""Recompute the certificates in a plan.json from its own numbers, with numpy and the system alone.

  safeplan verify runs/plan_hovercraft/seed_0/plan.json
  safeplan verify my_certificates.json        (records of safeplan.reach.certificates.record: bounds from counts)

Exit status 0 when all agree, 2 when one does not.
"""

from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from safeplan import build
from safeplan.cli.app import bare
from safeplan.errors import CertificateError
from safeplan.rng import fold
from safeplan.schema import VerifyConfig as Config


def nested(overrides: Sequence[str]) -> dict[str, type]:
    """Settings whose type the schema leaves open."""
    return {}


def arguments(argv: Sequence[str]) -> list[str]:
    """A bare path stands for plan=PATH."""
    return bare("plan", argv)


def run(cfg: Config, out: Path) -> str:
    """Check every certified plan of one file."""
    from safeplan.planning.evidence import check_plan, load_plans
    from safeplan.reach.certificates.record import load_records

    records = load_records(cfg.plan)
    if records is not None:
        return _records(cfg.plan, records)
    data = load_plans(cfg.plan)
    system = build.system_of(data["system"])
    held = [i for i, r in enumerate(data["plans"]) if r["certificate"]]
    checks = [
        check_plan(system, data, i, fold(cfg.seed, "verify", nth), cfg.fresh)
        for nth, i in enumerate(tqdm(held, unit="plan", disable=None, leave=False))
    ]
    bare = [r["time_s"] for r in data["plans"] if r["status"] == "certified" and not r["certificate"]]
    if bare:
        raise CertificateError(f"the plan at {bare[0]:.1f} s is called certified without a certificate: {cfg.plan}")
    for c in checks:
        for fault in c.faults:
            print(f"plan at {c.time_s:.1f} s: {fault}")
    bad = sum(not c.agrees for c in checks)
    certified = [c for c in checks if c.status == "certified"]
    hits, draws = sum(c.fresh_k for c in checks), sum(c.fresh_n for c in checks)
    text = "No plan is called certified."
    if certified:
        worst = max(certified, key=lambda c: c.recomputed)
        text = f"Worst bound of a certified plan: {worst.recomputed:.2%} with {worst.confidence:.2%} confidence."
    print(
        f"{len(checks) - bad} of {len(checks)} certificates come out again (of {len(data['plans'])} plans). "
        f"{text} On draws that nobody has seen, {hits} of {draws} collide."
    )
    if bad:
        raise CertificateError(f"{bad} of {len(checks)} certificates do not hold: {cfg.plan}")
    return f"verified: {cfg.plan}"


def _records(path: str, records: list[dict]) -> str:
    """Check certificates that stand for themselves."""
    from safeplan.reach.certificates.record import faults

    bad = 0
    for i, found in enumerate(records):
        wrong = faults(found)
        bad += bool(wrong)
        for fault in wrong:
            print(f"certificate {i} ({found['certificate']}): {fault}")
    print(f"{len(records) - bad} of {len(records)} certificates follow from their own counts.")
    if bad:
        raise CertificateError(f"{bad} of {len(records)} certificates do not hold: {path}")
    return f"verified: {path}"
