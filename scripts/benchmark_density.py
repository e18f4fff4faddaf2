"""Particles through a system: how many steps a second, against NumPy, a numba loop, and streaming through memory.

  python scripts/benchmark_density.py                 # a few minutes, most of them compiling
  python scripts/benchmark_density.py --quick         # no compiling, fewer rounds
  python scripts/benchmark_density.py --device cuda   # a minute; writes results/benchmark_density_cuda.json

Risk of a plan of 50 steps for the tracking car (RK4 of its closed loop, one step of 0.1 s each, and the level of a disc
at each step) with 10,000 particles; NumPy and torch also evaluate a feedback, which is zero here, and NumPy works in
double and keeps all states; 20 plans of 500 particles in one batch against 20 calls; a query of learned flows. The
floor is the time of that risk's sines and cosines alone (one of each in each of RK4's four stages).
Variants are timed in turn, round by round, in CPU time at one thread and wall time at two; figures are medians, ratios
are medians of paired rounds. On a GPU: wall time up to its last kernel, 10,000 and 1,000,000 particles that are there
already, each variant also replayed as one CUDA graph; NumPy and numba stay on one thread of the CPU.
Writes results/benchmark_density.json.
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
from safeplan.errors import CapabilityError, SafeplanError
from safeplan.evaluation.study import provenance
from safeplan.reach import rollout
from safeplan.reach.batched import push_plans, push_stacked, risks, stack_particles, stack_plans
from safeplan.reach.sets import Ball, levels
from safeplan.strict_json import write
from safeplan.types import Draw, Reference

STEPS, PARTICLES, PLANS, FEW, MANY = 50, 10_000, 20, 500, 1_000_000
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


def copy_rate() -> float:
    """Bytes a second of a copy of 1 GiB within the memory of the GPU, read and written."""
    b = torch.ones(1 << 28, device="cuda")
    a = torch.empty_like(b)
    a.copy_(b)
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    for _ in range(10):
        a.copy_(b)
    ended.record()
    torch.cuda.synchronize()
    return 10 * 2 * 4 * len(a) / (1e-3 * began.elapsed_time(ended))


def circular() -> Timed:
    """The sines and cosines of the risk alone, on an array that stays in the cache."""
    x = torch.linspace(-3, 3, PARTICLES)
    y = torch.empty_like(x)

    def run() -> None:
        for _ in range(4 * STEPS):
            torch.sin(x, out=y)
            torch.cos(x, out=y)

    return run


def rivals(case: Case, draw: Draw, ref: Reference) -> dict[str, Timed]:
    """NumPy and numba."""

    def numpy_risk() -> float:
        flow = rollout(case.loop, draw, ref, np.inf)
        return float(np.mean(levels(DISC, flow.times, flow.states).min(0) <= 0))

    return {"numpy, float64": numpy_risk, "numba loop, float32": numba_risk(case, draw)}


def variants(case: Case, compiled: bool, device: str) -> dict[str, Timed]:
    """Name -> one evaluation of the risk, from NumPy arrays."""
    draw = case.start.sample(PARTICLES, 1, np.random.default_rng(0))
    ref, few = plan_of(case), Draw(draw.x[:FEW], draw.theta[:FEW])
    many = [plan_of(case, t) for t in np.linspace(-0.5, 0.5, PLANS)]
    like = torch.zeros((), device=device)

    def push(d: Draw, refs: list[Reference], fast: bool) -> Timed:
        return lambda: risks(push_plans(case.loop, d, refs, np.inf, DISC, like=like, compiled=fast)).cpu()

    out = rivals(case, draw, ref)
    if device == "cpu":
        out["floor: its sines and cosines"] = circular()
    for fast in (False, True) if compiled else (False,):
        label = f"torch {device} {'compiled' if fast else 'eager'}"
        calls = [push(few, [r], fast) for r in many]
        out[label] = push(draw, [ref], fast)
        out[f"{label}: 20 plans x 500, one batch"] = push(few, many, fast)
        out[f"{label}: 20 plans x 500, 20 calls"] = lambda calls=calls: [c() for c in calls]
    return out


def captured(run: Timed) -> Timed:
    """`run` as one CUDA graph, warmed up; what it returns is overwritten by the next replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()

    def replay() -> Any:
        graph.replay()
        return out

    return replay


