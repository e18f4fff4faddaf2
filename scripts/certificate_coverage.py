"""How often do certificates break their promise when a plan is chosen first, and what does stopping early save?

  python scripts/certificate_coverage.py             # 1,000 repetitions a setting; exit 1 when a promise is broken
  python scripts/certificate_coverage.py --quick     # 60 repetitions, seconds

Every repetition makes a new family of candidate plans whose true risks are known in closed form, chooses the best by
an estimate on samples, and certifies it. A miss: the bound is below the true risk of the chosen plan. A promise is
broken when misses exceed what delta allows (exact binomial test at 1 %). Killed, the same command goes on with the
next setting. Writes results/certificate_coverage.json.
"""

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import binom, binomtest

from safeplan.evaluation.study import run_study
from safeplan.reach import (
    Ledger,
    boundary,
    certify_draws,
    clopper_pearson,
    digest,
    log_evidence,
    most_hits,
    plan_samples,
    samples_needed,
    two_binomial,
)
from safeplan.rng import numpy_rng
from safeplan.strict_json import write

Array = np.ndarray
Row = dict[str, Any]
DELTA = 0.05
LOOKS = 20
ATTEMPTS = 5
BOUNDS = {  # candidates, true risks, samples that choose
    f"K = {K}, risks {lo:g}-{hi:g}, n = {n}": (K, (lo, hi), n)
    for lo, hi, n in ((0.005, 0.05, 1000), (0.02, 0.05, 1000), (0.02, 0.05, 200))
    for K in (8, 64, 512)
}
STOPPING = {  # gamma, candidates, true risks in gamma: some are good, or none is
    f"gamma = {g:g}, K = {K}, risks {lo:g}-3 gamma": (g, K, (lo, 3.0))
    for g in (0.05, 0.01)
    for K, lo in ((64, 0.1), (8, 0.5), (64, 1.0))
}
MODEL = {"model off by 5 mm, K = 64": 0.005, "model off by 5 cm, K = 64": 0.05}  # sd of its clearance errors (m)
CHAIN = f"gamma = 0.05, up to {ATTEMPTS} attempts, K = 64, risks 1-3 gamma"


@dataclass(frozen=True)
class Family:
    """K plans of a double integrator that pass an obstacle at different times, at different distances.

    At its time t_j plan j is off by e + v t_j + w_j t_j^2 / 2: position and speed of the start are uncertain, and each
    plan meets a gust of its own. It collides when that exceeds its `clearance [K]` (m), so its `risk [K]` is
    Phi(-clearance / sd) exactly. `parts [3, K]` are the standard deviations (m) of the three terms.
    """

    clearance: Array
    parts: Array
    risk: Array

    def errors(self, rng: np.random.Generator, n: int, pick: Array) -> Array:
        """Deviations `[n, len(pick)]` (m) of the plans `pick`, which share the start of a draw."""
        start = rng.standard_normal((n, 2), np.float32) @ self.parts[:2, pick].astype(np.float32)
        return start + rng.standard_normal((n, len(pick)), np.float32) * self.parts[2, pick].astype(np.float32)

    def hits(self, rng: np.random.Generator, n: int, pick: Array) -> Array:
        """Which draws collide, `[n, len(pick)]`."""
        return self.errors(rng, n, pick) > self.clearance[pick]


def family(rng: np.random.Generator, K: int, low: float, high: float) -> Family:
    """Risks uniform in [low, high], passing times uniform in 1 .. 4 s."""
    risk, t = rng.uniform(low, high, K), rng.uniform(1.0, 4.0, K)
    parts = np.stack([np.full(K, 0.1), 0.05 * t, 0.05 * t**2 / 2])
    return Family(-ndtri(risk) * np.linalg.norm(parts, axis=0), parts, risk)


def choose(plans: Family, rng: np.random.Generator, n: int) -> tuple[int, int]:
    """The plan with the fewest hits on `n` samples that all plans share, and its hits there."""
    k = plans.hits(rng, n, np.arange(len(plans.risk))).sum(axis=0)
    best = int(np.argmin(k))
    return best, int(k[best])


def row(method: str, promise: bool, missed: Array, allowed: float = DELTA, **more: float) -> Row:
    """One line: misses of all repetitions `[R]`, and whether that is within what was promised."""
    k, n = int(np.sum(missed)), len(missed)
    p = float(binomtest(k, n, allowed, "greater").pvalue)
    interval = binomtest(k, n).proportion_ci(0.95)
    kept = {"promised": allowed, "p": p, "kept": p >= 0.01} if promise else {"promised": None, "p": p, "kept": None}
    return {"method": method, "misses": k, "rate": k / n, "low": interval.low, "high": interval.high, **kept, **more}


