"""Have the rivals of dsrl_table.py learned what their kind can? Each is flown without a limit; resumable.

    python scripts/dsrl_table.py --suite bullet              flies the clones, and trains those that take any limit
    python scripts/rival_gates.py --suite bullet             trains the others once more, without a limit: half an hour
    python scripts/rival_gates.py --tasks BallCircle --methods 'BC;CPQ'
    python scripts/rival_gates.py --summary                  no job: the table of the rows that are there
    python scripts/rival_gates.py --suite safety             the same for that suite

BC must come within a tenth of the log's spread of returns of the mean of the log, BC-Safe of that of the episodes that
it was shown; any other rival must reach nine tenths of the way from the log's worst return to the mean of its best
tenth. Updates, seeds and log are those of the table: what fails here is weak on this log within its CPU time, which
the comparison should be read with. A clone knows no limit: its flights are those of the table, with all seeds of it;
of the others one seed is flown unless `--seeds` says more. Writes rival_gates_SUITE.study.jsonl (a line per job) and
rival_gates_SUITE.json to results/.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from dsrl_bench import Bench
from dsrl_methods import METHODS, SUITES, how, planned
from dsrl_rows import count, current, kept, some, trained_so_far

KINDS = {"gate": dict, "updates": int, "log": str, "how": dict}  # what a row must hold
ROWS = {"updates": int, "how": dict, "flights": dict}  # what a row of the table must hold here


class Gates:
    """One job: a rival trained and flown without a limit, and what `gate` says.

    `bench`: that of the table. `known`: updates of the table's trainings, which these make too. `flown`: its rows.
    """

    def __init__(
        self,
        bench: Bench,
        known: Mapping[str, int] = MappingProxyType({}),
        flown: Mapping[tuple[str, int], dict[str, Any]] = MappingProxyType({}),
    ) -> None:
        self.bench, self.flown = bench, flown
        self.free = Free(replace(bench.suite, limits=(math.inf,)), bench.data, bench.runs)
        self.bench.known = self.free.known = known

    def __call__(self, planner: str, seed: int) -> dict[str, Any]:
        from safeplan.baselines.offline.gate import CLONES, gate
        from safeplan.data.dsrl import TASKS
        from safeplan_envs import dsrl

        task, _, method = planner.partition("/")
        rival = METHODS[method].rival
        bench = self.bench if rival == "bc_safe" else self.free
        limit, log = bench.suite.limits[0], bench.log(task)
        row = self.flown.get((planner, seed)) if rival in CLONES else None
        if row:
            flight, updates = row["flights"][f"{self.bench.suite.limits[0]:g}"], row["updates"]
        else:
            t = bench.trained(task, method, seed)
            updates = t.updates
            envs = [dsrl.make(TASKS[task].id) for _ in range(bench.suite.episodes)]
            try:
                flight = bench.flown(envs, task, t.policy, limit, seed)
            finally:
                for env in envs:
                    env.close()
        g = gate(rival, log, np.array(flight["returns"]), limit=limit)
        needed = [v if math.isfinite(v) else None for v in g.needed]
        found = {"passed": g.passed, "reached": g.reached, "needed": needed, "reference": g.reference}
        return {"gate": found, "updates": updates, "log": log.digest(), "flight": flight, "how": how(method)}


class Free(Bench):
    """The table's bench without a limit: rivals that are trained for one are trained again, in folders of their own."""

    def folder(self, task: str, method: str, seed: int) -> Path:
        from importlib import import_module

        from safeplan.baselines.offline import TABLE

        found = super().folder(task, method, seed)
        module, cls = TABLE[METHODS[method].rival]
        limited = getattr(import_module(module), cls).limited
        return found.with_name(f"{found.name}_without_limit") if limited else found


def of_the_table(bench: Bench, path: Path, tasks: list[str]) -> tuple[dict[str, int], dict[tuple[str, int], Any]]:
    """Updates of the table's trainings, and its rows by job, as far as suite and logs are those of `bench`."""
    from safeplan.evaluation.study import read_study

    if not path.is_file():
        return {}, {}
    header, rows = read_study(path, ROWS)
    made, suite = header["settings"], bench.suite
    if made.get("updates") != suite.updates:
        return {}, {}
    logs = made.get("logs", {}) if made.get("episodes") == suite.episodes else {}
    same = {t for t in tasks if logs.get(t) == bench.log(t).digest()}
    flown = {(r["planner"], r["seed"]): r for r in rows if current(r) and r["planner"].partition("/")[0] in same}
    return trained_so_far(rows), flown


