"""Certificates as JSON, and whether what such a record claims follows from its own counts.

A record holds counts, not simulations: the check recomputes the bound and every rule of the certificate's kind. Whether
the counts are true is shown by drawing anew from the seeds (`planning.evidence` does that for plans). Of a tube only
rank and size of the calibration set are checked: its radii come from errors that the record does not hold.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.errors import CertificateError, DataError
from safeplan.reach.certificates import certificate, model_bound, tube
from safeplan.reach.certificates.binomial import clopper_pearson
from safeplan.reach.certificates.fresh import ASSUMES_FRESH
from safeplan.reach.certificates.looks import Looks, boundary
from safeplan.reach.certificates.model_bound import ModelCertificate, two_binomial
from safeplan.reach.certificates.sequential import Sequential, anytime_upper
from safeplan.reach.certificates.tube import Tube, rank_of
from safeplan.strict_json import loads
from safeplan.types import Certificate

Record = dict[str, Any]
AGREE = 1e-9  # relative, between a recorded bound and the recomputed one
NAMES: Mapping[type, str] = {
    Certificate: "clopper_pearson",
    Sequential: "sequential",
    Looks: "looks",
    ModelCertificate: "model",
    Tube: "tube",
}


def record(found: Certificate | Sequential | Looks | ModelCertificate | Tube) -> Record:
    """The certificate with its kind, ready for JSON."""
    out: Record = {"certificate": NAMES[type(found)], **asdict(found)}
    for key, value in out.items():
        if isinstance(value, np.ndarray):
            out[key] = value.tolist()
    if isinstance(found, Looks):
        out["upper"] = found.upper
    return out


def load_records(path: str | Path) -> list[Record] | None:
    """The records of a file that holds one or a list of them; None where it holds something else, or nothing."""
    try:
        data = loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
    listed = data if isinstance(data, list) else [data]
    own = listed and all(isinstance(r, dict) and isinstance(r.get("certificate"), str) for r in listed)
    return listed if own else None


def faults(found: Record) -> list[str]:
    """What a record claims and its counts do not bear out; empty when all follows.

    Raises:
        DataError: no kind that is known, or a field missing or of another type.
    """
    kind = str(found.get("certificate"))
    if kind not in CHECKS:
        raise DataError(f"certificate={kind!r} is unknown. Choose one of: {', '.join(CHECKS)}")
    try:
        out = CHECKS[kind](found)
    except KeyError as e:
        raise DataError(f"{kind} certificate: {e.args[0]} is missing") from e
    except (TypeError, ValueError) as e:
        raise DataError(f"{kind} certificate: a field has the wrong type ({e})") from e
    except CertificateError as e:
        return [str(e)]
    said = set(found.get("assumes") or ())
    if not any(said >= set(wanted) for wanted in ASSUMED[kind]):
        out.append(f"it does not say what it assumes: {'; '.join(ASSUMED[kind][-1])}")
    return out


def _same(what: str, recorded: float, again: float) -> list[str]:
    return [] if abs(recorded - again) <= AGREE * abs(again) else [f"{what} is {recorded}, recomputed {again}"]


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _spent(r: Record) -> list[str]:
    """Attempt j spends the j-th half of what is left of a total below 1."""
    total = r["delta"] * 2.0 ** _count(r["attempt"])
    return [] if r["attempt"] >= 1 and 0 < total < 1 else [f"attempt {r['attempt']} spends {r['delta']}"]


def _clopper_pearson(r: Record) -> list[str]:
    return _spent(r) + _same("upper", r["upper"], clopper_pearson(_count(r["k"]), _count(r["n"]), r["delta"])[1])


def _sequential(r: Record) -> list[str]:
    n, k = _count(r["counts"]["n"]), _count(r["counts"]["k"])
    at, hits = _count(r["lowest"]["n"]), _count(r["lowest"]["k"])
    out = _spent(r) + _same("upper", r["upper"], anytime_upper(hits, at, r["delta"]) if at else 1.0)
    stream = not at or r["lowest"]["stream"] == r["counts"]["stream"]
    if not (at <= n <= _count(r["most"]) and 0 <= k - hits <= n - at and stream):
        out.append(f"the lowest bound is from {hits} hits of {at}, not on the way to {k} of {n} (at most {r['most']})")
    return out


def _looks(r: Record) -> list[str]:
    allowed = boundary(r["looks"], r["gamma"], r["delta"], r["power"])
    out = [] if list(allowed) == list(r["allowed"]) else [f"allowed is {r['allowed']}, recomputed {list(allowed)}"]
    n, k, done = _count(r["counts"]["n"]), _count(r["counts"]["k"]), _count(r["done"])
    if done > len(allowed) or k > n:
        return [*out, f"{k} hits of {n} draws after {done} of {len(allowed)} looks"]
    if n != (r["looks"][done - 1] if done else 0):
        out.append(f"{n} draws after {done} looks, planned at {r['looks']}")
    holds = done > 0 and k <= allowed[done - 1]
    if bool(r["holds"]) != holds:
        out.append(
            f"holds is {r['holds']}, but {k} hits were seen where {allowed[done - 1] if done else 0} are allowed"
        )
    return out + _spent(r) + _same("upper", r["upper"], r["gamma"] if holds else 1.0)


def _model(r: Record) -> list[str]:
    a, b, n, k, N = (_count(r[key]) for key in ("only_real", "only_model", "n", "model_k", "model_n"))
    again = two_binomial(a, b, n, k, N, r["delta"])
    return _spent(r) + _same("upper", r["upper"], again)


def _tube(r: Record) -> list[str]:
    rank, radius, step = rank_of(r["n"], r["alpha"], r["delta"]), np.asarray(r["radius"]), np.asarray(r["per_step"])
    out = [] if rank == r["rank"] else [f"rank is {r['rank']}, recomputed {rank}"]
    if rank > r["n"]:
        out.append(f"{r['n']} trajectories are too few for alpha = {r['alpha']}")
    if not step.size or radius.shape != step.shape or not ((step >= 0) & (radius >= step * (1 - AGREE))).all():
        out.append("radii are missing, negative, or smaller for all steps at once than for one step at a time")
    return out


CHECKS: Mapping[str, Callable[[Record], list[str]]] = {
    "clopper_pearson": _clopper_pearson,
    "sequential": _sequential,
    "looks": _looks,
    "model": _model,
    "tube": _tube,
}
ASSUMED: Mapping[str, tuple[tuple[str, ...], ...]] = {  # any of these sets will do
    "clopper_pearson": (certificate.ASSUMES, ASSUMES_FRESH),
    "sequential": (ASSUMES_FRESH,),
    "looks": ((*ASSUMES_FRESH, "the looks were fixed before the first draw"),),
    "model": (model_bound.ASSUMES,),
    "tube": (tube.ASSUMES,),
}