def bounds(name: str, rng: np.random.Generator, reps: int) -> list[Row]:
    """A fixed number of samples: reused, reused with Bonferroni's correction, fresh."""
    K, risks, n = BOUNDS[name]
    uppers: dict[str, list[float]] = {"same samples again": [], "same, delta / K (Bonferroni)": [], "fresh samples": []}
    true = []
    for _ in range(reps):
        plans = family(rng, K, *risks)
        best, k = choose(plans, rng, n)
        fresh = int(plans.hits(rng, n, np.array([best])).sum())
        true.append(plans.risk[best])
        for upper, (hits, delta) in zip(uppers.values(), ((k, DELTA), (k, DELTA / K), (fresh, DELTA)), strict=True):
            upper.append(clopper_pearson(hits, n, delta)[1])
    p = np.array(true)
    return [
        row(method, "again" not in method, np.array(u) < p, draws=float(n), bound_over_risk=float(np.mean(u / p)))
        for method, u in uppers.items()
    ]


def stopping(name: str, rng: np.random.Generator, reps: int) -> list[Row]:
    """Looks while drawing, on the same draws for every rule. A miss: the bound is below the true risk at any look, or
    gamma is certified for a plan of higher risk."""
    gamma, K, risks = STOPPING[name]
    fixed = plan_samples(gamma, DELTA, gamma / 3)
    looks = np.arange(1, LOOKS + 1) * (2 * fixed.n // LOOKS)
    true, k, at_fixed = np.empty(reps), np.empty((reps, LOOKS), int), np.empty(reps, int)
    for i in range(reps):
        plans = family(rng, K, gamma * risks[0], gamma * risks[1])
        best, _ = choose(plans, rng, fixed.n)
        count = plans.hits(rng, looks[-1], np.array([best]))[:, 0].cumsum()
        true[i], k[i], at_fixed[i] = plans.risk[best], count[looks - 1], count[fixed.n - 1]
    bad = true > gamma
    planned = np.array(boundary(looks.tolist(), gamma, DELTA))
    naive = np.array([_most_at_once(int(n), gamma) for n in looks])
    any_time = (log_evidence(k, looks, true[:, None]) >= -np.log(DELTA)).any(axis=1)
    at_once = (binom.cdf(k, looks, true[:, None]) < DELTA).any(axis=1)  # the Clopper-Pearson bound is below the risk
    out = [
        row(
            f"fixed size ({fixed.allow} hits allowed)",
            True,
            binom.cdf(at_fixed, fixed.n, true) < DELTA,
            draws=float(fixed.n),
            saving=0.0,
            certified=float(np.mean(at_fixed <= fixed.allow)),
        )
    ]
    for method, promise, allowed, missed in (
        ("sequential (any time)", True, most_hits(looks, gamma, DELTA), any_time),
        ("planned looks (alpha spending)", True, planned, np.zeros(reps, bool)),
        ("repeated Clopper-Pearson", False, naive, at_once),
    ):
        n, certified = stop(k, looks, allowed)
        out.append(
            row(
                method,
                promise,
                missed | (bad & certified),
                draws=float(n.mean()),
                saving=float(1 - n.mean() / fixed.n),
                certified=float(certified.mean()),
            )
        )
    return out


def _most_at_once(n: int, gamma: float) -> int:
    """The most hits of n with which one look would certify gamma; -1 for none."""
    k = np.arange(int(n * gamma) + 1)
    return int((binom.cdf(k, n, gamma) <= DELTA).sum()) - 1


def stop(k: Array, looks: Array, allowed: Array) -> tuple[Array, Array]:
    """Draws used and whether certified `[R]`, for hits `k [R, L]` at the looks and the most that certify `[L]`.

    Given up when no look to come allows the hits seen so far.
    """
    good = k <= allowed
    later = np.append(np.maximum.accumulate(allowed[::-1])[::-1][1:], -1)  # most that any later look allows
    over = good | (k > later)
    first = over.argmax(axis=1)
    return looks[first], good[np.arange(len(k)), first]


def _column(plans: Family, pick: Array, rng: np.random.Generator, n: int) -> Array:
    """Hits `[n]` of one plan."""
    return plans.hits(rng, n, pick)[:, 0]


def attempts(name: str, rng: np.random.Generator, reps: int) -> list[Row]:
    """Up to five plans in turn, each chosen anew, until one is certified; the whole chain must not miss."""
    gamma = 0.05
    out: list[Row] = []
    for spending in (True, False):
        missed, used, held = np.zeros(reps, bool), np.zeros(reps), np.zeros(reps, bool)
        for i in range(reps):
            ledger = Ledger(int(rng.integers(2**62)))
            for j in range(1, ATTEMPTS + 1):
                plans = family(rng, 64, gamma, 3 * gamma)
                best, _ = choose(plans, rng, 200)
                plan = digest(plans.clearance[best], plans.parts[:, best])
                stream, ledger = ledger.open(plan)
                spend = DELTA / 2**j if spending else DELTA
                n, pick = samples_needed(gamma, spend, 1), np.array([best])
                draws, _ = stream.draw(n, partial(_column, plans, pick))
                if spending:
                    upper = certify_draws(ledger, draws, plan, gamma=gamma, delta=DELTA).upper
                else:
                    upper = clopper_pearson(int(draws.hits.sum()), n, spend)[1]
                used[i] += n
                missed[i] |= upper < plans.risk[best]
                held[i] = upper <= gamma
                if held[i]:
                    break
        label = "attempt j at delta / 2^j" if spending else "every attempt at delta"
        out.append(row(label, spending, missed, draws=float(used.mean()), certified=float(held.mean())))
    return out


def model(name: str, rng: np.random.Generator, reps: int) -> list[Row]:
    """A model whose clearances are off chooses the plan and carries most of the bound; real draws bound the rest."""
    off, n, cheap = MODEL[name], 1000, 100_000
    true, exact, plain, by_model = np.empty(reps), np.empty(reps), np.empty(reps), np.empty(reps)
    for i in range(reps):
        plans = family(rng, 64, 0.01, 0.1)
        wrong = plans.clearance + rng.normal(0.0, off, 64)
        believed = Family(wrong, plans.parts, plans.risk)
        best, _ = choose(believed, rng, n)
        pick = np.array([best])
        errors = plans.errors(rng, n, pick)[:, 0]
        real, said = errors > plans.clearance[best], errors > wrong[best]
        k = int(believed.hits(rng, cheap, pick).sum())
        true[i], by_model[i] = plans.risk[best], clopper_pearson(k, cheap, DELTA)[1]
        exact[i] = two_binomial(int((real & ~said).sum()), int((said & ~real).sum()), n, k, cheap, DELTA)
        plain[i] = clopper_pearson(int(real.sum()), n, DELTA)[1]
    return [
        row(method, promise, u < true, draws=float(real_n), bound_over_risk=float(np.mean(u / true)))
        for method, promise, u, real_n in (
            ("the model alone", False, by_model, 0),
            ("model and real draws (two-binomial)", True, exact, n),
            ("real draws alone (Clopper-Pearson)", True, plain, n),
        )
    ]


TABLES = {**dict.fromkeys(BOUNDS, bounds), **dict.fromkeys(STOPPING, stopping), CHAIN: attempts}
TABLES |= dict.fromkeys(MODEL, model)


def one(reps: int, setting: str, seed: int) -> Row:
    """All rows of one setting."""
    return {"rows": TABLES[setting](setting, numpy_rng(seed, "coverage", setting), reps)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="60 repetitions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args(argv)
    reps = 60 if args.quick else args.repetitions
    settings = {"repetitions": reps, "seed": args.seed, "delta": DELTA}
    study = args.out / f"certificate_coverage_{reps}.study.jsonl"
    header, done = run_study(partial(one, reps), list(TABLES), [args.seed], study, settings, kinds={"rows": list})
    rows = [{"setting": d["planner"], **r} for d in done for r in d["rows"]]
    broken = [r for r in rows if r["kept"] is False]
    for r in rows:
        promise = "no promise" if r["kept"] is None else "kept" if r["kept"] else "BROKEN"
        extra = "".join(f", {k} {r[k]:.3g}" for k in ("draws", "saving", "certified", "bound_over_risk") if k in r)
        print(f"{r['setting']:44s} {r['method']:38s} misses {r['rate']:6.1%}  {promise}{extra}")
    result = {**header, "rows": rows, "broken": len(broken)}
    write(args.out / "certificate_coverage.json", result)
    study.unlink()  # whole: the next run starts anew
    print(f"{len(broken)} promises broken. results: {args.out}/certificate_coverage.json")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
