"""Make logs like DSRL's where DSRL's cannot be had: scripted drivers in its simulators, thinned as it thins.

    make dsrl
    python scripts/make_dsrl_like.py BallCircle CarCircle BallRun CarRun      bullet
    python scripts/make_dsrl_like.py CarGoal1 PointGoal1                      Safety-Gymnasium

Simulated data, and not DSRL's: no network learned here, so the best drivers are worse than DSRL's. Drivers of the Goal
tasks improve in rounds: the first draws styles evenly, each further one around the best so far (cross-entropy method),
a quarter for each of four weights of cost against return, and all episodes are kept, as DSRL keeps those of a training
whose limit is swept. Episode i depends on the seed, i and the rounds before it; a stopped run continues. Of the
episodes within the task's cap on costs at most a few are kept in each cell of a grid over cost and return (CELLS).
Compares the log's hash with scripts/data/dsrl_like.json (--record writes it there): the same numbers need the same
processor and versions; another hash is said, and the log is kept.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads spin otherwise

import numpy as np

HASHES = Path(__file__).parent / "data" / "dsrl_like.json"
EPISODES = {"BallCircle": 2000, "BallRun": 3000, "CarCircle": 2000, "CarRun": 3000, "CarGoal1": 200, "PointGoal1": 200}
ROUNDS = {"CarGoal1": 4, "PointGoal1": 4}
CELLS = {"cost_bins": 60, "return_bins": 50, "most": 3, "least": 0}
VERSION = 1  # of the drivers: raise it when they change
Driver = Callable[[Any], Any]  # observation -> action


def demonstrator(task_name: str, seed: int, i: int) -> Driver:
    """Who drives episode i of a bullet task."""
    from safeplan.data.dsrl import TASKS
    from safeplan.rng import numpy_rng
    from safeplan_envs.dsrl.demonstrators import Demonstrator

    return Demonstrator(task_name, TASKS[task_name].steps, numpy_rng(seed, "demonstrator", task_name, i))


def seeker(task_name: str, seed: int, styles: Any, i: int) -> Driver:
    """Who drives episode i of a Goal task."""
    from safeplan.rng import numpy_rng
    from safeplan_envs.dsrl.goal_seekers import Seeker

    return Seeker(task_name, styles[i], numpy_rng(seed, "seeker", task_name, i))


def roll(task_name: str, seed: int, driver: Callable[[int], Driver], offset: int, first: int, last: int):
    """The log of episodes `offset + first` to `offset + last - 1`."""
    from safeplan.data import Log
    from safeplan.data.dsrl import TASKS
    from safeplan.data.hdf5 import KEYS
    from safeplan.rng import fold
    from safeplan_envs import dsrl

    env = dsrl.make(TASKS[task_name].id)
    rows: list[tuple] = []
    for i in range(offset + first, offset + last):
        obs, _ = env.reset(seed=fold(seed, "dsrl_like", task_name, i) % 2**31)
        drive, done = driver(i), False
        while not done:
            action = drive(obs)
            after, reward, terminal, timeout, info = env.step(action)
            rows.append((obs, after, action, reward, info["cost"], terminal, timeout))
            obs, done = after, terminal or timeout
    env.close()
    return Log(**{k: np.array(v) for k, v in zip(KEYS, zip(*rows, strict=True), strict=True)}, extra={}, attrs={})


def improved(task_name: str, seed: int, episodes: int, parts: Path, processes: int):
    """The log of all rounds; a round's pieces are kept in a folder of its own."""
    from safeplan.data.dsrl_process import totals
    from safeplan.data.hdf5 import concatenate
    from safeplan.data.shards import in_shards
    from safeplan.errors import ConfigError
    from safeplan.rng import numpy_rng
    from safeplan_envs.dsrl.goal_seekers import STYLE, better_styles

    rounds, styles, logs = ROUNDS[task_name], np.zeros((0, len(STYLE))), []
    if episodes < 2 * rounds:
        raise ConfigError(f"--episodes {episodes}: {task_name} is made in {rounds} rounds; give {2 * rounds} or more")
    for k in range(rounds):
        first, last = episodes * k // rounds, episodes * (k + 1) // rounds
        rng = numpy_rng(seed, "dsrl_like", "styles", task_name, k)
        if k == 0:
            new = rng.uniform(size=(last, len(STYLE)))
        else:
            new = better_styles(styles, *totals(concatenate(logs))[1:], last - first, rng)
        styles = np.concatenate([styles, new])
        make = partial(roll, task_name, seed, partial(seeker, task_name, seed, styles), first)
        logs.append(in_shards(parts / f"round_{k}", make, last - first, processes=processes))
    return concatenate(logs)


