"""All methods on the bullet tasks' simulated logs, under one protocol; resumable job by job.

    make dsrl && python scripts/make_dsrl_like.py
    python scripts/dsrl_table.py --suite bullet                       every job; the same command goes on
    python scripts/dsrl_table.py --tasks BallCircle --methods fisor,bc --seeds 2

A job trains one method on one log with one seed, or takes the FISOR that another job trained, and flies 20 episodes at
each cost limit. Every FISOR makes the same number of updates; a rival gets the CPU time that those take here, measured
once per task and kept beside the rows. Rows: results/dsrl_bullet.study.jsonl; table: results/dsrl_bullet.json.

The logs are simulated and not DSRL's, so its normalisation does not apply: returns are raw, and scaled by the extremes
of the log itself. Costs are divided by the limit. A cell without its jobs says "not run".
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

TASKS = {"bullet": ("BallCircle", "CarCircle", "BallRun", "CarRun")}
LIMITS = (10.0, 20.0, 40.0)  # of DSRL's protocol for bullet; the first is FISOR's own
EPISODES, UPDATES = 20, 10_000
SMALL = {"batch": 256, "actor_steps": 1, "actor_width": 128, "actor_decay_steps": 0}


@dataclass(frozen=True)
class Method:
    """How a row is made. `train`: settings of a FISOR of its own; `of`: the method whose FISOR it acts with."""

    train: dict[str, Any] | None = None
    official: bool = False
    of: str = ""
    rival: str = ""  # name in baselines.offline
    settings: dict[str, Any] = field(default_factory=dict)  # of the rival
    act: str = ""  # what is different about acting: minqc | guided | one_step | calibrated
    every_limit: bool = False  # takes any limit without training again


METHODS = {
    "FISOR official": Method(train={}, official=True),
    "FISOR": Method(train={}),
    "FISOR, minqc": Method(of="FISOR", act="minqc"),
    "FISOR, time-outs end": Method(train={"timeouts_bootstrap": False}),
    "FISOR, raw weights": Method(train={"normalize_weights": False}),
    "FISOR, even labels": Method(train={"violating": 1.0}),
    "FISOR, budget": Method(train={"violating": 1.0, "budget": LIMITS[-1]}, every_limit=True),
    "FISOR, barrier on Q_h": Method(of="FISOR", act="guided"),
    "FISOR, calibrated": Method(of="FISOR", act="calibrated"),
    "FISOR, one step": Method(of="FISOR", act="one_step"),
    "BC": Method(rival="bc"),
    "BC-Safe": Method(rival="bc_safe"),
    "BCQ-Lag": Method(rival="bcq_lag"),
    "CPQ": Method(rival="cpq"),
    "COptiDICE": Method(rival="coptidice"),
    "CDT": Method(rival="cdt", settings={"batch": 128}, every_limit=True),
    "TREBI-like": Method(rival="trebi", every_limit=True),
}
MAIN = ("FISOR official", "FISOR", "FISOR, budget")  # five seeds, the others three
SHORT = (*MAIN, "FISOR, even labels", "FISOR, one step", "BC-Safe", "CPQ")  # on the Run tasks
DEFAULT_ROWS = {"BallRun": SHORT, "CarRun": SHORT}


def seeds_of(method: str, wanted: int | None) -> list[int]:
    """Five seeds for the main methods and three for the rest, or as many as asked for."""
    return list(range(wanted or (5 if method in MAIN else 3)))


class Bench:
    """Everything that jobs share: log, runs, CPU budgets. One per process."""

    def __init__(self, data: Path, runs: Path, updates: int, episodes: int) -> None:
        self.data, self.runs, self.updates, self.episodes = data, runs, updates, episodes
        self._logs: dict[str, Any] = {}

    def log(self, task: str) -> Any:
        """The task's simulated log."""
        from safeplan.data import read_log
        from safeplan.errors import DataError

        if task not in self._logs:
            found = sorted(self.data.glob(f"{task}-like-*.hdf5"))
            if len(found) != 1:
                raise DataError(f"{self.data}: {len(found)} logs of {task}; make one: scripts/make_dsrl_like.py {task}")
            self._logs[task] = read_log(found[0])
        return self._logs[task]

    def learner(self, task: str, method: str, seed: int) -> tuple[Any, Any]:
        """Learner and source of a method that trains."""
        from safeplan.baselines import offline
        from safeplan.feasibility import FisorConfig, official
        from safeplan.training import fisor_from_log
        from safeplan.training.one_step import one_step_from_log

        m = METHODS[method]
        if m.rival:
            return offline.make(m.rival, self.log(task), LIMITS[0], seed=seed, **m.settings)
        if m.act == "one_step":
            return one_step_from_log(self.log(task), self.trained(task, m.of, seed), seed=seed)
        config = (official if m.official else FisorConfig)(**{**SMALL, **(m.train or {})})
        return fisor_from_log(self.log(task), config, seed=seed)

    def trained(self, task: str, method: str, seed: int) -> Any:
        """The method's policy, trained as far as it must be."""
        from safeplan.training import load, train

        folder = self.runs / task / method.replace(",", "").replace(" ", "_") / f"seed_{seed}"
        learner, source = self.learner(task, method, seed)
        count = self.count(task, method, learner, source)
        train(learner, source, folder, updates=count, seed=seed, checkpoint_every=max(count // 4, 1), keep=1)
        return load(folder)

    def count(self, task: str, method: str, learner: Any, source: Any) -> int:
        """Updates: given for FISORs; as many as take the same CPU time for the others, measured once and kept."""
        from safeplan.strict_json import write

        if METHODS[method].train is not None:
            return self.updates
        path = self.runs / task / "seconds_per_update.json"
        known = json.loads(path.read_text()) if path.is_file() else {}
        for name in ("FISOR", method):
            if name not in known:
                pair = (learner, source) if name == method else self.learner(task, name, 0)
                known[name] = seconds_per_update(*pair)
                write(path, known)
        return max(1, round(self.updates * known["FISOR"] / known[method]))

    def actor(self, task: str, method: str, seed: int) -> Any:
        """The method's policy as an actor of rollouts."""
        from safeplan.evaluation.actors import FisorActor, Memoryless
        from safeplan.guidance import Barrier

        m = METHODS[method]
        if m.rival:
            return self.trained(task, method, seed)
        if m.act == "one_step":
            return Memoryless(self.trained(task, method, seed))
        policy = self.trained(task, m.of or method, seed)
        if m.act == "calibrated":
            policy.threshold = threshold(policy, self.log(task))
        chain = (lambda c: [Barrier(lambda a: -c.q_h(a), metric="identity")]) if m.act == "guided" else ()
        return FisorActor(policy, pick="minqc" if m.act == "minqc" else None, chain=chain)

    def __call__(self, planner: str, seed: int) -> dict[str, Any]:
        """One job; `planner` is TASK/METHOD."""
        from safeplan.data.dsrl import TASKS as FACTS
        from safeplan.evaluation.rollout import rollout
        from safeplan.rng import fold
        from safeplan_envs import dsrl

        task, _, method = planner.partition("/")
        began = time.process_time()
        actor = self.actor(task, method, seed)
        trained = time.process_time() - began
        envs = [dsrl.make(FACTS[task].id) for _ in range(self.episodes)]
        flights = {}
        try:
            for limit in LIMITS if METHODS[method].every_limit else LIMITS[:1]:
                e = rollout(envs, actor, episodes=self.episodes, limit=limit, seed=fold(seed, "dsrl_table") % 2**31,
                            max_steps=FACTS[task].steps)  # fmt: skip
                flights[f"{limit:g}"] = {"returns": e.returns.tolist(), "costs": e.costs.tolist()}
        finally:
            for env in envs:
                env.close()
        return {"flights": flights, "cpu_seconds": {"train": trained, "all": time.process_time() - began}}


def seconds_per_update(learner: Any, source: Any, count: int = 20) -> float:
    """CPU seconds of an update, the first few left out; the learner is not used afterwards."""
    import copy

    from safeplan.rng import torch_rng

    state = copy.deepcopy(learner.state_dict())
    for i in range(3):
        learner.update(source.batch(i, 0), torch_rng(0, "measure", i))
    began = time.process_time()
    for i in range(count):
        learner.update(source.batch(i, 0), torch_rng(0, "measure", i))
    spent = (time.process_time() - began) / count
    learner.load_state_dict(state)
    return spent


def threshold(policy: Any, log: Any, alpha: float = 0.1) -> float:
    """Conformal threshold from states after which the log's own driver violated within the second that followed.

    Nobody knows which states of a log are truly lost; these stand in for them.
    """
    from safeplan.feasibility import calibrate

    soon = np.zeros(len(log), bool)
    for a, b in log.episodes:
        for row in np.flatnonzero(log.costs[a:b] > 0):
            soon[a + max(0, row - 5) : a + row + 1] = True
    return min(0.0, calibrate(policy.v_h(log.observations[soon]), alpha).threshold)


def jobs(tasks: list[str], methods: list[str], seeds: int | None) -> list[tuple[str, list[int]]]:
    """(TASK/METHOD, seeds) in the order in which the table fills."""
    return [
        (f"{task}/{method}", seeds_of(method, seeds))
        for task in tasks
        for method in methods or DEFAULT_ROWS.get(task, tuple(METHODS))
    ]


def summarise(header: dict[str, Any], rows: list[dict[str, Any]], extremes: dict[str, tuple[float, float]]) -> dict:
    """What the table shows: per task, method and limit means over seeds with bootstrap intervals; per method all tasks.

    extremes: task -> least and largest episode return of its log.
    """
    from safeplan.evaluation.stats import clopper_pearson, iqm, stratified_bootstrap

    cells: list[dict[str, Any]] = []
    for planner in dict.fromkeys(r["planner"] for r in rows):
        task, _, method = planner.partition("/")
        mine = [r for r in rows if r["planner"] == planner]
        low, high = extremes[task]
        for limit in mine[0]["flights"]:
            returns = np.array([np.mean(r["flights"][limit]["returns"]) for r in mine])
            costs = np.array([np.mean(r["flights"][limit]["costs"]) for r in mine])
            over = [c > float(limit) for r in mine for c in r["flights"][limit]["costs"]]
            interval = partial(stratified_bootstrap, statistic=lambda x: float(np.mean(x)))
            cells.append(
                {
                    "task": task, "method": method, "limit": float(limit), "seeds": len(mine),
                    "return": interval(returns[:, None])._asdict(),
                    "scaled": interval((returns[:, None] - low) / (high - low))._asdict(),
                    "cost": interval(costs[:, None] / float(limit))._asdict(),
                    "worst_seed": float(costs.max() / float(limit)),
                    "violations": clopper_pearson(sum(over), len(over))._asdict(),
                    "by_seed": {"scaled": ((returns - low) / (high - low)).tolist(),
                                "cost": (costs / float(limit)).tolist()},
                    "cpu_seconds": float(np.mean([r["cpu_seconds"]["train"] for r in mine])),
                }
            )  # fmt: skip
    overall = []
    for method in dict.fromkeys(c["method"] for c in cells):
        mine = [c for c in cells if c["method"] == method and c["limit"] == LIMITS[0]]
        runs = min(c["seeds"] for c in mine)
        scaled = np.array([c["by_seed"]["scaled"][:runs] for c in mine]).T
        overall.append(
            {
                "method": method,
                "tasks": [c["task"] for c in mine],
                "scaled_iqm": stratified_bootstrap(scaled, statistic=iqm)._asdict(),
                "safe_runs": int(sum(v <= 1 for c in mine for v in c["by_seed"]["cost"])),
                "runs": int(sum(c["seeds"] for c in mine)),
            }
        )
    return {**header, "limits": LIMITS, "extremes": extremes, "cells": cells, "overall": overall}


def shown(summary: dict[str, Any]) -> str:
    """The main table as text, at FISOR's limit."""
    tasks = list(dict.fromkeys(c["task"] for c in summary["cells"]))
    lines = [f"{'scaled return / cost over limit':34}" + "".join(f"{t:>18}" for t in tasks)]
    found = {(c["task"], c["method"]): c for c in summary["cells"] if c["limit"] == LIMITS[0]}
    for method in METHODS:
        if not any(m == method for _, m in found):
            continue
        cell = lambda c: f"{c['scaled']['estimate']:.2f} / {c['cost']['estimate']:.2f}" if c else "not run"  # noqa: E731
        lines.append(f"{method:34}" + "".join(f"{cell(found.get((t, method))):>18}" for t in tasks))
    return "\n".join(lines)


def main(argv: list[str] | None = None, bench: Callable[..., Any] = Bench) -> int:
    from safeplan.data.dsrl_process import totals
    from safeplan.errors import SafeplanError
    from safeplan.evaluation.study import read_study, run_study
    from safeplan.strict_json import write

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--suite", choices=sorted(TASKS), default="bullet")
    p.add_argument("--tasks", help="some of them, separated by commas")
    p.add_argument("--methods", help="some of them, separated by semicolons")
    p.add_argument("--seeds", type=int, help="as many for every method; default: 5 for the main ones, 3 for the rest")
    p.add_argument("--updates", type=int, default=UPDATES, help="of every FISOR; default %(default)s")
    p.add_argument("--episodes", type=int, default=EPISODES, help="flown at each limit; default %(default)s")
    p.add_argument("--data", type=Path, default=Path("runs/data/dsrl_like"))
    p.add_argument("--runs", type=Path, default=Path("runs/dsrl_table"))
    p.add_argument("--out", type=Path, default=Path("results"))
    p.add_argument("--processes", type=int, default=1)
    a = p.parse_args(argv)
    tasks = a.tasks.split(",") if a.tasks else list(TASKS[a.suite])
    methods = a.methods.split(";") if a.methods else []
    for what, given, known in (("task", tasks, TASKS[a.suite]), ("method", methods, METHODS)):
        if unknown := [g for g in given if g not in known]:
            p.error(f"unknown {what} {unknown[0]!r}: choose from {', '.join(known)}")
    try:
        work = bench(a.data, a.runs, a.updates, a.episodes)
        logs = {t: work.log(t) for t in tasks}
        kept = a.out / f"dsrl_{a.suite}.study.jsonl"
        settings = {"suite": a.suite, "updates": a.updates, "episodes": a.episodes, "limits": list(LIMITS)}
        settings["logs"] = {t: work.log(t).digest() for t in TASKS[a.suite]}
        for planner, seeds in jobs(tasks, methods, a.seeds):
            print(planner, flush=True)
            run_study(work, [planner], seeds, kept, settings, processes=a.processes, kinds={"flights": dict})
        header, rows = read_study(kept, {"flights": dict})
        extremes = {}
        for t in dict.fromkeys(r["planner"].partition("/")[0] for r in rows):
            _, returns, _ = totals(logs.get(t) or work.log(t))
            extremes[t] = (float(returns.min()), float(returns.max()))
        summary = summarise(header, rows, extremes)
        write(a.out / f"dsrl_{a.suite}.json", summary)
    except SafeplanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    print(shown(summary))
    print(f"results: {a.out / f'dsrl_{a.suite}.json'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
