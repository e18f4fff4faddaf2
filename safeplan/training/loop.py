"""The training loop: resuming is the same call again, and ends in the same weights, bit for bit.

Everything random in update i is drawn from generators named by (seed, i), so the state that a checkpoint must hold is
that of the learner. Learner and source own their device; wrapping the learner's networks (Accelerate, DDP) happens
where it is built and needs no change here.
"""

import csv
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

from safeplan.errors import CheckpointError, ConfigError, SafeplanError
from safeplan.rng import torch_rng
from safeplan.training import checkpoint
from safeplan.training.sources import Source


class Learner(Protocol):
    """What `train` trains. `kind` names the class for `load`; `config` is JSON and must not change between resumes."""

    kind: str
    config: dict[str, Any]

    def update(self, batch: dict[str, Tensor], generator: torch.Generator) -> Mapping[str, float | Tensor]:
        """One update; all randomness comes from `generator`. Returns metrics (0-d tensors stay on the device)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs; readable with `weights_only=True`."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors (EMA weights, normaliser) and JSON settings for inference."""
        ...


def train(
    learner: Learner,
    source: Source,
    run_dir: str | Path,
    *,
    updates: int,
    seed: int = 0,
    checkpoint_every: int = 5000,
    log_every: int = 500,
    keep: int = 2,
) -> Path:
    """Train up to `updates` updates in all and return the last checkpoint's folder.

    The same call again goes on from the newest checkpoint, or returns at once when it is complete or beyond. Writes
    `checkpoints/<update>/` (the newest `keep`) and `metrics.csv` under `run_dir`.

    Raises:
        CheckpointError: `run_dir` holds a run with other settings, seed or data; a corrupt checkpoint; another process
            is training there.
        ConfigError: a count below 1.
        SafeplanError: a loss or a weight is no longer finite; nothing is written then.
    """
    for name, value in (("updates", updates), ("checkpoint_every", checkpoint_every), ("log_every", log_every)):
        if value < 1:
            raise ConfigError(f"train: {name} is {value}, expected at least 1")
    run_dir = Path(run_dir)
    (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
    with _lock(run_dir):
        checkpoint.prune(run_dir, max(keep, 1))
        start, before = _resume(learner, source, run_dir, seed)
        log = _Metrics(run_dir / "metrics.csv", start)
        began = time.monotonic()
        quiet = not sys.stderr.isatty()
        for i in tqdm(range(start, updates), initial=start, total=updates, unit="update", disable=quiet):
            metrics = learner.update(source.batch(i, seed), torch_rng(seed, "update", i))
            done = i + 1
            logged = done % log_every == 0 or done == updates
            saved = done % checkpoint_every == 0 or done == updates
            if logged or saved:
                numbers = _finite(done, metrics)
            if logged:
                seconds = before + time.monotonic() - began
                log.write(done, numbers | {"seconds": round(seconds, 3)})
            if saved:
                _save(learner, source, run_dir, done, seed, before + time.monotonic() - began)
                checkpoint.prune(run_dir, max(keep, 1))
    last = checkpoint.latest(run_dir)
    assert last is not None
    return last


_LOWER = "Lower policy.lr or check the data; the last checkpoint is as it was"


def _finite(done: int, metrics: Mapping[str, float | Tensor]) -> dict[str, float]:
    """Metrics as numbers; SafeplanError before a NaN is logged or saved."""
    numbers = {k: float(v) for k, v in metrics.items()}
    bad = [k for k, v in numbers.items() if not math.isfinite(v)]
    if bad:
        raise SafeplanError(f"update {done}: {', '.join(bad)} is not finite. {_LOWER}")
    return numbers


def _save(learner: Learner, source: Source, run_dir: Path, done: int, seed: int, seconds: float) -> None:
    tensors, meta = learner.export()
    learned = learner.state_dict()
    bad = next(_unfinite({"model": tensors, "state": learned}), None)
    if bad is not None:  # the losses were finite, the step that followed them was not
        raise SafeplanError(f"update {done}: {bad} is not finite. {_LOWER}")
    run = {"kind": learner.kind, "config": learner.config, "seed": seed, "data": source.digest}
    state = {"step": done, "run": run, "seconds": seconds, "learner": learned}
    folder = run_dir / "checkpoints" / f"{done:09d}"
    checkpoint.save(folder, learner.kind, tensors, meta, state, step=done, seed=seed, data=source.digest)


def _unfinite(value: Any, name: str = "") -> Iterator[str]:
    """Names of the tensors in a nested state that hold a NaN or an infinity."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _unfinite(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from _unfinite(part, f"{name}.{i}")
    elif isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
        yield name


def _resume(learner: Learner, source: Source, run_dir: Path, seed: int) -> tuple[int, float]:
    """Load the newest checkpoint into the learner; updates done and seconds spent so far."""
    folder = checkpoint.latest(run_dir)
    if folder is None:
        return 0, 0.0
    _, state = checkpoint.load(folder)
    there = state["run"]
    here = {"kind": learner.kind, "config": learner.config, "seed": seed, "data": source.digest}
    differs = [text for key in here for text in _differences(key, there.get(key), here[key])]
    if differs:
        raise CheckpointError(
            f"run {run_dir} was started with other settings:\n"
            + "\n".join(f"  - {d}" for d in differs)
            + "\nUse another run folder, or delete this one to start anew"
        )
    try:
        learner.load_state_dict(state["learner"])
    except (KeyError, ValueError, RuntimeError) as e:
        raise CheckpointError(f"checkpoint {folder} does not fit the {learner.kind} learner ({e}). Train again") from e
    return state["step"], state["seconds"]


def _differences(name: str, there: Any, here: Any) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            yield from _differences(f"{name}.{key}", there.get(key), here.get(key))
    elif (list(there) if isinstance(there, tuple) else there) != (list(here) if isinstance(here, tuple) else here):
        yield f"{name}: {there!r} there, {here!r} here"


class _Metrics:
    """`metrics.csv`, cut back on resume to the rows that the checkpoint knows of."""

    def __init__(self, path: Path, start: int):
        self.path = path
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):  # a kill cuts lines short
                    whole = None not in row and all(row.values()) and row["update"].isdigit()
                    if whole and (int(self.rows[-1]["update"]) if self.rows else -1) < int(row["update"]) <= start:
                        self.rows.append(row)
            temp = path.with_suffix(".tmp")
            with temp.open("w", newline="") as file:
                if self.rows:
                    out = csv.DictWriter(file, list(self.rows[0]), extrasaction="ignore")
                    out.writeheader()
                    out.writerows(self.rows)
            os.replace(temp, path)

    def write(self, done: int, metrics: dict[str, float]) -> None:
        new = not self.path.is_file() or self.path.stat().st_size == 0
        with self.path.open("a", newline="") as file:
            out = csv.writer(file)
            if new:
                out.writerow(["update", *metrics])
            out.writerow([done, *metrics.values()])


@contextmanager
def _lock(run_dir: Path) -> Iterator[None]:
    """One process per run folder; the lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows: no lock
        yield
        return
    with (run_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise CheckpointError(f"run {run_dir}: another process trains there. Wait, or use another folder") from e
        yield