def make(task_name: str, seed: int, episodes: int, folder: Path, processes: int, record: bool) -> str:
    """Make one log, or find it made; what to say of it."""
    from safeplan.data import read_log, write_log
    from safeplan.data.dsrl import TASKS
    from safeplan.data.dsrl_process import select, thin, totals
    from safeplan.data.shards import in_shards
    from safeplan.rng import numpy_rng

    out = folder / f"{task_name}-like-{episodes}-seed{seed}.hdf5"
    made = {"task": task_name, "seed": seed, "drawn": episodes, "version": VERSION, **CELLS}
    made |= {"rounds": ROUNDS[task_name]} if task_name in ROUNDS else {}
    if not (out.is_file() and {k: read_log(out).attrs.get(k) for k in made} == made):
        parts = out.with_name(f"{out.name}.parts-{VERSION}")
        if task_name in ROUNDS:
            log = improved(task_name, seed, episodes, parts, processes)
        else:
            drivers = partial(roll, task_name, seed, partial(demonstrator, task_name, seed), 0)
            log = in_shards(parts, drivers, episodes, processes=processes)
        rows, _, costs = totals(log)
        within = select(log, rows[costs <= TASKS[task_name].cap], f"{task_name} within its cap")
        log = thin(within, numpy_rng(seed, "dsrl_like", "thin", task_name), **CELLS)
        write_log(out, replace(log, attrs={**made, "origin": "safeplan make_dsrl_like: scripted, simulated"}))
        shutil.rmtree(parts)
    log = read_log(out)
    _, returns, costs = totals(log)
    safe = returns[costs == 0]
    best = f"best return {returns.max():.4g}, without cost {safe.max():.4g}" if len(safe) else "none without cost"
    return f"{out}: {len(returns)} episodes, {len(log)} steps, {best}; {compared(out.name, log.digest(), record)}"


def compared(name: str, digest: str, record: bool) -> str:
    """The digest beside the recorded one."""
    from safeplan.strict_json import write

    known = json.loads(HASHES.read_text()) if HASHES.is_file() else {}
    if record:
        write(HASHES, {**known, name: digest})
        return f"hash {digest[:12]} recorded"
    if name not in known:
        return f"hash {digest[:12]}, none is recorded for these settings"
    return (
        f"hash {digest[:12]} as recorded" if known[name] == digest else f"HASH {digest[:12]} IS NOT {known[name][:12]}"
    )


def main(argv: list[str] | None = None) -> int:
    from safeplan.errors import SafeplanError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=sorted(EPISODES), choices=sorted(EPISODES), metavar="TASK")
    parser.add_argument("--episodes", type=int, help=f"drawn before thinning; default {EPISODES}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/data/dsrl_like"))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", action="store_true", help="write the hashes to scripts/data/dsrl_like.json")
    a = parser.parse_args(argv)
    if a.episodes is not None and a.episodes < 1:
        parser.error(f"--episodes {a.episodes}: must be at least 1")
    if a.seed < 0:
        parser.error(f"--seed {a.seed}: must not be negative")
    try:
        for task in a.tasks:
            print(make(task, a.seed, a.episodes or EPISODES[task], a.out, a.processes, a.record), flush=True)
    except SafeplanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except OSError as e:
        print(f"error: {e}. Give a folder that may be written: --out FOLDER", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
