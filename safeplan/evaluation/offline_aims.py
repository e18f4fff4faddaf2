"""The aims of a study of offline methods, judged for every method of our own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SAFE = "cost within the limit on every task and seed"
BEST = "highest return among the methods that are safe on the task"
CLEAR = "cost within the limit, and the interval of the return above that of FISOR official"


def judge(
    main: Sequence[Mapping[str, Any]],
    planned: Mapping[str, Sequence[int]],
    ours: Sequence[str],
    parity: str,
    chosen_with: Mapping[str, Sequence[int]],
) -> list[dict[str, Any]]:
    """Each aim judged per own method and task: True, False, or None while seeds are missing that could change it.

    `fresh`: whether the method was flown with any seed that settings were not chosen with.
    """
    at = {(c["task"], c["method"]): c for c in main}
    tasks = list(dict.fromkeys(name.partition("/")[0] for name in planned))

    def complete(task: str, method: str) -> bool:
        c = at.get((task, method))
        return c is not None and c["seeds"] >= len(planned.get(f"{task}/{method}", ()))

    def safe(task: str, method: str) -> bool | None:
        c = at.get((task, method))
        if c is None or (c["worst_seed"] <= 1 and not complete(task, method)):
            return None
        return c["worst_seed"] <= 1

    def ahead(task: str, other: str, method: str) -> bool:
        """On the seeds that both have: the rest would set lucky seeds of one against all of the other."""
        cells = [at[task, m]["by_seed"] for m in (other, method)]
        a, b = (dict(zip(c["seed"], c["scaled"], strict=True)) for c in cells)
        return float(np.mean([a[s] - b[s] for s in a.keys() & b.keys()] or [0.0])) > 0.0

    def best(task: str, method: str) -> bool | None:
        others = [m for name in planned for t, _, m in [name.partition("/")] if t == task and m != method]
        if safe(task, method) is False:
            return False
        if not complete(task, method):
            return None
        if any(ahead(task, m, method) for m in others if complete(task, m) and safe(task, m)):
            return False
        return True if all(complete(task, m) or safe(task, m) is False for m in others) else None

    def clear(task: str, method: str) -> bool | None:
        if safe(task, method) is False:
            return False
        if not (complete(task, method) and complete(task, parity)):
            return None
        return at[task, method]["scaled"]["low"] > at[task, parity]["scaled"]["high"]

    out = []
    for aim, holds in ((SAFE, safe), (BEST, best), (CLEAR, clear)):
        for method in ours:
            verdicts = {t: holds(t, method) for t in tasks if f"{t}/{method}" in planned}
            reached = False if False in verdicts.values() else None if None in verdicts.values() else True
            whole = len(verdicts) == len(tasks)  # a method that some tasks are not planned for reaches no aim on all
            seen = {(t, s) for t in verdicts if (t, method) in at for s in at[t, method]["by_seed"]["seed"]}
            old = {(t, s) for t in verdicts for s in chosen_with.get(f"{t}/{method}", ())}
            fresh = not chosen_with or not seen <= old
            verdict = {"aim": aim, "method": method, "reached": reached if whole else False, "fresh": fresh}
            out.append(verdict | {"tasks": verdicts})
    return out
