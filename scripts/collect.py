"""Roll scripted drivers of mixed quality and write a behaviour log in the DSRL layout.

    python scripts/collect.py --env hovercraft --episodes 400 --seed 0 --out runs/data/hovercraft.hdf5

Episode i depends on the seed and i alone, not on the number of processes. Finished shards are kept beside the output
until it is written, so the same command continues where it was stopped. Besides the seven keys the log holds `h`, the
depth of the deepest penetration during the step (m, positive inside an obstacle).
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np

ENVS = {"hovercraft": "Hovercraft-v0", "driving": "Driving-v0", "point_robot": "PointRobot-v0"}
SHARD = 25  # episodes
VERSION = 1  # of the drivers and scenes: raise it when they change, so that old shards are not continued


def roll(env, index: int, seed: int, difficulty: tuple[float, float]) -> dict[str, np.ndarray]:
    """Columns of one episode, in time order."""
    from safeplan.rng import fold, numpy_rng

    world = env.unwrapped
    rng = numpy_rng(seed, "collect", world.name, index)
    observation, _ = env.reset(
        seed=fold(seed, "collect", index), options={"difficulty": float(rng.uniform(*difficulty))}
    )
    driver = import_module(f"safeplan_envs.{world.name}.scripted").driver(world, rng)
    rows: list[tuple] = []
    done = False
    while not done:
        action = driver()
        following, reward, terminal, timeout, info = env.step(action)
        rows.append((observation, following, action, reward, info["cost"], terminal, timeout, -info["clearance"]))
        observation, done = following, terminal or timeout
    keys = ("observations", "next_observations", "actions", "rewards", "costs", "terminals", "timeouts", "h")
    return {k: np.array([r[i] for r in rows]) for i, k in enumerate(keys)}


def collect(env_name: str, seed: int, difficulty: tuple[float, float], first: int, last: int):
    """The log of episodes `first` to `last - 1`."""
    import gymnasium as gym

    from safeplan.data.hdf5 import Log

    env = gym.make(f"safeplan_envs:safeplan/{ENVS[env_name]}", split="train")
    episodes = [roll(env, i, seed, difficulty) for i in range(first, last)]
    env.close()
    columns = {k: np.concatenate([e[k] for e in episodes]) for k in episodes[0]}
    h = columns.pop("h")
    return Log(*columns.values(), extra={"h": h})


def fingerprint(env: str, seed: int, difficulty: tuple[float, float]) -> str:
    """Changes with everything that the episodes depend on, the identified vehicle included."""
    import gymnasium as gym

    from safeplan.dynamics.backends import NUMPY

    world = gym.make(f"safeplan_envs:safeplan/{ENVS[env]}").unwrapped
    world.reset(seed=0)
    system, belief = world.system, world.belief()  # type: ignore[attr-defined]
    probe = system.f(0.0, 0.1 + np.arange(system.n), 0.5 * system.control_high, belief.theta_mean, NUMPY)
    facts = [VERSION, env, seed, difficulty, belief.at(np.zeros(system.n)).to_dict(), [f"{v:.9e}" for v in probe]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def outcomes(log) -> Counter[str]:
    """Episodes by outcome: goal without collision, goal with collision, collision only, out of time."""
    count: Counter[str] = Counter()
    for a, b in log.episodes:
        hit, goal = bool((log.costs[a:b] > 0).any()), bool(log.terminals[b - 1])
        count[f"{'goal' if goal else 'no goal'}, {'collision' if hit else 'safe'}"] += 1
    return count


def report(log, path: Path) -> None:
    """Print what the log holds and where it is."""
    n, count = len(log.episodes), outcomes(log)
    print(f"{len(log)} steps in {n} episodes; {100 * float((log.costs > 0).mean()):.1f} % of the steps in collision")
    for name in ("goal, safe", "goal, collision", "no goal, safe", "no goal, collision"):
        print(f"  {name:<20} {count[name]:5d}  {100 * count[name] / n:5.1f} %")
    print(f"log: {path}")


def main(argv: list[str] | None = None) -> int:
    from safeplan.data.hdf5 import read_log, write_log
    from safeplan.data.shards import in_shards
    from safeplan.errors import SafeplanError

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--env", choices=sorted(ENVS), required=True)
    p.add_argument("--episodes", type=int, default=400)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--difficulty", type=float, nargs=2, default=(0.3, 1.7), metavar=("LOW", "HIGH"))
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    a = p.parse_args(argv)
    if a.episodes < 1:
        p.error(f"--episodes {a.episodes}: must be at least 1")
    difficulty = (float(a.difficulty[0]), float(a.difficulty[1]))
    try:
        key = fingerprint(a.env, a.seed, difficulty)
        made = {"fingerprint": key, "episodes": a.episodes}
        if a.out.is_file():
            log = read_log(a.out)
            if {k: log.attrs.get(k) for k in made} == made:
                print("already complete")
                report(log, a.out)
                return 0
        parts = a.out.with_name(f"{a.out.name}.parts-{key}")
        make = partial(collect, a.env, a.seed, difficulty)
        joined = in_shards(parts, make, a.episodes, size=SHARD, processes=a.processes)
        attrs = {**made, "env": a.env, "seed": a.seed, "split": "train", "difficulty": json.dumps(difficulty)}
        log = type(joined)(**{**vars(joined), "attrs": attrs})
        write_log(a.out, log)
        shutil.rmtree(parts)
    except SafeplanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    report(log, a.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
