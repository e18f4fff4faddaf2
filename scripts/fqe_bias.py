"""Fitted-Q evaluation against the truth: policies of dsrl_table.py, judged from their log and then flown; resumable.

    python scripts/dsrl_table.py --suite bullet              trains them; any that are there will do
    python scripts/fqe_bias.py                               every policy that is trained and not judged yet
    python scripts/fqe_bias.py --tasks BallCircle --methods 'BC;FISOR official'
    python scripts/fqe_bias.py --data elsewhere/dsrl_like --runs elsewhere/dsrl_table      read, never written to

What is compared: the expected discounted sum of rewards, or costs, of a flight that never ends, from the task's start
states. The estimate bootstraps where the log timed out. The truth goes on past the task's time limit, until only the
share LEFT of all discounted weight is to come; what comes then is left out, and is of about that share of the truth
where the policy keeps doing what it did. Policies remember nothing and see no clock, so both are of the same process;
only the log's episodes were picked by cost and return, and with them, a little, its start states.

The estimate uses a random part of the log, because a policy is asked for an action in each of its states. Writes
results/fqe_bias.study.jsonl (a line per policy) and results/fqe_bias.json. A policy that is not trained, or not as far
as it must be, is named with the reason, and its cells say "not run".
"""

import argparse
import hashlib
import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from dsrl_bench import Bench
from dsrl_methods import METHODS, SUITES

SUITE = "bullet"
TASKS = ("BallCircle", "CarCircle")  # always in the table; the suite's others where something is trained
JUDGED = ("BC", "BC-Safe", "FISOR official", "FISOR", "COptiDICE")  # trained by themselves, and without memory
LEFT = 0.01  # of the discounted weight, when a flight ends
AT_ONCE = 25  # flights
FQE = {"updates": 4000, "batch": 256, "hidden": 128, "lr": 5e-4, "members": 6}  # small and quick, for one core
KINDS = {"signals": dict, "updates": int, "weights": str, "log": str, "cpu_s": float}  # what a row must hold


