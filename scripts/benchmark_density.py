"""Particles through a system: how many steps a second, against NumPy, a numba loop, and streaming through memory.

  python scripts/benchmark_density.py            # a few minutes, most of them compiling
  python scripts/benchmark_density.py --quick    # no compiling, fewer rounds

Risk of a plan of 50 steps for the tracking car (RK4 of its closed loop, one step of 0.1 s each, and the level of a disc
at each step) with 10,000 particles; NumPy and torch also evaluate a feedback, which is zero here, and NumPy works in
double and keeps all states; 20 plans of 500 particles in one batch against 20 calls; a query of learned flows.
Variants are timed in turn, round by round, in CPU time at one thread and wall time at two; figures are medians, ratios
are medians of paired rounds. Writes results/benchmark_density.json.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["NUMBA_NUM_THREADS"] = str(min(2, os.cpu_count() or 1))  # the most; how many work is set below
os.environ["NUMBA_THREADING_LAYER"] = "workqueue"  # its OpenMP layer would set the threads of torch too

import numba
import numpy as np
import torch
from tqdm import tqdm

from safeplan import build
from safeplan.dynamics.systems import Case, system
from safeplan.errors import SafeplanError
from safeplan.evaluation.study import provenance
from safeplan.reach import rollout
from safeplan.reach.batched import push_plans, risks
from safeplan.reach.sets import Ball, levels
from safeplan.strict_json import write
from safeplan.types import Draw, Reference

STEPS, PARTICLES, PLANS, FEW = 50, 10_000, 20, 500
DISC = Ball(np.array([1.0, 0.0]), 0.5)
Timed = Callable[[], Any]


def plan_of(case: Case, turn: float = 0.0) -> Reference:
    """50 steps with the controls held."""
    n, m = case.loop.n, case.loop.m
    controls = np.tile(np.array(case.command) + np.array([0.0, turn]), (STEPS, 1))
    return Reference(np.zeros((STEPS + 1, n)), controls, np.zeros((STEPS, m, n)), case.loop.dt)


def numba_risk(case: Case, draw: Draw) -> Timed:
    """The same in one loop per particle, compiled by numba; written out by hand, as one would."""
    from numba import njit, prange

    from safeplan.dynamics.systems.tracked import CAR_GAINS as k

    # single precision throughout: a Python number would promote everything
    k1, k2, k3, dt, v_ref = (np.float32(v) for v in (k.k1, k.k2, k.k3, case.loop.dt, case.command[0]))
    one, half, two, six = (np.float32(v) for v in (1.0, 0.5, 2.0, 6.0))

    @njit(fastmath=True)
    def rate(ex, ey, eth, a):
        v = v_ref * np.cos(eth) + k1 * ex
        w = v_ref * (k2 * ey + k3 * np.sin(eth))
        return w * ey - v + v_ref * np.cos(eth) + a * ex, -w * ex + v_ref * np.sin(eth) + a * ey, -w

    @njit(parallel=True, fastmath=True)
    def loop(x, a):
        hits = 0
        for i in prange(x.shape[1]):
            ex, ey, eth = x[0, i], x[1, i], x[2, i]
            worst = np.sqrt((ex - one) ** 2 + ey**2) - half
            for _ in range(STEPS):
                p1, q1, r1 = rate(ex, ey, eth, a[i])
                p2, q2, r2 = rate(ex + dt / two * p1, ey + dt / two * q1, eth + dt / two * r1, a[i])
                p3, q3, r3 = rate(ex + dt / two * p2, ey + dt / two * q2, eth + dt / two * r2, a[i])
                p4, q4, r4 = rate(ex + dt * p3, ey + dt * q3, eth + dt * r3, a[i])
                ex += dt / six * (p1 + two * (p2 + p3) + p4)
                ey += dt / six * (q1 + two * (q2 + q3) + q4)
                eth += dt / six * (r1 + two * (r2 + r3) + r4)
                worst = min(worst, np.sqrt((ex - one) ** 2 + ey**2) - half)
            hits += worst <= 0
        return hits / x.shape[1]

    x, a = draw.x.T.astype(np.float32), draw.theta[:, 0, 0].astype(np.float32)
    return lambda: loop(x, a)


def bandwidth() -> float:
    """Bytes a second of a[:] = b + 2 c on arrays far larger than the caches, one thread."""
    a, b, c = (torch.rand(1 << 25) for _ in range(3))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        torch.add(b, c, alpha=2.0, out=a)
        times.append(time.perf_counter() - began)
    return 3 * 4 * len(a) / min(times)


def variants(case: Case, compiled: bool, device: str) -> dict[str, Timed]:
    """Name -> one evaluation of the risk."""
    draw = case.start.sample(PARTICLES, 1, np.random.default_rng(0))
    ref, few = plan_of(case), Draw(draw.x[:FEW], draw.theta[:FEW])
    many = [plan_of(case, t) for t in np.linspace(-0.5, 0.5, PLANS)]
    like = torch.zeros((), device=device)

    def push(d: Draw, refs: list[Reference], fast: bool) -> Timed:
        return lambda: risks(push_plans(case.loop, d, refs, np.inf, DISC, like=like, compiled=fast)).cpu()

    def numpy_risk() -> float:
        flow = rollout(case.loop, draw, ref, np.inf)
        return float(np.mean(levels(DISC, flow.times, flow.states).min(0) <= 0))

    out: dict[str, Timed] = {}
    if device == "cpu":
        out["numpy, float64"] = numpy_risk
        out["numba loop, float32"] = numba_risk(case, draw)
    for fast in (False, True) if compiled else (False,):
        label = f"torch {device} {'compiled' if fast else 'eager'}"
        out[label] = push(draw, [ref], fast)
        out[f"{label}: 20 plans x 500, one batch"] = push(few, many, fast)
        if not fast:
            calls = [push(few, [r], False) for r in many]
            out[f"{label}: 20 plans x 500, 20 calls"] = lambda calls=calls: [c() for c in calls]
    return out


def queries() -> dict[str, Timed]:
    """One evaluation of each shipped flow's net at 1,000 points, and a push to its horizon."""
    out: dict[str, Timed] = {}
    for name in build.shipped_flows():
        flow, case = build.shipped_flow(name), system(name)
        d = case.start.sample(
            1000, max(1, round(case.horizon_s / min(case.start.stretch_s, case.horizon_s))), np.random.default_rng(0)
        )
        x, theta = (torch.as_tensor(a, dtype=torch.float32) for a in d)
        tau = torch.full((1000,), flow.net.segment_s)
        out[f"flow {name}: one map"] = lambda f=flow, x=x, t=theta, tau=tau: f.net(x, t[:, 0], tau)
        out[f"flow {name}: horizon"] = lambda f=flow, x=x, t=theta, c=case: f.push(x, t, [c.horizon_s])
    return out


