"""Checkpoints that appear whole or not at all, say what they are, and run no code when loaded.

A checkpoint is a folder with `model.safetensors` (weights for inference; kind, settings, versions, data hash and their
checksum in the metadata), `state.pt` (everything that resuming needs, read with `weights_only=True`) and `sums.json`
(checksums of both, so that neither is taken from another checkpoint). Shipped weights are the first file alone.
The same training gives the same bytes in `model.safetensors`: nothing about time enters it.
"""

import hashlib
import json
import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from safeplan.errors import CheckpointError

FORMAT = 2  # 1 had the checksum beside the header, and that of state.pt inside it
MODEL, STATE, SUMS = "model.safetensors", "state.pt", "sums.json"


@dataclass(frozen=True)
class Model:
    """Inference weights and what they are: `kind`, the learner's own `meta`, and `info` (versions, data hash, step)."""

    kind: str
    tensors: dict[str, torch.Tensor]
    meta: dict[str, Any]
    info: dict[str, Any]


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    try:
        own = metadata.version("safeplan")
    except metadata.PackageNotFoundError:
        own = "source"
    return {"safeplan": own, "torch": torch.__version__, "python": platform.python_version()}


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_digest(header: str, tensors: dict[str, torch.Tensor]) -> str:
    sha = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        value = tensors[name].detach().contiguous().cpu()
        sha.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def save_model(path: Path, kind: str, tensors: dict[str, torch.Tensor], meta: dict[str, Any], **info: Any) -> Path:
    """Write one `.safetensors` file (temp name, then rename). `meta` and `info` must be JSON."""
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    header = {"format": FORMAT, "kind": kind, "meta": meta, "info": {"versions": versions(), **info}}
    signed = {**header, "sha256": _model_digest(json.dumps(header, sort_keys=True), tensors)}
    temp = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temp, {"safeplan": json.dumps(signed, sort_keys=True)})  # several keys come in any order
        _sync(temp)
        os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)
    return path


def model_file(path: str | Path) -> Path:
    """The `.safetensors` file meant by one, a checkpoint folder, or a run folder; it need not exist."""
    path = Path(path)
    return (latest(path) or path) / MODEL if path.is_dir() else path


def load_model(path: str | Path) -> Model:
    """Read one `.safetensors` file, a checkpoint folder, or a run folder (its newest checkpoint); runs no code.

    Raises:
        CheckpointError: missing, corrupt, written by something else, or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = model_file(path)
    if not path.is_file():
        if path.name == MODEL and path.parent.parent.name == "checkpoints" and path.parent.is_dir():
            raise CheckpointError(f"checkpoint {path}: no such file. {_remedy(path)}")
        raise CheckpointError(f"checkpoint {path}: no such file. Give a .safetensors file or the folder of a run")
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as e:
        raise CheckpointError(f"checkpoint {path}: corrupt ({e}). {_remedy(path)}") from e
    if "safeplan" not in notes:
        raise CheckpointError(f"checkpoint {path}: not written by safeplan (metadata keys: {sorted(notes) or 'none'})")
    try:
        header = json.loads(notes["safeplan"])
        claimed, signed = notes.get("sha256"), notes["safeplan"]
        if claimed is None:
            claimed = header.pop("sha256", None)
            signed = json.dumps(header, sort_keys=True)
    except (ValueError, AttributeError) as e:
        raise CheckpointError(f"checkpoint {path}: corrupt, its metadata is no JSON ({e}). {_remedy(path)}") from e
    if _model_digest(signed, tensors) != claimed:
        raise CheckpointError(f"checkpoint {path}: corrupt, its content does not match its checksum. {_remedy(path)}")
    if header["format"] > FORMAT:
        raise CheckpointError(
            f"checkpoint {path}: format {header['format']}, this safeplan reads up to {FORMAT}. Upgrade safeplan"
        )
    return Model(header["kind"], tensors, header["meta"], header["info"])


def _remedy(path: Path) -> str:
    """What to do about a file that cannot be read: the checkpoint before it is still there, in a run's folder."""
    folder = path.parent
    if folder.parent.name == "checkpoints":
        return f"Delete {folder} to go on from the checkpoint before it"
    return "Train again, or restore the file from a copy"


def save(
    folder: Path, kind: str, tensors: dict[str, torch.Tensor], meta: dict[str, Any], state: Any, **info: Any
) -> Path:
    """Write a checkpoint folder under a temporary name, then rename it: a kill leaves it whole or absent."""
    folder = Path(folder)
    temp = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir(parents=True)
    torch.save(state, temp / STATE)
    _sync(temp / STATE)
    save_model(temp / MODEL, kind, tensors, meta, **info)
    (temp / SUMS).write_text(json.dumps({name: _file_digest(temp / name) for name in (MODEL, STATE)}))
    _sync(temp / SUMS)
    _sync(temp)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(temp, folder)
    _sync(folder.parent)
    return folder


def load(folder: str | Path) -> tuple[Model, Any]:
    """Model and state of a checkpoint folder.

    Raises:
        CheckpointError: as `load_model`, and when `state.pt` is missing, corrupt, or from another checkpoint.
    """
    folder = Path(folder)
    model, path = load_model(folder / MODEL), folder / STATE
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path}: no such file, so training cannot go on from here. {_remedy(path)}")
    sums = _sums(folder, model)
    for name in (MODEL, STATE):
        if name in sums and _file_digest(folder / name) != sums[name]:
            raise CheckpointError(
                f"checkpoint {folder / name}: corrupt, its content does not match its checksum. {_remedy(path)}"
            )
    try:
        return model, torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # torch.load raises pickle, zip and runtime errors alike
        raise CheckpointError(f"checkpoint {path}: cannot be read ({e}). {_remedy(path)}") from e


def _sums(folder: Path, model: Model) -> dict[str, str]:
    """Checksums by file name; format 1 had that of state.pt in the model file."""
    path = folder / SUMS
    if not path.is_file() and "state_sha256" in model.info:
        return {STATE: model.info["state_sha256"]}
    try:
        sums = json.loads(path.read_text())
        return {name: str(sums[name]) for name in (MODEL, STATE)}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise CheckpointError(f"checkpoint {path}: cannot be read ({e}). {_remedy(path)}") from e


def latest(run_dir: str | Path) -> Path | None:
    """The newest checkpoint folder of a run, by step; None when there is none."""
    root = Path(run_dir) / "checkpoints"
    found = sorted(p for p in root.glob("[0-9]*") if p.is_dir()) if root.is_dir() else []
    return found[-1] if found else None


def prune(run_dir: str | Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what killed runs left half-written."""
    root = Path(run_dir) / "checkpoints"
    for path in sorted(root.glob("[0-9]*"))[:-keep]:
        path.rename(path.with_name(f".{path.name}.tmp"))  # so that a kill leaves no half-deleted checkpoint
    for path in root.glob(".*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