class Judge:
    """One job: a policy's estimates and flights. `config`: `FqeConfig`; `episodes`: how many of the log's."""

    def __init__(self, bench: Any, config: Any, flights: int, episodes: int) -> None:
        self.bench, self.config, self.flights, self.episodes = bench, config, flights, episodes

    def weights(self, task: str, method: str, seed: int) -> Path:
        """The file of the newest checkpoint; it need not exist."""
        from safeplan.training.checkpoint import model_file

        return model_file(self.bench.folder(task, method, seed))

    def lacking(self, task: str, method: str, seed: int) -> str:
        """Why the policy cannot be judged, or an empty string."""
        file = self.weights(task, method, seed)
        if not file.is_file():
            return "no checkpoint"
        made, asked = int(file.parent.name), self.asked(task, method)
        if asked is None:
            return "nobody measured how many updates it gets"
        return "" if made >= asked else f"{made} of {asked} updates"

    def asked(self, task: str, method: str) -> int | None:
        """Updates of a whole training; as `Bench.count`, which would measure and write what is not known."""
        updates = self.bench.suite.updates
        path = self.bench.runs / task / "seconds_per_update.json"
        if METHODS[method].train is not None:
            return updates
        known = json.loads(path.read_text()) if path.is_file() else {}
        return max(1, round(updates * known["FISOR"] / known[method])) if {"FISOR", method} <= set(known) else None

    def source(self, task: str, method: str, seed: int) -> dict[str, str]:
        """Digests of what a row is made from."""
        with self.weights(task, method, seed).open("rb") as file:
            return {"weights": hashlib.file_digest(file, "sha256").hexdigest(), "log": self.bench.log(task).digest()}

    def part(self, task: str, seed: int) -> Any:
        """Episodes of the task's log, drawn without replacement; the whole log where it has no more."""
        from safeplan.data.dsrl_process import select
        from safeplan.rng import numpy_rng

        log = self.bench.log(task)
        if len(log.episodes) <= self.episodes:
            return log
        drawn = numpy_rng(seed, "fqe_bias", "episodes", task).permutation(len(log.episodes))[: self.episodes]
        return select(log, log.episodes[np.sort(drawn)], f"{self.episodes} episodes drawn")

    def envs(self, task: str, steps: int) -> list[Any]:
        """Simulators of the task that fly on past its time limit."""
        from safeplan.data.dsrl import TASKS
        from safeplan_envs import dsrl

        return [dsrl.make(TASKS[task].id, max_episode_steps=steps) for _ in range(min(AT_ONCE, self.flights))]

    def flown(self, task: str, actor: Any, seed: int) -> dict[str, Any]:
        """Discounted sums of flights, by signal."""
        from safeplan.evaluation.fqe_bias import horizon
        from safeplan.evaluation.rollout import rollout
        from safeplan.rng import fold

        gamma, limit = self.config.gamma, self.bench.suite.limits[0]
        steps, seed = horizon(gamma, LEFT), fold(seed, "fqe_bias") % 2**31
        envs = self.envs(task, steps)
        try:
            e = rollout(envs, actor, episodes=self.flights, limit=limit, seed=seed, max_steps=steps, gamma=gamma)
        finally:
            for env in envs:
                env.close()
        return {"rewards": e.returns, "costs": e.costs}

    def __call__(self, planner: str, seed: int) -> dict[str, Any]:
        """The row of a policy; `planner` is TASK/METHOD."""
        from safeplan.evaluation.fqe import SIGNALS, choices, discounted, fqe
        from safeplan.evaluation.fqe_bias import compare
        from safeplan.training import load

        began = time.process_time()
        task, _, method = planner.partition("/")
        file, source = self.weights(task, method, seed), self.source(task, method, seed)
        actor, limit = self.bench.actor(task, method, load(file)), self.bench.suite.limits[0]
        log, flown, signals = self.part(task, seed), self.flown(task, actor, seed), {}
        chosen = choices(log, lambda obs, g: actor.act(obs, actor.start(len(obs), limit), g)[0], seed=seed)
        for name in SIGNALS:
            estimate = fqe(log, chosen, name, self.config, seed=seed)
            logged = discounted(log, name, self.config.gamma)
            found = asdict(compare(estimate, flown[name], logged))
            found |= {"members": estimate.members, "flown": flown[name], "spread": float(logged.std(ddof=1))}
            signals[name] = {k: v._asdict() if hasattr(v, "_asdict") else plain(v) for k, v in found.items()}
        row = {"signals": signals, "updates": int(file.parent.name), **source}
        return row | {"episodes": len(log.episodes), "cpu_s": time.process_time() - began}


def plain(value: Any) -> Any:
    """Arrays as lists."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def planned(judge: Judge, tasks: list[str], methods: list[str], seeds: int) -> dict[tuple[str, int], str]:
    """(TASK/METHOD, seed) -> why it cannot be judged, empty where it can; seed by seed, in the order of the table."""
    return {
        (f"{task}/{method}", seed): why
        for seed in range(seeds)
        for task in tasks
        for method in methods
        for why in [judge.lacking(task, method, seed)]
        if task in TASKS or not why
    }


def refuse_others(judge: Judge, rows: list[dict[str, Any]], kept: Path) -> None:
    """ConfigError where a row was made from other weights, or another log, than those that are there now."""
    from safeplan.errors import ConfigError

    for r in rows:
        task, _, method = r["planner"].partition("/")
        if judge.lacking(task, method, r["seed"]):
            continue  # judged elsewhere
        for what, digest in judge.source(task, method, r["seed"]).items():
            if r[what] != digest:
                raise ConfigError(
                    f"study {kept}: the row of {r['planner']}, seed {r['seed']} was made from other {what} than those "
                    "there are now. Delete that line to run its job again"
                )


def summarise(header: dict[str, Any], rows: list[dict[str, Any]], plan: dict[tuple[str, int], str]) -> dict[str, Any]:
    """What the table shows: a cell per policy, judged or not, in the order of the suite's tasks and of JUDGED."""
    found = {(r["planner"], r["seed"]): r for r in rows}
    order = {f"{t}/{m}": i for i, (t, m) in enumerate((t, m) for t in SUITES[SUITE].tasks for m in JUDGED)}
    cells = []
    for job in sorted({*plan, *found}, key=lambda job: (order[job[0]], job[1])):
        task, _, method = job[0].partition("/")
        cell = {"task": task, "method": method, "seed": job[1]}
        r = found.get(job)
        if r is None:
            cells.append(cell | {"why": plan[job] or "not asked for"})
            continue
        signals = {n: {k: v for k, v in s.items() if k not in ("members", "flown")} for n, s in r["signals"].items()}
        cells.append(cell | {"signals": signals, **{k: r[k] for k in ("updates", "episodes", "cpu_s")}})
    return header | {"cells": cells}


