"""Speed of FISOR: an update over the floor that its matrix products set, and the time to choose an action.

  python scripts/benchmark_fisor.py                  # CPU: eager, compiled, bfloat16; a few minutes
  python scripts/benchmark_fisor.py --device cuda    # GPU: eager, graph, graph with tf32 or bfloat16; about a minute
  python scripts/benchmark_fisor.py --quick          # a few rounds, nothing compiled

The update is the official one: batch 2048, two actor steps on half of it each, critics on 256 rows, no row skipped.
Floor: the matrix products that one update executes, forward and backward, or one choice of actions, recorded as it
runs, and run again alone on the same operands, precision, device and threads (on a GPU as a graph). Everything is timed
in turn, round by round; on one CPU thread in CPU time, so that other load on the machine counts little. Ratios are
medians over paired rounds. Narrow: an actor of half the official width, as the table of offline methods trains; no aim
is judged by it. Whether the one-step policy is as good as it is fast is read from results/dsrl_bullet.json.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads spin otherwise, up to 10x slower on a shared CPU

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from safeplan.data import Log
from safeplan.evaluation.study import provenance
from safeplan.feasibility import FisorConfig, official
from safeplan.feasibility.graphed import GraphedFisor
from safeplan.feasibility.one_step import OneStepPolicy
from safeplan.feasibility.precision import products
from safeplan.rng import numpy_rng, torch_rng
from safeplan.strict_json import write
from safeplan.training import fisor_from_log

ATEN = torch.ops.aten
PRODUCTS = {  # product -> where its two factors are among the arguments
    ATEN.mm.default: (0, 1),
    ATEN.bmm.default: (0, 1),
    ATEN.addmm.default: (1, 2),
    ATEN.baddbmm.default: (1, 2),
}
CPU = {"eager": {}, "compiled": {"compile": True}, "bf16": {"precision": "bfloat16"}}
CPU["compiled bf16"] = CPU["compiled"] | CPU["bf16"]
CPU["narrow"] = {"actor_width": 128}  # as in the table of offline methods; it decides no aim, these are for 256
CPU["narrow compiled"] = CPU["narrow"] | CPU["compiled"]
CUDA = {
    "eager": {"graph": "off"},
    "graph": {"graph": "on"},
    "graph tf32": {"graph": "on", "precision": "tf32"},
    "graph bf16": {"graph": "on", "precision": "bfloat16"},
    "graph tf32 compiled": {"graph": "on", "precision": "tf32", "compile": True},
}


def synthetic(rows: int, obs: int, act: int, seed: int) -> Log:
    """Random transitions of the size of a CarGoal task."""
    rng = numpy_rng(seed, "benchmark")
    f = lambda *s: rng.uniform(-1, 1, s).astype(np.float32)  # noqa: E731
    ends = np.zeros(rows, bool)
    ends[999::1000] = True
    costs = (rng.random(rows) > 0.9).astype(np.float32)
    return Log(f(rows, obs), f(rows, obs), f(rows, act), f(rows), costs, np.zeros(rows, bool), ends)


class Recorder(TorchDispatchMode):
    """Keeps every matrix product that runs inside, with its operands."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in PRODUCTS:
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    def flops(self) -> int:
        """Two for each multiplication."""
        total = 0
        for func, args, _ in self.calls:
            a, b = (args[i] for i in PRODUCTS[func])
            total += 2 * a.numel() * b.shape[-1]
        return total