def resident(case: Case, particles: int, compiled: bool) -> dict[str, Timed]:
    """Name -> the risk of one plan, its tensors on the GPU already."""
    like = torch.zeros((), device="cuda")
    x, theta = stack_particles(case.start.sample(particles, 1, np.random.default_rng(0)), like)
    plans = stack_plans([plan_of(case)], like)

    def run() -> torch.Tensor:
        return risks(push_stacked(case.loop, x, theta, plans, np.inf, DISC, compiled=compiled))

    label = f"torch cuda {'compiled' if compiled else 'eager'}, {particles:,} particles there"
    return {label: run, f"{label}, CUDA graph": captured(run)}


def queries(device: str = "cpu") -> dict[str, Timed]:
    """One evaluation of each shipped flow's net at 1,000 points, and a push to its horizon."""
    out: dict[str, Timed] = {}
    for name in build.shipped_flows():
        flow, case = build.shipped_flow(name, device), system(name)
        d = case.start.sample(
            1000, max(1, round(case.horizon_s / min(case.start.stretch_s, case.horizon_s))), np.random.default_rng(0)
        )
        x, theta = (torch.as_tensor(a, dtype=torch.float32, device=device) for a in d)
        tau = torch.full((1000,), flow.net.segment_s, device=device)
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
        allowed = 1 / FEW if "compiled" in name else 0.0  # two sizes are two programs: a rounding, one particle
        if (calls - batch).abs().max() > 1.01 * allowed:
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


def finished() -> float:
    """Wall clock once the GPU has done all it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


class Report:
    """Rows as they come, each printed."""

    def __init__(self, bytes_per_s: float):
        self.bytes_per_s, self.rows, self.numpy = bytes_per_s, [], []

    def add(self, times: dict[str, list[float]], where: dict[str, Any], particles: int = PARTICLES) -> None:
        """Timings of risks, beside NumPy's (the latest it was given) and streaming."""
        self.numpy = times.get("numpy, float64", self.numpy)
        work = particles * STEPS
        floor = work * (3 + 3 + 1) * 4 / self.bytes_per_s  # if state and growth went through memory at every step
        for name, t in times.items():
            s, numpy = float(np.median(t)), np.array(self.numpy) * particles / PARTICLES
            speed = {"ms": 1e3 * s, "particle_steps_per_s": work / s, "times_streaming": s / floor}
            row = {"variant": name, **where, **speed, "times_numpy": float(np.median(numpy / np.array(t)))}
            self.rows.append(row)
            print(
                f"{name:58s} {1e3 * s:8.3f} ms  {work / s / 1e6:9.1f} M particle-steps/s  "
                f"{row['times_numpy']:7.1f} x numpy  {s / floor:7.1f} x streaming  {where}",
                flush=True,
            )
        for batch in [k for k in times if k.endswith("one batch")]:
            calls = times[batch.replace("one batch", "20 calls")]
            gain = float(np.median(np.array(calls) / np.array(times[batch])))
            label = f"{batch.split(':')[0]}: one batch cheaper than 20 calls by"
            self.rows.append({"variant": label, **where, "ratio": gain})
            print(f"{label} {gain:.1f} x  {where}", flush=True)

    def add_queries(self, times: dict[str, list[float]]) -> None:
        for name, t in times.items():
            self.rows.append({"variant": name, "ms": 1e3 * float(np.median(t))})
            print(f"{name:58s} {self.rows[-1]['ms']:8.3f} ms for 1,000 points", flush=True)

    def aims(self) -> list[dict[str, Any]]:
        """What was aimed at, whether it is so at one thread or on the GPU, and the figure."""
        rows = [r for r in self.rows if r.get("threads", 1) == 1]
        ours = [r for r in rows if r["variant"].startswith("torch") and "20 plans" not in r["variant"]]
        one = [r for r in ours if "ms" in r and f"{MANY:,}" not in r["variant"]]
        fast = min(one, key=lambda r: r["ms"])
        note = f"{fast['ms']:.2f} ms ({fast['variant']})"
        note += "".join(f"; floor {r['ms']:.2f} ms" for r in rows if r["variant"].startswith("floor"))
        risk = "risk of 50 steps with 10,000 particles below 10 ms"
        found = [{"aim": risk, "met": fast["ms"] < 10, "note": note}]
        for r in [r for r in ours if "ratio" in r]:
            aim = f"{r['variant'].split(':')[0]}: 20 plans in one batch at least 10 x cheaper than 20 calls"
            found.append({"aim": aim, "met": r["ratio"] >= 10, "note": f"{r['ratio']:.1f} x"})
        maps = [r for r in rows if r["variant"].endswith("one map")]
        if maps:
            slow = max(maps, key=lambda r: r["ms"])
            note = f"slowest {slow['ms']:.2f} ms ({slow['variant'].split(':')[0]})"
            aim = "query of a learned flow at 1,000 points below 1 ms"
            found.append({"aim": aim, "met": slow["ms"] < 1, "note": note})
        return found

    def save(self, path: Path, rounds: int, made_with: dict[str, str]) -> None:
        head = {"made_with": made_with, "rounds": rounds, "memory_bytes_per_s": self.bytes_per_s}
        write(path, {**head, "rows": self.rows, "aims": self.aims()})


