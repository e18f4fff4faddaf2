"""Logs made episode by episode, in pieces that are kept: killed at any time, the same call makes what is missing."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm.auto import tqdm

from safeplan.data.hdf5 import Log, concatenate, read_log, write_log

Make = Callable[[int, int], Log]  # episodes first to last - 1; picklable when processes > 1


def in_shards(folder: Path, make: Make, episodes: int, *, size: int = 25, processes: int = 1) -> Log:
    """Episodes 0 to `episodes` - 1 as one log, made `size` at a time.

    `folder` keeps the finished pieces: name it after all that they depend on, and delete it once the log is written.
    Each piece is written whole or not at all; what `make` makes must not depend on the other pieces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spans = [(i, min(i + size, episodes)) for i in range(0, episodes, size)]
    paths = [folder / f"{a:06d}-{b:06d}.hdf5" for a, b in spans]
    todo = [(a, b, p) for (a, b), p in zip(spans, paths, strict=True) if not p.is_file()]
    done = len(spans) - len(todo)
    with tqdm(total=len(spans), initial=done, unit="shard", disable=not sys.stderr.isatty()) as bar:
        for _ in _finished(partial(_write, make), todo, min(processes, len(todo))):
            bar.update()
    return concatenate([read_log(p) for p in paths])


def _write(make: Make, job: tuple[int, int, Path]) -> Path:
    return write_log(job[2], make(job[0], job[1]))


def _finished(work: Callable, jobs: Sequence, processes: int) -> Iterator[Path]:
    if processes <= 1:
        yield from map(work, jobs)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the children inherit it; they are single-threaded work
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(work, j) for j in jobs]):
            yield future.result()
