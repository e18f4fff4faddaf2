"""Checkpoints are whole or refused, say what they are, and run no code."""

import json

import pytest
import torch
from safetensors.torch import save_file

from safeplan.errors import CheckpointError
from safeplan.training import checkpoint, load

TENSORS = {"b.w": torch.arange(12.0).reshape(3, 4), "a": torch.tensor([1, 2]), "s": torch.tensor(2.5)}


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "run"
    state = {"step": 3, "w": torch.ones(2), "nested": {"list": [1, 2.0, "x"]}}
    return checkpoint.save(run / "checkpoints" / "000000003", "toy", TENSORS, {"width": 4}, state, step=3, data="abc")


def test_round_trip(folder):
    model, state = checkpoint.load(folder)
    assert model.kind == "toy" and model.meta == {"width": 4}
    assert model.info["step"] == 3 and model.info["data"] == "abc" and "torch" in model.info["versions"]
    assert all(torch.equal(model.tensors[k], v) for k, v in TENSORS.items())
    assert state["nested"] == {"list": [1, 2.0, "x"]} and torch.equal(state["w"], torch.ones(2))
    # a file, a checkpoint or a run: all the same
    for path in (folder / "model.safetensors", folder, folder.parent.parent):
        assert checkpoint.load_model(path).meta == {"width": 4}
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]  # no temporary names left


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
@pytest.mark.parametrize("where", [0.02, 0.3, 0.6, 0.98])
def test_flipped_byte(folder, name, where):
    path = folder / name
    raw = bytearray(path.read_bytes())
    raw[int(where * len(raw))] ^= 0x41
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
@pytest.mark.parametrize("size", [0, 5, 200])
def test_truncated(folder, name, size):
    path = folder / name
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"corrupt|cannot be read"):
        checkpoint.load(folder)


def test_absent(folder, tmp_path):
    (folder / "state.pt").unlink()
    with pytest.raises(CheckpointError, match=r"state\.pt: no such file"):
        checkpoint.load(folder)
    assert checkpoint.load_model(folder).kind == "toy"  # inference needs no state
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoint.load_model(tmp_path / "nowhere")
    assert checkpoint.latest(tmp_path / "nowhere") is None


def test_foreign_newer_and_unknown(tmp_path):
    save_file(TENSORS, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="not written by safeplan"):
        load(tmp_path / "foreign.safetensors")
    header = json.dumps({"format": 99, "kind": "toy", "meta": {}, "info": {}})
    notes = {"safeplan": header, "sha256": checkpoint._model_digest(header, TENSORS)}
    save_file(TENSORS, tmp_path / "newer.safetensors", notes)
    with pytest.raises(CheckpointError, match="format 99"):
        load(tmp_path / "newer.safetensors")
    checkpoint.save_model(tmp_path / "kind.safetensors", "os.system", TENSORS, {})
    with pytest.raises(CheckpointError, match=r"kind 'os\.system' is unknown, expected one of classifier, fisor"):
        load(tmp_path / "kind.safetensors")
    checkpoint.save_model(tmp_path / "misfit.safetensors", "fisor", TENSORS, {"fisor": {"gamma": 0.9}})
    with pytest.raises(CheckpointError, match="does not fit"):
        load(tmp_path / "misfit.safetensors")


def test_a_pickle_with_code_is_refused(folder, tmp_path):
    """state.pt is read with weights_only: an object with __reduce__ is an error, and nothing runs."""
    import os

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"x": Evil()}, folder / "state.pt")
    digest = checkpoint._file_digest(folder / "state.pt")
    checkpoint.save_model(folder / "model.safetensors", "toy", TENSORS, {}, state_sha256=digest)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(folder)
    assert not (tmp_path / "ran").exists()


def test_prune_keeps_the_newest_and_clears_debris(folder):
    root = folder.parent
    for step in (5, 7, 11):
        checkpoint.save(root / f"{step:09d}", "toy", TENSORS, {}, {"step": step})
    (root / ".000000013.tmp").mkdir()
    (root / ".000000013.tmp" / "state.pt").write_bytes(b"half")
    checkpoint.prune(root.parent, 2)
    assert sorted(p.name for p in root.iterdir()) == ["000000007", "000000011"]
    latest = checkpoint.latest(root.parent)
    assert latest is not None and latest.name == "000000011"