def on_cpu(case: Case, rounds: int, quick: bool, out: Path) -> Report:
    """All variants at one and at two threads."""
    torch.set_num_threads(1)
    report = Report(bandwidth())
    for threads in (1, 2):
        torch.set_num_threads(threads)
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        work = variants(case, not quick, "cpu")
        check(work)
        report.add(
            measure(work, rounds, time.process_time if threads == 1 else time.perf_counter), {"threads": threads}
        )
    torch.set_num_threads(1)
    report.add_queries(measure(queries(), rounds, time.process_time))
    report.save(out, rounds, provenance())
    return report


def on_gpu(case: Case, rounds: int, quick: bool, out: Path) -> Report:
    """Saved after each group of rows, so that a compiler that fails takes only its own.

    Raises:
        CapabilityError: no GPU.
    """
    if not torch.cuda.is_available():
        raise CapabilityError("--device cuda: torch sees no CUDA device; leave the option out to measure on the CPU")
    made_with = provenance(torch.cuda.get_device_name())
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    report = Report(copy_rate())
    print(f"{made_with['device']}: {report.bytes_per_s / 1e12:.2f} TB/s")
    eager = variants(case, False, "cuda")
    check(eager)
    slow = {k: eager.pop(k) for k in list(eager) if not k.startswith("torch")}
    report.add(measure(slow, rounds, time.process_time), {"device": "cpu"})
    report.add(measure(eager, rounds, finished), {"device": "cuda"})
    report.save(out, rounds, made_with)
    report.add_queries(measure(queries("cuda"), rounds, finished))
    report.save(out, rounds, made_with)
    for particles in (PARTICLES, MANY):
        every: dict[str, Timed] = {}
        for compiled in (False,) if quick else (False, True):
            began = finished()
            work = resident(case, particles, compiled)
            every |= work
            check(every)
            print(
                f"{particles:,} particles, {'compiled' if compiled else 'eager'}: {finished() - began:.1f} s to prepare"
            )
            report.add(measure(work, rounds, finished), {"device": "cuda"}, particles)
            report.save(out, rounds, made_with)
    return report


@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=None, help="default: 15, on a GPU 3")
    parser.add_argument("--quick", action="store_true", help="no compiling, three rounds")
    parser.add_argument("--out", type=Path, default=None, help="default: in results, or with --quick in runs")
    args = parser.parse_args(argv)
    name = "benchmark_density.json" if args.device == "cpu" else "benchmark_density_cuda.json"
    out = args.out or Path("runs" if args.quick else "results") / name
    case = replace(system("car"), loop=replace(system("car").loop, substeps=1))
    run = on_cpu if args.device == "cpu" else on_gpu
    rounds = 3 if args.quick or args.device == "cuda" else 15
    report = run(case, rounds if args.rounds is None else args.rounds, args.quick, out)
    for a in report.aims():
        print(f"{a['aim']}: {'met' if a['met'] else 'MISSED'} ({a['note']})")
    print(f"results: {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