def summarise(header: dict[str, Any], rows: list[dict[str, Any]], planned: list[str]) -> dict[str, Any]:
    """Rows of the table, in its order."""
    shown = []
    for name in planned:
        task, _, method = name.partition("/")
        found = sorted((r for r in rows if r["planner"] == name), key=lambda r: r["seed"])
        if not found:
            blank = dict.fromkeys(("return", "needed", "seed", "updates"), "-")
            shown.append({"task": task, "rival": method, "passed": None} | blank)
        for r in found:
            g = r["gate"]
            low, high = g["needed"]
            between = f"{low:.0f} to {high:.0f}" if high is not None else f"at least {low:.0f}"
            row = {"task": task, "rival": method, "passed": g["passed"]}
            row |= {"return": f"{g['reached']:.0f}", "needed": between, "seed": r["seed"], "updates": r["updates"]}
            shown.append(row)
    passed = sum(r["gate"]["passed"] for r in rows)
    note = f"{passed} of {len(rows)} passed. {header['settings']['episodes']} episodes each, simulated logs."
    return {**header, "rows": shown, "note": note}


def main(argv: list[str] | None = None) -> int:
    from safeplan.baselines.offline.gate import CLONES
    from safeplan.errors import SafeplanError
    from safeplan.evaluation.shared_study import held, share_study
    from safeplan.strict_json import write

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--suite", choices=sorted(SUITES), default="bullet")
    p.add_argument("--tasks", help="some of them, separated by commas")
    p.add_argument("--methods", help="some of them, separated by semicolons")
    p.add_argument(
        "--updates", type=count, help="of every FISOR of the table, which rivals' follow; default: the suite's"
    )
    p.add_argument("--seeds", type=count, help="as many for every rival; default: clones the table's, others one")
    p.add_argument("--episodes", type=count, help="flown; default: the suite's")
    p.add_argument("--data", type=Path, default=Path("runs/data/dsrl_like"))
    p.add_argument("--runs", type=Path, default=Path("runs/dsrl_table"))
    p.add_argument("--out", type=Path, default=Path("results"))
    p.add_argument("--summary", action="store_true", help="run no job")
    a = p.parse_args(argv)
    suite = SUITES[a.suite]
    suite = replace(suite, updates=a.updates or suite.updates, episodes=a.episodes or suite.episodes)
    rivals = [n for n, m in METHODS.items() if m.rival and m.trains]
    plan = {n: s for n, s in planned(suite, list(suite.tasks), [], None).items() if n.partition("/")[2] in rivals}
    tasks = some(p, "task", a.tasks, ",", suite.tasks) or list(suite.tasks)
    methods = some(p, "rival", a.methods, ";", rivals) or rivals
    todo = []
    for name, seeds in plan.items():
        task, _, method = name.partition("/")
        usual = len(seeds) if METHODS[method].rival in CLONES else 1
        if task in tasks and method in methods:
            todo += [(name, seed) for seed in range(a.seeds or usual)]
    if not todo:
        p.error(f"no rival {methods} is planned for {tasks}: choose from {', '.join(plan)}")
    path = a.out / f"rival_gates_{a.suite}.study.jsonl"
    try:
        header, rows = kept(path, KINDS, begun=a.summary)
        if not a.summary:
            bench = Bench(suite, a.data, a.runs / a.suite)
            work = Gates(bench, *of_the_table(bench, a.out / f"dsrl_{a.suite}.study.jsonl", tasks))
            settings = {"suite": a.suite, "updates": suite.updates, "episodes": suite.episodes}
            tell = lambda text: print(time.strftime("%H:%M:%S"), text, flush=True)  # noqa: E731
            header, rows = share_study(work, todo, path, settings, work.free.claim, kinds=KINDS, tell=tell)
        with held(a.runs / a.suite / ".gates"):
            summary = summarise(header, rows, list(plan))
            write(a.out / f"rival_gates_{a.suite}.json", summary)
    except SafeplanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    for row in summary["rows"]:
        found = {True: "passed", False: "failed", None: "not run"}[row["passed"]]
        reached = "" if row["passed"] is None else f", {row['return']}, needed {row['needed']}"
        print(f"{row['task']}/{row['rival']}, seed {row['seed']}: {found}{reached}")
    print(f"results: {a.out / f'rival_gates_{a.suite}.json'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