def check(work: dict[str, Timed]) -> None:
    """All variants of the one plan must give the same risk.

    Raises:
        SafeplanError: they do not, so their times say nothing.
    """
    risk = {k: float(v()) for k, v in work.items() if ":" not in k}
    for name in [k for k in work if k.endswith("20 calls")]:
        calls, batch = torch.cat(work[name]()), work[name.replace("20 calls", "one batch")]()
        if not torch.equal(calls, batch):
            raise SafeplanError(f"{name}: one batch gives other risks than 20 calls")
    if max(risk.values()) - min(risk.values()) > 2 / PARTICLES:
        raise SafeplanError(f"the variants disagree on the risk: {risk}")


def measure(work: dict[str, Timed], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each, round by round in turn; in each round the best of three."""
    times: dict[str, list[float]] = {k: [] for k in work}
    for run in work.values():
        run()  # compiles
    for _ in tqdm(range(rounds), desc="rounds", disable=None, leave=False):
        for name, run in work.items():
            best = np.inf
            for _ in range(3):
                began = clock()
                run()
                best = min(best, clock() - began)
            times[name].append(best)
    return times


@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="no compiling, three rounds")
    parser.add_argument("--out", type=Path, default=None, help="default: results/benchmark_density.json, if not quick")
    args = parser.parse_args(argv)
    out = args.out or Path("runs" if args.quick else "results") / "benchmark_density.json"
    rounds = 3 if args.quick else args.rounds
    case = replace(system("car"), loop=replace(system("car").loop, substeps=1))
    work = PARTICLES * STEPS
    torch.set_num_threads(1)
    stream = bandwidth()
    floor = work * (3 + 3 + 1) * 4 / stream  # if state and growth went through memory at every step
    rows: list[dict[str, Any]] = []
    base: list[float] = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        clock = time.process_time if threads == 1 else time.perf_counter
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() and threads == 1 else [])]
        for device in devices:
            work_of = variants(case, not args.quick, device)
            check(work_of)
            times = measure(work_of, rounds, clock if device == "cpu" else time.perf_counter)
            base = times.get("numpy, float64", base)
            for name, t in times.items():
                s = float(np.median(t))
                rows.append(
                    {
                        "variant": name,
                        "threads": threads,
                        "ms": 1e3 * s,
                        "particle_steps_per_s": work / s,
                        "times_numpy": float(np.median(np.array(base) / np.array(t))),
                        "times_streaming": s / floor,
                    }
                )
                print(
                    f"{threads} thread(s)  {name:46s} {1e3 * s:8.2f} ms  {work / s / 1e6:7.1f} M particle-steps/s  "
                    f"{rows[-1]['times_numpy']:5.1f} x numpy  {s / floor:6.1f} x streaming",
                    flush=True,
                )
            batch, calls = (times[f"torch {device} eager: 20 plans x 500, {k}"] for k in ("one batch", "20 calls"))
            gain = float(np.median(np.array(calls) / np.array(batch)))
            rows.append(
                {"variant": f"torch {device}: one batch cheaper than 20 calls by", "threads": threads, "ratio": gain}
            )
            print(f"{threads} thread(s)  {device}: one batch of 20 plans is {gain:.1f} x cheaper than 20 calls")
    torch.set_num_threads(1)
    for name, t in measure(queries(), rounds, time.process_time).items():
        rows.append({"variant": name, "threads": 1, "ms": 1e3 * float(np.median(t))})
        print(f"1 thread     {name:46s} {rows[-1]['ms']:8.2f} ms for 1,000 points")
    write(out, {"made_with": provenance(), "rounds": rounds, "memory_bytes_per_s": stream, "rows": rows})
    print(f"results: {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
