"""A study, job by job: one JSON line per (planner, seed), so that it can be killed at any time and continued.

The first line holds the settings and what the study was made with; the same command again does what is missing, and
notes in a line of its own when it does so with other versions. Strict JSON: see `safeplan.strict_json`.
"""

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from safeplan.errors import ConfigError, DataError
from safeplan.strict_json import dumps, loads, strict

FORMAT = 1
Row = dict[str, Any]
Job = tuple[str, int]  # planner, seed
Work = Callable[[str, int], Row]  # picklable when processes > 1; what it returns must be JSON
EPISODE: Mapping[str, type] = {"reached": bool, "collided": bool, "planning_ms": list}  # what a row of a flight holds


def provenance(device: str = "cpu") -> dict[str, str]:
    """What a result was made with: versions, machine, device."""
    versions = {"python": platform.python_version()}
    for package in ("safeplan", "numpy", "scipy", "torch", "casadi", "gymnasium", "diffusers"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    for package in ("dsrl", "bullet-safety-gym", "pybullet", "safety-gymnasium", "mujoco"):  # the extra simulators
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return versions | {"machine": machine, "device": device_name(device)}


def device_name(device: str) -> str:
    """The device as a reader knows it: `cuda (NVIDIA ...)`."""
    if not device.startswith("cuda"):
        return device
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"


def read_study(path: Path, kinds: Mapping[str, type] = EPISODE) -> tuple[dict[str, Any], list[Row]]:
    """Header and complete rows of a study file; half a line at its end (a kill while writing) is left out.

    Of several rows of one planner and seed the first counts. The header's `continued` lists what the study was
    continued with, when that differs from `made_with`.

    Raises:
        DataError: no such file, not a study, or a line that is no JSON or no row.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"study {path}: no such file. Run the study first: it writes this file")
    parsed = []
    for i, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            parsed.append(loads(line))
        except ValueError as e:
            raise DataError(f"study {path}: line {i} is no JSON ({e}). Delete that line to run its job again") from e
    if not parsed or not isinstance(parsed[0], dict) or parsed[0].get("study") != FORMAT:
        raise DataError(f"study {path}: the first line is no study header of format {FORMAT}. Move the file away")
    header = parsed[0]
    for key in ("settings", "made_with"):
        if not isinstance(header.get(key), dict):
            raise DataError(f"study {path}: line 1 has {key} = {header.get(key)!r}, expected an object. Move it away")
    rows: dict[Job, Row] = {}
    continued: list[dict[str, str]] = []
    for i, line in enumerate(parsed[1:], 2):
        if isinstance(line, dict) and set(line) == {"continued"} and isinstance(line["continued"], dict):
            continued.append(line["continued"])
            continue
        if wrong := fault(line, kinds):
            raise DataError(f"study {path}: line {i} {wrong}. Delete that line to run its job again")
        rows.setdefault((line["planner"], line["seed"]), line)
    return (header | {"continued": continued} if continued else header), list(rows.values())


def fault(row: Any, kinds: Mapping[str, type]) -> str:
    """Why a line is no row, or an empty string."""
    if not isinstance(row, dict):
        return f"is {row!r}, expected a row of a planner and a seed"
    for key, kind in {"planner": str, "seed": int, **kinds}.items():
        if key not in row:
            return f"has no {key}"
        if not isinstance(row[key], kind) or (kind is int and isinstance(row[key], bool)):
            return f"has {key} = {row[key]!r}, expected {kind.__name__}"
    times = row["planning_ms"] if "planning_ms" in kinds else []
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v < float("inf") for v in times):
        return f"has planning_ms = {times!r}, expected finite numbers of at least 0"
    return ""


def run_study(
    work: Work,
    planners: Sequence[str],
    seeds: Sequence[int],
    path: Path,
    settings: dict[str, Any],
    *,
    processes: int = 1,
    device: str = "cpu",
    kinds: Mapping[str, type] = EPISODE,
) -> tuple[dict[str, Any], list[Row]]:
    """Do every job that `path` does not hold yet; header and all rows, ordered by planner, then seed.

    Args:
        work: `(planner, seed) -> row`, the same whatever ran before it.
        settings: JSON that decides the rows; a study file with other settings is refused.
        processes: worker processes (spawned); 1 works in this one.
        kinds: what a row must hold beside planner and seed, and of which type.

    When this machine or these versions differ from those that the study was last worked on with, a line
    `{"continued": {...}}` says so before the new rows.

    Raises:
        ConfigError: `path` belongs to a study with other settings, or another process is writing it; no planner or
            seed is named, or one twice.
        DataError: `path` is no study, or `work` returns no row.
    """
    for what, given in (("planners", planners), ("seeds", seeds)):
        if not len(given) or len(set(given)) < len(given):
            raise ConfigError(f"study: {what} are {list(given)}, expected at least one, and each once")
    path, settings = Path(path), loads(dumps(settings))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        _lock(file, path)
        header, rows = resume(file, path, settings, device, kinds)
        done = {(r["planner"], r["seed"]) for r in rows}
        jobs = [(p, s) for s in seeds for p in planners if (p, s) not in done]  # by seed: a killed study stays paired
        if jobs:
            header = note_versions(file, header, device)
        total = len(planners) * len(seeds)
        with tqdm(total=total, initial=total - len(jobs), unit="episode", disable=None) as bar:
            for (planner, seed), result in _results(work, jobs, processes):
                row = {"planner": planner, "seed": seed, **result}
                rows.append(keep(file, path, row, kinds))
                bar.update()
    wanted = {(p, s): (i, s) for i, p in enumerate(planners) for s in seeds}
    rows = [r for r in rows if (r["planner"], r["seed"]) in wanted]
    return header, sorted(rows, key=lambda r: wanted[r["planner"], r["seed"]])


def resume(
    file: Any, path: Path, settings: dict[str, Any], device: str, kinds: Mapping[str, type]
) -> tuple[dict[str, Any], list[Row]]:
    """Header and rows of a study file open for appending and locked: begun if empty, half a line cut off.

    Raises:
        ConfigError: it was begun with other settings. DataError: it is no study.
    """
    raw, begun = path.read_bytes(), b'{"study"'
    if b"\n" not in raw and not (raw.startswith(begun) or begun.startswith(raw)):
        raise DataError(f"study {path}: it holds {len(raw)} bytes that are no study. Move the file away")
    file.truncate(raw.rfind(b"\n") + 1)
    if b"\n" not in raw:
        header = {"study": FORMAT, "settings": settings, "made_with": provenance(device)}
        append(file, header)
        return header, []
    header, rows = read_study(path, kinds)
    if header["settings"] != settings:
        old = header["settings"]
        changed = sorted(k for k in {*old, *settings} if old.get(k) != settings.get(k))
        raise ConfigError(
            f"study {path} was begun with other settings: {', '.join(changed)}. "
            "Give the same ones, another name=..., or move the file away"
        )
    return header, rows


def note_versions(file: Any, header: dict[str, Any], device: str) -> dict[str, Any]:
    """The header, with what the study goes on with noted when that is new."""
    history = [header["made_with"], *header.get("continued", [])]
    now = provenance(device)
    if history[-1] == now:
        return header
    append(file, {"continued": now})
    return header | {"continued": [*history[1:], now]}


def keep(file: Any, path: Path, row: Row, kinds: Mapping[str, type]) -> Row:
    """Write a row that is one; the row as it is read again.

    Raises:
        DataError: it lacks something.
    """
    if wrong := fault(row, kinds):
        raise DataError(
            f"study {path}: the row of planner {row['planner']}, seed {row['seed']} {wrong}; nothing was written"
        )
    append(file, row)
    return strict(row)


def append(file: Any, line: dict[str, Any]) -> None:
    """Write one line, to the disk."""
    file.write(dumps(line).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _results(work: Work, jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, Row]]:
    if processes <= 1 or len(jobs) <= 1:
        yield from ((job, work(*job)) for job in jobs)
        return
    # spawn: CasADi, torch and CUDA do not survive a fork
    pool = ProcessPoolExecutor(min(processes, len(jobs)), mp_context=get_context("spawn"))
    try:
        futures = {pool.submit(work, *job): job for job in jobs}
        yield from ((futures[f], f.result()) for f in as_completed(futures))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _lock(file: Any, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: no lock, the rest holds
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigError(
            f"study {path}: another process is writing it. Wait for it, or give another name=..."
        ) from None


def by_planner(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of each planner, in order of appearance."""
    out: dict[str, list[Row]] = {}
    for row in rows:
        out.setdefault(row["planner"], []).append(row)
    return out