class Clock:
    """Seconds between calls: of the one thread that works, or of the wall where several or a GPU do."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"

    def __call__(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.process_time() if not self.cuda and torch.get_num_threads() == 1 else time.perf_counter()


class Floor:
    """The products of one call of `work` alone, in the precision of `config`. It is called once before."""

    def __init__(self, work: Callable[[], Any], config: FisorConfig, device: str) -> None:
        recorder = Recorder()
        work()
        with recorder:
            work()
        self.flops, self.clock, calls = recorder.flops(), Clock(device), recorder.calls
        calls = [(f, tuple(a.detach() if isinstance(a, torch.Tensor) else a for a in args), k) for f, args, k in calls]
        self.operands = calls  # a graph does not keep what it reads

        def run() -> None:
            for func, args, kwargs in calls:
                func(*args, **kwargs)

        self.run: Callable[[], None] = run
        if device == "cuda":
            with products(config.precision, torch.device(device)):
                self.run = graph_of(run)

    @torch.no_grad()
    def seconds(self, count: int) -> float:
        """Per call."""
        begin = self.clock()
        for _ in range(count):
            self.run()
        return (self.clock() - begin) / count


def graph_of(run: Callable[[], None]) -> Callable[[], None]:
    """`run` as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        run()
    return graph.replay


class Variant:
    """One learner and what is timed of it."""

    def __init__(self, log: Log, config: FisorConfig, device: str, seed: int) -> None:
        self.clock, self.seed, self.step = Clock(device), seed, 0
        self.learner, self.source = fisor_from_log(log, config, seed=seed, device=device)
        self.agent = self.learner.agent
        self.one_step = OneStepPolicy(self.agent)
        self.obs = torch.from_numpy(log.observations[:100]).to(device)

    def update(self, count: int) -> float:
        """Seconds per update, drawing its batch included."""
        begin = self.clock()
        for _ in range(count):
            batch = self.source.batch(self.step, self.seed)
            self.learner.update(batch, torch_rng(self.seed, "update", self.step))
            self.step += 1
        return (self.clock() - begin) / count

    def replay(self, count: int) -> float:
        """Seconds per replay of the graph, without what feeds it."""
        assert isinstance(self.agent, GraphedFisor)
        begin = self.clock()
        for _ in range(count):
            self.agent.replay()
        return (self.clock() - begin) / count

    def act(self, policy: Any, count: int, states: int) -> float:
        """Seconds per call of `policy` for `states` states at once."""
        generator, obs = torch_rng(self.seed, "act"), self.obs[:states]
        begin = self.clock()
        for _ in range(count):
            policy.act(obs, generator)
        return (self.clock() - begin) / count


