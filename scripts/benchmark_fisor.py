"""Speed of FISOR: updates per second and action latency, eager and compiled, CPU and (when there is one) GPU.

    python scripts/benchmark_fisor.py

Variants are timed in turn within one process, round by round, so that other load on the machine hits them alike; the
ratios are medians over paired rounds. The update is the official one: batch 2048, two actor steps, critics on 256 rows.
"""

import argparse
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads spin otherwise, up to 10x slower on a shared CPU

import numpy as np
import torch
from tqdm import tqdm

from safeplan.data import Log
from safeplan.feasibility import FisorConfig, official
from safeplan.rng import numpy_rng, torch_rng
from safeplan.strict_json import write
from safeplan.training import fisor_from_log
from safeplan.training.checkpoint import versions


def synthetic(rows: int, obs: int, act: int, seed: int) -> Log:
    """Random transitions of the size of a CarGoal task."""
    rng = numpy_rng(seed, "benchmark")
    f = lambda *s: rng.uniform(-1, 1, s).astype(np.float32)  # noqa: E731
    ends = np.zeros(rows, bool)
    ends[999::1000] = True
    costs = (rng.random(rows) > 0.9).astype(np.float32)
    return Log(f(rows, obs), f(rows, obs), f(rows, act), f(rows), costs, np.zeros(rows, bool), ends)


class Variant:
    """One learner and what is timed of it."""

    def __init__(self, name: str, log: Log, config: FisorConfig, device: str, seed: int):
        self.name, self.device, self.seed, self.step = name, device, seed, 0
        self.learner, self.source = fisor_from_log(log, config, seed=seed, device=device)
        self.obs = torch.from_numpy(log.observations[:100]).to(device)

    def _sync(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def update(self, count: int) -> float:
        """Seconds per update."""
        begin = self._sync()
        for _ in range(count):
            batch = self.source.batch(self.step, self.seed)
            self.learner.update(batch, torch_rng(self.seed, "update", self.step))
            self.step += 1
        return (self._sync() - begin) / count

    def act(self, count: int, states: int) -> float:
        """Seconds per call for `states` states at once."""
        generator, obs = torch_rng(self.seed, "act"), self.obs[:states]
        begin = self._sync()
        for _ in range(count):
            self.learner.agent.act(obs, generator)
        return (self._sync() - begin) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=3, help="updates in each round")
    parser.add_argument("--acts", type=int, default=20, help="action choices in each round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--obs", type=int, default=72)
    parser.add_argument("--act", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled variants out")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_fisor.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    log = synthetic(args.rows, args.obs, args.act, args.seed)
    config = official(batch=args.batch, critic_rows=min(256, args.batch))
    variants = []
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        variants.append(Variant(f"{device} eager", log, config, device, args.seed))
        if not args.no_compile:
            variants.append(Variant(f"{device} compiled", log, replace(config, compile=True), device, args.seed))
    measures = {
        "update": lambda v: v.update(args.updates),
        "act_1": lambda v: v.act(args.acts, 1),
        "act_20": lambda v: v.act(max(args.acts // 5, 1), 20),
    }
    for v in tqdm(variants, desc="warm up", disable=None):
        for run in (lambda v=v: v.update(2), lambda v=v: v.act(2, 1), lambda v=v: v.act(2, 20)):
            run()
    times: dict[str, dict[str, list[float]]] = {v.name: {m: [] for m in measures} for v in variants}
    for _ in tqdm(range(args.rounds), desc="rounds", disable=None):
        for measure, run in measures.items():
            for v in variants:
                times[v.name][measure].append(run(v))

    base, table = variants[0].name, {}
    for v in variants:
        row = {m: float(np.median(t)) for m, t in times[v.name].items()}
        ratio = {m: float(np.median(np.array(times[base][m]) / np.array(times[v.name][m]))) for m in measures}
        table[v.name] = {
            "updates_per_s": 1 / row["update"],
            "update_ms": 1e3 * row["update"],
            "act_ms": 1e3 * row["act_1"],
            "act_20_states_ms": 1e3 * row["act_20"],
            "speedup_over_cpu_eager": ratio,
        }
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    result = {
        "variants": table,
        "settings": {k: v for k, v in vars(args).items() if k != "out"},
        "seed": args.seed,
        "threads": args.threads,
        "device": {"cpu": f"{platform.machine()}, {os.cpu_count()} cores", "gpu": gpu},
        "load": os.getloadavg()[0],
        "versions": versions(),
    }
    write(args.out, result)

    print(f"{'':16}{'updates/s':>10}{'action ms':>11}{'20 states ms':>14}{'ratio update':>14}{'ratio action':>14}")
    for name, r in table.items():
        s = r["speedup_over_cpu_eager"]
        print(
            f"{name:16}{r['updates_per_s']:10.2f}{r['act_ms']:11.2f}{r['act_20_states_ms']:14.1f}"
            f"{s['update']:14.2f}{s['act_1']:14.2f}"
        )
    if gpu is None:
        print("GPU rows: none, torch sees no CUDA device")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