def main(argv: list[str] | None = None, bench: Any = Bench, judge: Any = Judge) -> int:
    from safeplan.errors import SafeplanError
    from safeplan.evaluation.fqe import FqeConfig
    from safeplan.evaluation.fqe_bias import horizon
    from safeplan.evaluation.study import provenance, read_study, run_study
    from safeplan.strict_json import write

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tasks", help="some of them, separated by commas")
    p.add_argument("--methods", help="some of them, separated by semicolons")
    p.add_argument("--seeds", type=int, default=1, help="how many trainings of each policy, from seed 0 on")
    p.add_argument("--updates", type=int, help="that every FISOR was trained for, as given to dsrl_table.py")
    p.add_argument("--gamma", type=float, default=0.99)
    p.add_argument("--fqe-updates", type=int, default=FQE["updates"])
    p.add_argument("--flights", type=int, default=60)
    p.add_argument("--episodes", type=int, default=200, help="of the log, drawn at random")
    p.add_argument("--data", type=Path, default=Path("runs/data/dsrl_like"))
    p.add_argument("--runs", type=Path, default=Path("runs/dsrl_table"))
    p.add_argument("--out", type=Path, default=Path("results"))
    a = p.parse_args(argv)
    suite = SUITES[SUITE]
    tasks, methods = a.tasks.split(",") if a.tasks else suite.tasks, a.methods.split(";") if a.methods else JUDGED
    for what, given, known in (("task", tasks, suite.tasks), ("method", methods, JUDGED)):
        if unknown := [g for g in given if g not in known]:
            p.error(f"unknown {what} {unknown[0]!r}: choose from {', '.join(known)}")
    suite, kept = replace(suite, updates=a.updates or suite.updates), a.out / "fqe_bias.study.jsonl"
    try:
        config = FqeConfig(**{**FQE, "gamma": a.gamma, "updates": a.fqe_updates})
        work = judge(bench(suite, a.data, a.runs / SUITE), config, a.flights, a.episodes)
        settings = {"suite": SUITE, "updates": suite.updates, "flights": a.flights, "episodes": a.episodes}
        settings |= {"left": LEFT, "steps": horizon(a.gamma, LEFT), "fqe": asdict(config)}
        plan = planned(work, list(suite.tasks), list(JUDGED), a.seeds)
        if kept.is_file():
            refuse_others(work, read_study(kept, KINDS)[1], kept)
        for seed in range(a.seeds):
            todo = [f"{t}/{m}" for t in tasks for m in methods]
            if todo := [name for name in todo if plan.get((name, seed), "lacking") == ""]:
                run_study(work, todo, [seed], kept, settings, kinds=KINDS)
        header, rows = {"settings": settings, "made_with": provenance()}, []
        if kept.is_file():
            header, rows = read_study(kept, KINDS)
        summary = summarise(header, rows, plan)
        write(a.out / "fqe_bias.json", summary)
    except SafeplanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    for c in summary["cells"]:
        said = "judged" if "signals" in c else f"not run ({c['why']})"
        print(f"{c['task']}/{c['method']}, seed {c['seed']}: {said}")
    print(f"results: {a.out / 'fqe_bias.json'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
