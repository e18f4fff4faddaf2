"""All methods on simulated logs of DSRL's tasks, under one protocol; resumable job by job.

    make dsrl && python scripts/make_dsrl_like.py
    python scripts/dsrl_table.py --suite bullet              every job; killed, the same command goes on
    python scripts/dsrl_table.py --suite bullet              once more, for every further core: they share the jobs
    python scripts/dsrl_table.py --suite bullet --summary    no job: table and pictures of the rows that are there
    python scripts/dsrl_table.py --tasks BallCircle --methods 'FISOR;BC' --seeds 2

    python scripts/make_dsrl_like.py CarGoal1 PointGoal1     and $SAFEPLAN_DATA for the velocity log, then:
    python scripts/dsrl_table.py --suite safety              fewer methods, updates, episodes and seeds

The methods and the suites are in dsrl_methods.py.

A job trains one method on one log with one seed, or takes the FISOR that another job trained, and flies episodes at
each cost limit. Every FISOR makes the same number of updates; a rival gets the CPU time that those take here, measured
once per task and kept beside the runs, and sizes chosen for it. The main methods are flown at points on the way of
their training too.

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
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from dsrl_bench import Bench
from dsrl_methods import METHODS, PARITY, SMALL, SUITES, jobs, planned
from dsrl_rows import count, kept, some, trained_so_far

KINDS = {"flights": dict, "updates": int, "cpu_seconds": dict, "how": dict}  # what a row must hold


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
    chosen = {n: suite.chosen(n) for n in plan}
    summary = summarise(header, rows, plan, logs, suite.limits, ours, PARITY, chosen)
    tradeoff_figure(summary, episodes, {n: m.kind for n, m in METHODS.items()}, out / f"{name}.png")
    pictures = [f"{name}.png"]
    if summary["curves"]:
        curves_figure(summary, out / f"{name}_curves.png")
        pictures.append(f"{name}_curves.png")
    summary |= {"pictures": pictures, "rivals": [n for n, m in METHODS.items() if m.rival]}
    summary["students"] = {n: m.of for n, m in METHODS.items() if m.act == "one_step"}
    summary["gates"] = verdicts(out / f"rival_gates_{name.removeprefix('dsrl_')}.json", plan)
    write(out / f"{name}.json", summary)
    return summary


def verdicts(path: Path, plan: Iterable[str]) -> dict[str, tuple[int, int]]:
    """TASK/METHOD of every rival -> seeds with which it learns the log without a limit, of how many that
    rival_gates.py flew; what acts with another's training has its gate."""
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    found = {}
    for name in plan:
        task, _, method = name.partition("/")
        if METHODS[method].rival:
            trained = (task, METHODS[method].of or method)
            flown = [r["passed"] for r in rows if (r["task"], r["rival"]) == trained and r["passed"] is not None]
            found[name] = (sum(flown), len(flown))
    return found


def main(argv: list[str] | None = None, bench: Callable[..., Any] = Bench) -> int:
    from safeplan.build.tasks import device
    from safeplan.errors import SafeplanError
    from safeplan.evaluation.offline_notes import aims_lines, sizes
    from safeplan.evaluation.shared_study import held, share_study
    from safeplan.feasibility import FisorConfig, official
    from safeplan.feasibility.config import stored

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
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="that networks train and act on")
    p.add_argument("--summary", action="store_true", help="run no job; write table and pictures of the rows there are")
    a = p.parse_args(argv)
    suite = SUITES[a.suite]
    tasks = some(p, "task", a.tasks, ",", suite.tasks) or list(suite.tasks)
    methods = some(p, "method", a.methods, ";", METHODS)
    name = f"dsrl_{a.suite}"
    suite = replace(suite, updates=a.updates or suite.updates, episodes=a.episodes or suite.episodes)
    path = a.out / f"{name}.study.jsonl"
    try:
        device(a.device)
        work = bench(suite, a.data, a.runs / a.suite, a.device)
        settings = {"suite": a.suite, "updates": suite.updates, "episodes": suite.episodes}
        settings |= {"limits": list(suite.limits)}
        settings |= {"fisor": stored(FisorConfig(**SMALL)), "official": stored(official(**SMALL))}
        settings |= {"logs": {t: work.log(t).digest() for t in suite.tasks}}
        header, rows = kept(path, KINDS, begun=a.summary)
        work.known = trained_so_far(rows)
        if not a.summary:
            todo = jobs(planned(suite, tasks, methods, a.seeds))
            tell = lambda text: print(time.strftime("%H:%M:%S"), text, flush=True)  # noqa: E731
            header, rows = share_study(work, todo, path, settings, work.claim, kinds=KINDS, device=a.device, tell=tell)
        with held(a.runs / a.suite / ".table"):
            summary = written(work, name, header, rows, a.out)
    except SafeplanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    print(shown(summary), sizes(summary["settings"]), aims_lines(summary["aims"]), sep="\n\n")
    print(f"results: {a.out / f'{name}.json'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
