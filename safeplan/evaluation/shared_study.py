"""One study, several processes: each takes the next job that nobody has. Killed, its job is free for the others."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safeplan.errors import ConfigError
from safeplan.evaluation.study import EPISODE, Job, Row, Work, keep, note_versions, resume
from safeplan.strict_json import dumps, loads

PAUSE_S = 5.0  # between looks at jobs that others have


@contextmanager
def held(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Inside the block this process alone holds the lock file `path`; the lock goes with it, however it ends.

    Without `wait` the value is False where another process, or another block of this one, holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        yield _flock(file, wait)


def _flock(file: Any, wait: bool) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: no lock, so one process only
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def share_study(
    work: Work,
    jobs: Sequence[Job],
    path: Path,
    settings: dict[str, Any],
    claim: Callable[[str, int], Path],
    *,
    kinds: Mapping[str, type] = EPISODE,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Any], list[Row]]:
    """Do the jobs `(planner, seed)` that `path` does not hold, in this order, and return when all are done by anyone.

    Start the same call in as many processes as there are cores.

    Args:
        work, settings, kinds: as for `run_study`.
        claim: the lock file of a job; jobs that must not run at the same time share one.
        tell: called with a line when a job begins, and when all that is left is with other processes.

    Returns:
        The header, and all rows that the file then holds.

    Raises:
        ConfigError: other settings than those the study was begun with; no job is named, or one twice.
        DataError: `path` is no study, or `work` returns no row.
    """
    if not jobs or len(set(jobs)) < len(jobs):
        raise ConfigError(f"study {path}: {len(jobs)} jobs, {len(set(jobs))} different ones; name each once")
    path, settings, waiting = Path(path), loads(dumps(settings)), False
    while True:
        header, rows = _look(path, settings, device, kinds)
        left = _left(jobs, rows)
        if not left:
            return header, rows
        for job in left:
            with held(claim(*job), wait=False) as mine:
                # somebody may have done it between the look and the claim
                if mine and _left([job], _look(path, settings, device, kinds)[1]):
                    tell(f"{job[0]}, seed {job[1]}")
                    row = {"planner": job[0], "seed": job[1], **work(*job)}
                    with _open(path) as file:
                        header, _ = resume(file, path, settings, device, kinds)
                        note_versions(file, header, device)
                        keep(file, path, row, kinds)
                    waiting = False
                    break
        else:
            if not waiting:
                tell(f"{len(left)} jobs left, all with other processes: waiting")
            waiting = True
            time.sleep(PAUSE_S)


def _left(jobs: Sequence[Job], rows: Sequence[Row]) -> list[Job]:
    done = {(r["planner"], r["seed"]) for r in rows}
    return [job for job in jobs if job not in done]


def _look(path: Path, settings: dict[str, Any], device: str, kinds: Mapping[str, type]) -> tuple[dict, list[Row]]:
    with _open(path) as file:
        return resume(file, path, settings, device, kinds)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """The study file for appending; locked, so that nobody sees half a line or cuts one off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        _flock(file, wait=True)
        yield file
