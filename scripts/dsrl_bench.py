"""One job of dsrl_table.py: a method trained on a task's log and flown. Import it, do not run it."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dsrl_methods import ALPHA, ASCENT, BEFORE, GUIDANCE, MAIN, METHODS, RESERVE, Suite, how, settings


class Trained(NamedTuple):
    """A policy, its updates, and how many of them this process made in how many CPU seconds."""

    policy: Any
    updates: int
    here: int
    seconds: float


class Bench:
    """Everything that jobs share: logs, runs, CPU budgets. One per process."""

    def __init__(self, suite: Suite, data: Path, runs: Path, device: str = "cpu") -> None:
        self.suite, self.data, self.runs, self.device = suite, data, runs, device
        self.known: Mapping[str, int] = {}  # TASK/METHOD -> updates of trainings of before, elsewhere perhaps
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
        from safeplan.training import fisor_from_log
        from safeplan.training.one_step import one_step_from_log

        m = METHODS[method]
        if m.rival:
            return offline.make(
                m.rival, self.log(task), self.suite.limits[0], seed=seed, device=self.device, **m.settings
            )
        if m.act == "one_step":
            return one_step_from_log(self.log(task), self.trained(task, m.of, seed).policy, seed=seed)
        config = settings(m, max(self.suite.limits))
        return fisor_from_log(self.log(task), config, seed=seed, device=self.device)

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
        return Trained(
            load(folder, self.device), count, count - int(before.name if before else 0), time.process_time() - began
        )

    def count(self, task: str, method: str, learner: Any, source: Any) -> int:
        """Updates: given for FISORs; for the others as many as rows tell of, or as take the same CPU time here."""
        from safeplan.evaluation.shared_study import held
        from safeplan.strict_json import write

        if METHODS[method].train is not None:
            return self.suite.updates
        if f"{task}/{method}" in self.known:
            return self.known[f"{task}/{method}"]
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
        from safeplan.evaluation.actors import FisorActor, Memoryless, Reserved
        from safeplan.feasibility.one_step import OneStepPolicy
        from safeplan.guidance import CFG, Barrier, Energy

        m = METHODS[method]
        if m.act == "reserve":
            return Reserved(self.actor(task, m.of, policy), RESERVE)
        if m.rival:
            return policy
        if m.candidates:
            policy.config = replace(policy.config, candidates=m.candidates)
        if m.act == "calibrated":
            policy.threshold = threshold(policy, self.log(task))
        if m.margin:
            (policy.teacher if isinstance(policy, OneStepPolicy) else policy).threshold = -m.margin
        if isinstance(policy, OneStepPolicy) and not policy.budget:
            return Memoryless(policy)
        barrier = lambda c: Barrier(lambda a: -m.margin - c.q_h(a), metric="identity")  # noqa: E731
        ascent = lambda c: Energy(lambda a: -c.q(a), scale=ASCENT, metric="identity", proximal=False)  # noqa: E731
        chains = {
            "guided": lambda c: [barrier(c)],
            "steered": lambda c: [ascent(c), barrier(c)],
            "returns": [CFG(GUIDANCE)],
            "returns_guided": lambda c: [CFG(GUIDANCE), barrier(c)],
        }
        return FisorActor(policy, pick="minqc" if m.act == "minqc" else None, chain=chains.get(m.act, ()))

    def __call__(self, planner: str, seed: int) -> dict[str, Any]:
        """One job; `planner` is TASK/METHOD."""
        from safeplan.data.dsrl import TASKS
        from safeplan_envs import dsrl

        task, _, method = planner.partition("/")
        m, began = METHODS[method], time.process_time()
        t = self.trained(task, method if m.trains else m.of, seed)
        envs = [dsrl.make(TASKS[task].id) for _ in range(self.suite.episodes)]
        try:
            curve = self.curve(envs, task, method, seed) if m.trains and method in MAIN else []
            actor, limits = self.actor(task, method, t.policy), self.suite.limits
            flights = {
                f"{limit:g}": self.flown(envs, task, actor, limit, seed)
                for limit in (limits if m.every_limit else limits[:1])
            }
        finally:
            for env in envs:
                env.close()
        spent = {"updates": t.here if m.trains else 0, "train": t.seconds if m.trains else 0.0}
        spent["all"] = time.process_time() - began
        return {"how": how(method), "flights": flights, "updates": t.updates, "cpu_seconds": spent, "curve": curve}

    def curve(self, envs: list[Any], task: str, method: str, seed: int) -> list[dict[str, Any]]:
        """Flights with the checkpoints before the last."""
        from safeplan.training import load

        points = []
        for path in sorted((self.folder(task, method, seed) / "checkpoints").glob("[0-9]*"))[:-1]:
            actor = self.actor(task, method, load(path / "model.safetensors", self.device))
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


def seconds_per_update(learner: Any, source: Any, count: int = 20) -> float:
    """CPU seconds of an update, the wall's on a GPU, the first few left out; the learner is as it was afterwards."""
    import copy

    import torch

    from safeplan.rng import torch_rng

    def clock() -> float:
        if next(iter(source.batch(0, 0).values())).device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    state = copy.deepcopy(learner.state_dict())
    for i in range(3):
        learner.update(source.batch(i, 0), torch_rng(0, "measure", i))
    began = clock()
    for i in range(count):
        learner.update(source.batch(i, 0), torch_rng(0, "measure", i))
    spent = (clock() - began) / count
    learner.load_state_dict(state)
    return spent


def threshold(policy: Any, log: Any, alpha: float = ALPHA) -> float:
    """Conformal threshold of Q_h, from the rows of the log that lead into a violation: its first, and the few before.

    At most a share `alpha` of such rows is called safe. Nobody knows which states of a log are truly lost; these stand
    in for them, those that violate already left out, as any critic knows them. Above 0 the threshold stays 0: there the
    critic already misses fewer.
    """
    from safeplan.feasibility import calibrate

    soon = np.zeros(len(log), bool)
    for a, b in log.episodes:
        costly = log.costs[a:b] > 0
        begins = costly & ~np.concatenate([[False], costly[:-1]])
        for row in np.flatnonzero(begins):
            soon[a + max(0, row + 1 - BEFORE) : a + row + 1] = True
        soon[a:b] &= begins | ~costly
    return min(0.0, calibrate(policy.q_h(log.observations[soon], log.actions[soon]), alpha).at_most)
