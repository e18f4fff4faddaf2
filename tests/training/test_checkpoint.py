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


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "sums.json"])
@pytest.mark.parametrize("size", [None, 0, 20])
def test_the_remedy_is_to_go_on_from_the_checkpoint_before(folder, name, size):
    path = folder / name
    if size is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:size])
    remedy = rf"{name.replace('.', '[.]')}: .*Delete .*000000003 to go on from the checkpoint before it"
    with pytest.raises(CheckpointError, match=remedy):
        checkpoint.load(folder)
    if name == "model.safetensors":
        with pytest.raises(CheckpointError, match=remedy):
            checkpoint.load_model(folder.parent.parent)


def test_files_of_two_checkpoints_are_not_mixed(folder):
    other = checkpoint.save(
        folder.with_name("000000005"), "toy", TENSORS, {"width": 5}, {"step": 5}, step=5, data="abc"
    )
    for name in ("model.safetensors", "state.pt"):
        mine = (folder / name).read_bytes()
        (folder / name).write_bytes((other / name).read_bytes())
        with pytest.raises(CheckpointError, match="does not match its checksum"):
            checkpoint.load(folder)
        (folder / name).write_bytes(mine)
    checkpoint.load(folder)


def test_the_same_model_is_the_same_file(tmp_path):
    """Whatever its state holds, such as seconds; several times, since hash maps order their keys by chance."""
    for i in range(8):
        checkpoint.save(tmp_path / str(i), "toy", TENSORS, {"width": 4}, {"seconds": i}, step=3, data="abc")
    assert len({(tmp_path / str(i) / "model.safetensors").read_bytes() for i in range(8)}) == 1


def test_files_of_format_1_are_read(folder):
    digest = checkpoint._file_digest(folder / "state.pt")
    info = {"versions": {}, "state_sha256": digest}
    header = json.dumps({"format": 1, "kind": "toy", "meta": {"width": 4}, "info": info}, sort_keys=True)
    notes = {"safeplan": header, "sha256": checkpoint._model_digest(header, TENSORS)}
    save_file(TENSORS, folder / "model.safetensors", notes)
    (folder / "sums.json").unlink()
    assert checkpoint.load(folder)[1]["step"] == 3
    (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"state\.pt: corrupt"):
        checkpoint.load(folder)


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
    sums = {name: checkpoint._file_digest(folder / name) for name in ("model.safetensors", "state.pt")}
    (folder / "sums.json").write_text(json.dumps(sums))
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
