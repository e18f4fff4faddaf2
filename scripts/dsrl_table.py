"""All methods on simulated logs of DSRL's tasks, under one protocol; resumable job by job.

    make dsrl && python scripts/make_dsrl_like.py
    python scripts/dsrl_table.py --suite bullet              every job; killed, the same command goes on
    python scripts/dsrl_table.py --suite bullet              once more, for every further core: they share the jobs
    python scripts/dsrl_table.py --suite bullet --summary    no job: table and pictures of the rows that are there
    python scripts/dsrl_table.py --tasks BallCircle --methods 'FISOR;BC' --seeds 2

    python scripts/make_dsrl_like.py CarGoal1 PointGoal1     and $SAFEPLAN_DATA for the velocity log, then:
    python scripts/dsrl_table.py --suite safety              fewer methods, updates, episodes and seeds: see SUITES

A job trains one method on one log with one seed, or takes the FISOR that another job trained, and flies episodes at
each cost limit. Every FISOR makes the same number of updates; a rival gets the CPU time that those take here, measured
once per task and kept beside the runs. The main methods are flown at points on the way of their training too.

Writes to results/: dsrl_SUITE.study.jsonl (a line per job), dsrl_SUITE.json (the table, and which aims are reached),
dsrl_SUITE.png (cost against return) and dsrl_SUITE_curves.png. The logs are simulated and not DSRL's, so its
normalisation does not apply: returns are raw, and scaled by the extremes of the log itself. Costs are divided by the
limit. A cell without its jobs says "not run".
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

SMALL: dict[str, Any] = {"batch": 256, "actor_steps": 1, "actor_width": 128, "actor_decay_steps": 0}
KINDS = {"flights": dict, "updates": int, "cpu_seconds": dict, "how": dict}  # what a row must hold


@dataclass(frozen=True)
class Method:
    """How a row is made. `train`: settings of a FISOR of its own; `of`: the method whose FISOR it acts with."""

    train: dict[str, Any] | None = None
    official: bool = False
    of: str = ""
    rival: str = ""  # name in baselines.offline
    settings: dict[str, Any] = field(default_factory=dict)  # of the rival
    act: str = ""  # what is different about acting: minqc | guided | steered | one_step | calibrated
    candidates: int = 0  # actions drawn per state; 0: as many as the policy draws by itself
    margin: float = 0.0  # below 0 that Q_h must stay, for the choice among candidates and for the barrier
    every_limit: bool = False  # takes any limit without training again; a FISOR, up to the suite's largest

    @property
    def kind(self) -> str:
        """How pictures show it."""
        return "rival" if self.rival else "parity" if self.official else "limits" if self.every_limit else "ours"


PARITY = "FISOR official"
BEST = "FISOR, Q, barrier, margin"  # chosen with seeds 0 to 2, on other episodes than the table's
MARGIN = 0.8  # below 0 that Q_h must stay: of what may follow under 1 % is violating, where 0 allows 4 %
METHODS = {
    PARITY: Method(train={}, official=True),
    "FISOR": Method(train={}),
    "FISOR, minqc": Method(of="FISOR", act="minqc"),
    "FISOR, time-outs end": Method(train={"timeouts_bootstrap": False}),
    "FISOR, raw weights": Method(train={"normalize_weights": False}),
    "FISOR, squared loss": Method(train={"feasibility_loss": "squared"}),
    "FISOR, reward of all rows": Method(train={"reward_rows": "all"}),
    "FISOR, lead of 3": Method(train={"lead": 3}),
    "FISOR, no recovery": Method(train={"recovery": 0.0}),
    "FISOR, slow critics": Method(train={"target_rate": 0.005, "critic_lr": 0.0}),
    "FISOR, normalised": Method(train={"normalize": True}),
    "FISOR, budget": Method(train={}, every_limit=True),
    "FISOR, barrier on Q_h": Method(of="FISOR", act="guided"),
    "FISOR, Q and barrier": Method(of="FISOR", act="steered"),
    BEST: Method(of="FISOR", act="steered", margin=MARGIN),
    "FISOR, calibrated": Method(of="FISOR", act="calibrated"),
    "FISOR, best of 64": Method(of="FISOR", candidates=64),
    "FISOR, one step": Method(of="FISOR", act="one_step"),
    "FISOR, one step, best of 256": Method(of="FISOR, one step", candidates=256),
    "BC": Method(rival="bc"),
    "BC-Safe": Method(rival="bc_safe"),
    "BCQ-Lag": Method(rival="bcq_lag"),
    "CPQ": Method(rival="cpq"),
    "COptiDICE": Method(rival="coptidice"),
    "CDT": Method(rival="cdt", settings={"batch": 128}, every_limit=True),
    "TREBI-like": Method(rival="trebi", every_limit=True),
}
MAIN = (PARITY, "FISOR", "FISOR, one step", "FISOR, budget", BEST)  # the most seeds; curves where they train
SHORT = (*MAIN, "FISOR, lead of 3", "FISOR, barrier on Q_h", "FISOR, Q and barrier")
SHORT += ("FISOR, best of 64", "BC-Safe", "CPQ")
FEW = (*MAIN, "FISOR, normalised", "BC", "BC-Safe", "CPQ")


@dataclass(frozen=True)
class Suite:
    """What is run. `limits` on an episode's cost: that of FISOR's code first, which the table compares at, then DSRL's.

    `rows`: methods of the tasks that do not get all. `seeds`: of the main methods, and of the rest. `updates`: of every
    FISOR. `episodes`: flown at each limit. `points`: of learning curves. `sources`: logs that are not made by
    make_dsrl_like.py, by their name in `safeplan.data.catalog`. `chosen_with`: seeds that settings were chosen with.
    """

    tasks: tuple[str, ...]
    limits: tuple[float, ...]
    rows: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, int]
    updates: int
    episodes: int
    points: int
    sources: Mapping[str, str] = field(default_factory=dict)
    chosen_with: tuple[int, ...] = ()


SUITES = {
    "bullet": Suite(
        tasks=("BallCircle", "CarCircle", "BallRun", "CarRun"),
        limits=(10.0, 20.0, 40.0),
        rows={"BallRun": SHORT, "CarRun": SHORT},
        seeds=(5, 3),
        updates=10_000,
        episodes=20,
        points=4,
        chosen_with=(0, 1, 2),
    ),
    "safety": Suite(
        tasks=("HalfCheetahVelocity", "CarGoal1", "PointGoal1"),
        limits=(10.0, 20.0, 40.0, 80.0),
        rows=dict.fromkeys(("HalfCheetahVelocity", "CarGoal1", "PointGoal1"), FEW),
        seeds=(2, 2),
        updates=5_000,
        episodes=10,
        points=2,
        chosen_with=(0,),
        sources={"HalfCheetahVelocity": "velocity"},
    ),
}


class Trained(NamedTuple):
    """A policy, its updates, and how many of them this process made in how many CPU seconds."""

    policy: Any
    updates: int
    here: int
    seconds: float


class Bench:
    """Everything that jobs share: logs, runs, CPU budgets. One per process."""

    def __init__(self, suite: Suite, data: Path, runs: Path) -> None:
        self.suite, self.data, self.runs = suite, data, runs
        self._logs: dict[str, Any] = {}

    def log(self, task: str) -> Any:
        """The task's simulated log."""
        from safeplan.data import read_log
        from safeplan.data.catalog import load_log
        from safeplan.errors import DataError

        if task not in self._logs and task in self.suite.sources:
            self._logs[task] = load_log(self.suite.sources[task])
        if task not in self._logs:
            found = sorted(self.data.glob(f"{task}-like-*.hdf5"))
            if len(found) != 1:
                raise DataError(f"{self.data}: {len(found)} logs of {task}; make one: scripts/make_dsrl_like.py {task}")
            self._logs[task] = read_log(found[0])
        return self._logs[task]

    def folder(self, task: str, method: str, seed: int) -> Path:
        """Of the training behind a job."""
        return self.runs / task / method.replace(",", "").replace(" ", "_") / f"seed_{seed}"

    def claim(self, planner: str, seed: int) -> Path:
        """The lock of a job: methods that act with the same FISOR share it, so that nobody trains it twice."""
        task, _, method = planner.partition("/")
        while METHODS[method].of:
            method = METHODS[method].of
        return self.folder(task, method, seed) / ".claim"

    def learner(self, task: str, method: str, seed: int) -> tuple[Any, Any]:
        """Learner and source of a method that trains."""
        from safeplan.baselines import offline
        from safeplan.feasibility import FisorConfig, official
        from safeplan.training import fisor_from_log
        from safeplan.training.one_step import one_step_from_log

        m = METHODS[method]
        if m.rival:
            return offline.make(m.rival, self.log(task), self.suite.limits[0], seed=seed, **m.settings)
        if m.act == "one_step":
            return one_step_from_log(self.log(task), self.trained(task, m.of, seed).policy, seed=seed)
        budget = {"budget": max(self.suite.limits)} if m.every_limit else {}
        config = (official if m.official else FisorConfig)(**{**SMALL, **(m.train or {}), **budget})
        return fisor_from_log(self.log(task), config, seed=seed)

    def trained(self, task: str, method: str, seed: int) -> Trained:
        """The method's policy, trained as far as it must be. ConfigError: it is trained further already."""
        from safeplan.errors import ConfigError
        from safeplan.training import load, train
        from safeplan.training.checkpoint import latest

        folder = self.folder(task, method, seed)
        learner, source = self.learner(task, method, seed)
        count = self.count(task, method, learner, source)
        before, began = latest(folder), time.process_time()
        every, keep = -(-count // self.suite.points), self.suite.points if method in MAIN else 1
        last = train(learner, source, folder, updates=count, seed=seed, checkpoint_every=every, keep=keep)
        if int(last.name) > count:  # of a longer study: its row would say less than was trained
            raise ConfigError(f"{folder} has {int(last.name)} updates, and {count} are asked for; give another --runs")
        return Trained(load(folder), count, count - int(before.name if before else 0), time.process_time() - began)

    def count(self, task: str, method: str, learner: Any, source: Any) -> int:
        """Updates: given for FISORs; as many as take the same CPU time for the others, measured once and kept."""
        from safeplan.evaluation.shared_study import held
        from safeplan.strict_json import write

        if METHODS[method].train is not None:
            return self.suite.updates
        path = self.runs / task / "seconds_per_update.json"
        with held(path.with_suffix(".lock")):
            known = json.loads(path.read_text()) if path.is_file() else {}
            for name in ("FISOR", method):
                if name not in known:
                    pair = (learner, source) if name == method else self.learner(task, name, 0)
                    known[name] = seconds_per_update(*pair)
                    write(path, known)
        return max(1, round(self.suite.updates * known["FISOR"] / known[method]))

    def actor(self, task: str, method: str, policy: Any) -> Any:
        """The method's policy as an actor of rollouts."""
        from safeplan.evaluation.actors import FisorActor, Memoryless
        from safeplan.feasibility.one_step import OneStepPolicy
        from safeplan.guidance import Barrier, Energy

        m = METHODS[method]
        if m.rival:
            return policy
        if m.candidates:
            policy.config = replace(policy.config, candidates=m.candidates)
        if isinstance(policy, OneStepPolicy):
            return Memoryless(policy)
        if m.act == "calibrated":
            policy.threshold = threshold(policy, self.log(task))
        if m.margin:
            policy.threshold = -m.margin
        barrier = lambda c: Barrier(lambda a: -m.margin - c.q_h(a), metric="identity")  # noqa: E731
        ascent = lambda c: Energy(lambda a: -c.q(a), scale=0.05, metric="identity", proximal=False)  # noqa: E731
        chains = {"guided": lambda c: [barrier(c)], "steered": lambda c: [ascent(c), barrier(c)]}
        return FisorActor(policy, pick="minqc" if m.act == "minqc" else None, chain=chains.get(m.act, ()))

    def __call__(self, planner: str, seed: int) -> dict[str, Any]:
        """One job; `planner` is TASK/METHOD."""
        from safeplan.data.dsrl import TASKS
        from safeplan_envs import dsrl

        task, _, method = planner.partition("/")
        m, began = METHODS[method], time.process_time()
        own = not m.of or m.act == "one_step"
        t = self.trained(task, method if own else m.of, seed)
        envs = [dsrl.make(TASKS[task].id) for _ in range(self.suite.episodes)]
        try:
            curve = self.curve(envs, task, method, seed) if own and method in MAIN else []
            actor, limits = self.actor(task, method, t.policy), self.suite.limits
            flights = {
                f"{limit:g}": self.flown(envs, task, actor, limit, seed)
                for limit in (limits if m.every_limit else limits[:1])
            }
        finally:
            for env in envs:
                env.close()
        spent = {"updates": t.here if own else 0, "train": t.seconds if own else 0.0}
        spent["all"] = time.process_time() - began
        return {"how": how(method), "flights": flights, "updates": t.updates, "cpu_seconds": spent, "curve": curve}

    def curve(self, envs: list[Any], task: str, method: str, seed: int) -> list[dict[str, Any]]:
        """Flights with the checkpoints before the last."""
        from safeplan.training import load

        points = []
        for path in sorted((self.folder(task, method, seed) / "checkpoints").glob("[0-9]*"))[:-1]:
            actor = self.actor(task, method, load(path / "model.safetensors"))
            flight = self.flown(envs, task, actor, self.suite.limits[0], seed)
            points.append({"update": int(path.name), **flight})
        return points

    def flown(self, envs: list[Any], task: str, actor: Any, limit: float, seed: int) -> dict[str, list[float]]:
        """Returns and costs of the episodes that belong to the seed."""
        from safeplan.data.dsrl import TASKS
        from safeplan.evaluation.rollout import rollout
        from safeplan.rng import fold

        seed = fold(seed, "dsrl_table") % 2**31
        e = rollout(envs, actor, episodes=self.suite.episodes, limit=limit, seed=seed, max_steps=TASKS[task].steps)
        return {"returns": e.returns.tolist(), "costs": e.costs.tolist()}


def how(method: str) -> dict[str, Any]:
    """What makes a method's rows, as JSON: its entry in METHODS and that of the FISOR it acts with."""
    m = METHODS[method]
    return asdict(m) | ({"fisor": how(m.of)} if m.of else {})


def refuse_stale(path: Path, rows: list[dict[str, Any]]) -> None:
    """Raise DataError for rows of methods that are made in another way now."""
    from safeplan.errors import DataError

    stale = [f"{r['planner']}, seed {r['seed']}" for r in rows
             if (m := r["planner"].partition("/")[2]) not in METHODS or r["how"] != how(m)]  # fmt: skip
    if stale:
        raise DataError(
            f"study {path}: {len(stale)} rows are of methods that are made in another way now, the first is "
            f"{stale[0]}: delete these lines, and their folders under --runs, to run their jobs again"
        )


def seconds_per_update(learner: Any, source: Any, count: int = 20) -> float:
    """CPU seconds of an update, the first few left out; the learner is as it was afterwards."""
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
    found = np.float32(calibrate(policy.v_h(log.observations[soon]), alpha).threshold)
    return min(0.0, float(np.nextafter(found, np.float32(-np.inf))))  # what equals it is not below it


def planned(suite: Suite, tasks: list[str], methods: list[str], seeds: int | None) -> dict[str, list[int]]:
    """TASK/METHOD -> seeds, in the order of the table."""
    return {
        f"{task}/{method}": list(range(seeds or suite.seeds[method not in MAIN]))
        for task in tasks
        for method in methods or suite.rows.get(task, tuple(METHODS))
    }


def jobs(plan: Mapping[str, list[int]]) -> list[tuple[str, int]]:
    """Seed by seed, so that a study that is cut short has every cell, and methods paired."""
    return sorted(((name, s) for name, seeds in plan.items() for s in seeds), key=lambda job: job[1])


def count(text: str) -> int:
    """A whole number above 0, of the command line."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number above 0")
    return int(text)


def shown(summary: dict[str, Any]) -> str:
    """The main table as text, at FISOR's limit."""
    tasks = list(dict.fromkeys(name.partition("/")[0] for name in summary["planned"]))
    lines = [f"{'scaled return / cost over limit':34}" + "".join(f"{t:>20}" for t in tasks)]
    found = {f"{c['task']}/{c['method']}": c for c in summary["cells"] if c["limit"] == summary["limits"][0]}
    for method in METHODS:
        cells = []
        for name in (f"{t}/{method}" for t in tasks):
            c = found.get(name)
            text = f"{c['scaled']['estimate']:.2f} / {c['cost']['estimate']:.2f}" if c else "not run"
            cells.append(text if c or name in summary["planned"] else "-")
        if set(cells) != {"-"}:
            lines.append(f"{method:34}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def written(work: Bench, name: str, header: dict[str, Any], rows: list[Any], out: Path) -> dict[str, Any]:
    """Table and pictures of all rows, beside what the whole suite plans."""
    from safeplan.data.dsrl_process import totals
    from safeplan.evaluation.offline_plots import curves_figure, tradeoff_figure
    from safeplan.evaluation.offline_table import log_facts, summarise
    from safeplan.strict_json import write

    suite = work.suite
    plan = planned(suite, list(suite.tasks), [], None)
    for extra in sorted({r["planner"] for r in rows} - set(plan)):  # run beyond the plan
        plan |= planned(suite, [extra.partition("/")[0]], [extra.partition("/")[2]], None)
    episodes = {t: totals(work.log(t))[1:] for t in suite.tasks}
    logs = {t: log_facts(r, c, suite.limits, len(work.log(t))) for t, (r, c) in episodes.items()}
    ours = [n for n, m in METHODS.items() if m.kind in ("ours", "limits")]
    summary = summarise(header, rows, plan, logs, suite.limits, ours, PARITY, suite.chosen_with)
    tradeoff_figure(summary, episodes, {n: m.kind for n, m in METHODS.items()}, out / f"{name}.png")
    pictures = [f"{name}.png"]
    if summary["curves"]:
        curves_figure(summary, out / f"{name}_curves.png")
        pictures.append(f"{name}_curves.png")
    write(out / f"{name}.json", summary | {"pictures": pictures})
    return summary


def main(argv: list[str] | None = None, bench: Callable[..., Any] = Bench) -> int:
    from safeplan.errors import SafeplanError
    from safeplan.evaluation.shared_study import held, share_study
    from safeplan.evaluation.study import read_study
    from safeplan.feasibility import FisorConfig, official

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--suite", choices=sorted(SUITES), default="bullet")
    p.add_argument("--tasks", help="some of them, separated by commas")
    p.add_argument("--methods", help="some of them, separated by semicolons")
    p.add_argument("--seeds", type=count, help="as many for every method; default: the suite's, more for the main ones")
    p.add_argument("--updates", type=count, help="of every FISOR; default: the suite's")
    p.add_argument("--episodes", type=count, help="flown at each limit; default: the suite's")
    p.add_argument("--data", type=Path, default=Path("runs/data/dsrl_like"))
    p.add_argument("--runs", type=Path, default=Path("runs/dsrl_table"))
    p.add_argument("--out", type=Path, default=Path("results"))
    p.add_argument("--summary", action="store_true", help="run no job; write table and pictures of the rows there are")
    a = p.parse_args(argv)
    suite = SUITES[a.suite]
    tasks = a.tasks.split(",") if a.tasks else list(suite.tasks)
    methods = a.methods.split(";") if a.methods else []
    for what, given, known in (("task", tasks, suite.tasks), ("method", methods, METHODS)):
        if unknown := [g for g in given if g not in known]:
            p.error(f"unknown {what} {unknown[0]!r}: choose from {', '.join(known)}")
    name = f"dsrl_{a.suite}"
    suite = replace(suite, updates=a.updates or suite.updates, episodes=a.episodes or suite.episodes)
    kept = a.out / f"{name}.study.jsonl"
    try:
        work = bench(suite, a.data, a.runs / a.suite)
        settings = {"suite": a.suite, "updates": suite.updates, "episodes": suite.episodes}
        settings |= {"limits": list(suite.limits)}
        settings |= {"fisor": asdict(FisorConfig(**SMALL)), "official": asdict(official(**SMALL))}
        settings |= {"logs": {t: work.log(t).digest() for t in suite.tasks}}
        if a.summary or (kept.is_file() and b"\n" in kept.read_bytes()):
            header, rows = read_study(kept, KINDS)
            refuse_stale(kept, rows)
        if not a.summary:
            todo = jobs(planned(suite, tasks, methods, a.seeds))
            tell = lambda text: print(time.strftime("%H:%M:%S"), text, flush=True)  # noqa: E731
            header, rows = share_study(work, todo, kept, settings, work.claim, kinds=KINDS, tell=tell)
        with held(a.runs / a.suite / ".table"):
            summary = written(work, name, header, rows, a.out)
    except SafeplanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    print(shown(summary))
    print(f"results: {a.out / f'{name}.json'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