def measure(
    name: str, log: Log, config: FisorConfig, device: str, args: argparse.Namespace
) -> tuple[Variant, dict[str, Any]]:
    """A variant and its row: an update and its floor, and actions, timed in turn."""
    v, plain = (Variant(log, c, device, args.seed) for c in (config, replace(config, compile=False, graph="off")))
    floor = Floor(lambda: plain.update(1), config, device)
    floors = {n: Floor(lambda n=n: plain.act(plain.agent, 1, n), config, device) for n in (1, 20)}
    graph = isinstance(v.agent, GraphedFisor)
    count = args.gpu_updates if device == "cuda" else args.updates
    few = max(args.acts // 5, 1)
    work: dict[str, Callable[[], float]] = {
        "update": lambda: v.update(count),
        "floor": lambda: floor.seconds(count),
        "act_1": lambda: v.act(v.agent, args.acts, 1),
        "act_20": lambda: v.act(v.agent, few, 20),
        "act_floor_1": lambda: floors[1].seconds(args.acts),
        "act_floor_20": lambda: floors[20].seconds(few),
        "one_step_1": lambda: v.act(v.one_step, args.acts, 1),
        "one_step_20": lambda: v.act(v.one_step, few, 20),
    }
    if graph:
        work["replay"] = lambda: v.replay(count)
    v.update(2)
    for n in (1, 20):
        v.act(v.agent, 3, n)
        v.act(v.one_step, 3, n)
    for f in (floor, *floors.values()):
        f.seconds(1)
    times: dict[str, list[float]] = {k: [] for k in work}
    for _ in tqdm(range(args.rounds), desc=f"{device} {name}", disable=None):
        for key, run in work.items():
            times[key].append(run())
    paired = lambda a, b: median(p / q for p, q in zip(times[a], times[b], strict=True))  # noqa: E731
    ms = {k: 1e3 * median(t) for k, t in times.items()}
    row = {"variant": f"{device} {name}", "update ms": ms["update"], "over the floor": paired("update", "floor")}
    if graph:
        row["kernels alone ms"] = ms["replay"]
    row |= {"products ms": ms["floor"], "TFLOP/s of products": floor.flops / ms["floor"] / 1e9}
    row |= {"action ms": ms["act_1"], "20 actions ms": ms["act_20"], "one-step action ms": ms["one_step_1"]}
    row |= {"action over its floor": paired("act_1", "act_floor_1")}
    row |= {"20 actions over theirs": paired("act_20", "act_floor_20")}
    row |= {"20 one-step actions ms": ms["one_step_20"], "one step faster": paired("act_1", "one_step_1")}
    row |= {"candidates": v.agent.config.candidates, "one-step candidates": v.one_step.config.candidates}
    row |= {"one step faster, 20": paired("act_20", "one_step_20"), "GFLOP": floor.flops / 1e9}
    return v, row


def long_run(v: Variant, seconds: float) -> dict[str, float]:
    """Replays for at least `seconds`, and what a million updates take at that rate."""
    count, spent = 0, 0.0
    while spent < seconds:
        spent += 1000 * v.update(1000)
        count += 1000
    return {"updates in the long run": count, "its seconds": spent, "minutes for 1M updates": 1e6 * spent / count / 60}


def aims(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was aimed at, whether it is so, and the row that decides: of times the best variant of a kind, of gains the
    least, so that a slow choice of actions makes no policy look fast."""
    found = []

    def judge(aim: str, key: str, among: list[dict[str, Any]], met: Callable[[float], bool], shown: str) -> None:
        if among:
            row = min(among, key=lambda r: r[key])
            note = f"{shown.format(row[key])} ({row['variant']})"
            found.append({"aim": aim, "met": bool(met(row[key])), "note": note})

    cpu = [r for r in rows if r["variant"].startswith("cpu")]
    exact = [r for r in cpu if not any(other in r["variant"] for other in ("bf16", "narrow"))]
    timed = [r for r in rows if "minutes for 1M updates" in r]
    judge("fp32 update within 1.25x of its products", "over the floor", exact, lambda v: v <= 1.25, "{:.3f}x")
    judge("one action in at most 4 ms", "action ms", exact, lambda v: v <= 4, "{:.2f} ms")
    wide = [r for r in rows if "narrow" not in r["variant"]]
    judge("one-step policy at least 4x faster", "one step faster", wide, lambda v: v >= 4, "{:.1f}x")
    judge("and for 20 states", "one step faster, 20", wide, lambda v: v >= 4, "{:.1f}x")
    for limit in (20, 10):
        judge(f"1M updates in under {limit} minutes", "minutes for 1M updates", timed,
              lambda v, limit=limit: v < limit, "{:.1f} minutes")  # fmt: skip
    return found


def quality(path: Path) -> list[dict[str, Any]]:
    """Are one-step policies as good as what they imitate? From the table of offline methods, where they are run."""
    if not path.is_file():
        return []
    table, budget = json.loads(path.read_text()), "FISOR, normalised, budget"
    at = {(c["task"], c["method"]): c for c in table["cells"] if c["limit"] == table["limits"][0]}
    pairs = {
        "at": ("FISOR", "FISOR, one step"),
        "with a margin at": ("FISOR", "FISOR, one step, margin"),
        "with a budget and reserve at": (f"{budget}, reserve", f"{budget}, one step, reserve"),
    }
    judged = [
        (name, equal([(t, at.get((t, a)), at.get((t, b))) for t in table["logs"]])) for name, (a, b) in pairs.items()
    ]
    return [{"aim": f"{name} equal return and cost on every task"} | found for name, found in judged if found]


def equal(cells: list[tuple[str, Any, Any]]) -> dict[str, Any]:
    """Whether one-step policies cost no more than limit or teacher, and return no less. {}: not run."""
    lacking = {}
    for task, slow, fast in cells:
        if slow is None or fast is None:
            return {}
        cheap = fast["cost"]["estimate"] <= max(1.0, slow["cost"]["estimate"])
        if not (cheap and fast["return"]["estimate"] >= slow["return"]["low"]):
            both = (f"{c['return']['estimate']:.0f} at {c['cost']['estimate']:.2f} of the limit" for c in (fast, slow))
            lacking[task] = " against ".join(both)
    note = f"{len(cells) - len(lacking)} of {len(cells)} tasks"
    note += "".join(f"; {task} {what}" for task, what in lacking.items())
    return {"met": not lacking, "note": note}


def save(rows: list[dict[str, Any]], device: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Write the rows so far; the aims, judged."""
    judged = aims(rows)
    judged += quality(Path("results/dsrl_bullet.json"))
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    said = "; ".join(f"{a['aim']}: {'met' if a['met'] else 'MISSED'}, {a['note']}" for a in judged)
    where = gpu or f"{torch.get_num_threads()} thread(s); narrow: an actor of half the width"
    keys = ("rounds", "updates", "gpu_updates", "acts", "seconds", "rows", "obs", "act", "batch", "seed", "quick")
    result = {
        "rows": rows,
        "aims": judged,
        "settings": {k: getattr(args, k) for k in keys},
        "load": os.getloadavg()[0],
        "made_with": provenance(gpu or "cpu") | {"threads": str(torch.get_num_threads())},
        "note": f"Batch {args.batch}, {args.obs} observations, {args.act} actions; {where}; load average "
        f"{os.getloadavg()[0]:.1f}. {said}.",
    }
    write(args.out or Path(f"results/benchmark_fisor{'_cuda' if gpu else ''}.json"), result)
    return judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda", "all"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="about 15 s")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="compiled variants; default: on the CPU"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int, default=2, help="updates in each round, on the CPU")
    parser.add_argument("--gpu-updates", type=int, default=200, help="the same on a GPU")
    parser.add_argument("--acts", type=int, default=20, help="action choices in each round")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the fastest graph's long run")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--obs", type=int, default=72)
    parser.add_argument("--act", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: results/benchmark_fisor.json, for a GPU ..._cuda.json")
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: torch sees no CUDA device; use --device cpu")
    if args.device == "all" and args.out:
        parser.error("--out names one file, --device all writes two: leave one of them out")
    if args.quick:
        args.rounds, args.updates, args.gpu_updates, args.acts, args.seconds = 2, 1, 20, 5, 1.0
    torch.set_num_threads(args.threads)
    log = synthetic(args.rows, args.obs, args.act, args.seed)
    config = official(batch=args.batch, critic_rows=min(256, args.batch))
    for device in ("cpu", "cuda") if args.device == "all" else (args.device,):
        wanted = args.compile if args.compile is not None else device == "cpu" and not args.quick
        rows: list[dict[str, Any]] = []
        todo = CPU if device == "cpu" else CUDA
        graphs: list[tuple[Variant, dict[str, Any]]] = []
        for compiled in (False, True) if wanted else (False,):  # what compiling costs or breaks comes last
            for name, change in todo.items():
                if bool(change.get("compile")) == compiled:
                    v, row = measure(name, log, replace(config, **change), device, args)
                    rows.append(row)
                    graphs += [(v, row)] if isinstance(v.agent, GraphedFisor) else []
                    print(f"{row['variant']}: " + ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "variant"))
                    save(rows, device, args)
            if graphs:
                v, row = min(graphs, key=lambda pair: pair[1]["update ms"])
                row |= long_run(v, args.seconds)
                print(f"{row['variant']}: {row['minutes for 1M updates']:.2f} minutes for 1M updates")
        judged = save(rows, device, args)
        print(*(f"{a['aim']}: {'met' if a['met'] else 'MISSED'} ({a['note']})" for a in judged), sep="\n")


if __name__ == "__main__":
    main()
