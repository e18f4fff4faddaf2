"""Resuming is the same call again, and ends in the same weights bit for bit, whenever the run was killed."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from safeplan.data import Log
from safeplan.errors import CheckpointError, ConfigError, DataError, SafeplanError
from safeplan.feasibility import FisorConfig, FisorPolicy
from safeplan.rng import torch_rng
from safeplan.training import TransitionSource, WindowSource, fisor_from_log, load, load_model, train

SMALL = FisorConfig(batch=32, critic_rows=16, hidden=16, actor_width=16, actor_blocks=1, candidates=4, normalize=True)
REPO = Path(__file__).resolve().parents[2]


def small_log(n: int = 300) -> Log:
    rng = np.random.default_rng(0)
    ends = np.zeros(n, bool)
    ends[49::50] = True
    f = lambda *s: rng.uniform(-1, 1, s).astype(np.float32)  # noqa: E731
    cost = (rng.random(n) > 0.7).astype(np.float32)
    return Log(f(n, 3), f(n, 3), f(n, 2), f(n), cost, np.zeros(n, bool), ends)


def go(run: Path, updates: int, config: FisorConfig = SMALL, seed: int = 0, **options) -> Path:
    learner, source = fisor_from_log(small_log(), config, seed=seed)
    return train(learner, source, run, updates=updates, seed=seed, **{"checkpoint_every": 5, "log_every": 4, **options})


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "state.pt", weights_only=True)["learner"]["nets"]


def assert_same(a: Path, b: Path) -> None:
    one, two = tensors(a), tensors(b)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
    x, y = load_model(a), load_model(b)
    assert all(torch.equal(x.tensors[k], y.tensors[k]) for k in x.tensors) and x.meta == y.meta


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in r.items() if k != "seconds"} for r in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return go(tmp_path_factory.mktemp("whole") / "run", 20)


def test_twelve_and_on_to_twenty_is_twenty(whole, tmp_path):
    """Stopped off the checkpoint grid, in a fresh learner, with other global random numbers."""
    go(tmp_path, 12)
    torch.manual_seed(123)
    last = go(tmp_path, 20)
    assert last.name == "000000020"
    assert_same(last, whole)
    resumed, unkilled = rows(tmp_path), rows(whole.parent.parent)
    assert [r for r in resumed if r["update"] != "12"] == [r for r in unkilled if r["update"] != "12"]
    assert [r["update"] for r in resumed] == ["4", "8", "12", "16", "20"]


def test_a_line_that_a_kill_cut_short_is_no_row(tmp_path):
    go(tmp_path, 12)
    for cut in ("2", "16,0.5", "x"):
        with (tmp_path / "metrics.csv").open("a") as file:
            file.write(cut)
        go(tmp_path, 16 if cut == "2" else 20)
        found = rows(tmp_path)
        assert [r["update"] for r in found][:4] == ["4", "8", "12", "16"] and all(all(r.values()) for r in found)


def test_a_finished_run_returns_at_once(whole):
    before = (whole / "state.pt").stat().st_mtime_ns
    assert go(whole.parent.parent, 20) == whole
    assert (whole / "state.pt").stat().st_mtime_ns == before


CHILD = """
import sys
sys.path[:0] = [{repo!r}, {here!r}]
import torch
torch.set_num_threads(1)
from pathlib import Path
from test_loop import go
print("ready", flush=True)
go(Path({run!r}), 4000, checkpoint_every=3, log_every=2)
"""


def test_sigkill_at_random_moments(tmp_path):
    """Killed while training or writing (a checkpoint every third update makes both likely), then finished here."""
    run, moments = tmp_path / "run", random.Random(0)
    code = CHILD.format(repo=str(REPO), here=str(Path(__file__).parent), run=str(run))
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env, text=True)
        assert child.stdout is not None and child.stdout.readline().strip() == "ready"
        first = newest(run)
        deadline = time.monotonic() + 60
        while newest(run) < first + 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.1))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    reached = newest(run)
    assert 12 <= reached < 4000
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        total = reached + 5
        killed, clean = go(run, total, log_every=2), go(tmp_path / "clean", total, log_every=2)
    finally:
        torch.set_num_threads(threads)
    assert_same(killed, clean)
    assert not list((run / "checkpoints").glob(".*"))
    assert [r for r in rows(run) if int(r["update"]) % 2 == 0] == [
        r for r in rows(tmp_path / "clean") if int(r["update"]) % 2 == 0
    ]


def newest(run: Path) -> int:
    found = [int(p.name) for p in (run / "checkpoints").glob("[0-9]*")] if run.is_dir() else []
    return max(found, default=0)


def test_other_settings_seed_or_data_are_refused(whole, tmp_path):
    run = whole.parent.parent
    with pytest.raises(CheckpointError, match=r"config\.fisor\.lr: 0\.0003 there, 0\.001 here"):
        go(run, 30, replace(SMALL, lr=1e-3))
    with pytest.raises(CheckpointError, match="seed: 0 there, 1 here"):
        go(run, 30, seed=1)
    learner, source = fisor_from_log(small_log(250), SMALL)
    with pytest.raises(CheckpointError, match="data: "):
        train(learner, source, run, updates=30)
    with pytest.raises(ConfigError, match="updates is 0"):
        go(tmp_path, 0)


def test_a_corrupt_checkpoint_stops_the_run_with_the_remedy(tmp_path):
    last = go(tmp_path, 10)
    raw = bytearray((last / "state.pt").read_bytes())
    raw[len(raw) // 2] ^= 1
    (last / "state.pt").write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"Delete .*000000010 to go on from the checkpoint before it"):
        go(tmp_path, 12)
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    assert go(tmp_path, 12).name == "000000012"


def test_two_processes_in_one_folder(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another process trains"):
            go(tmp_path, 5)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    learner, source = fisor_from_log(small_log(), SMALL)
    source.columns["rewards"][:] = torch.nan
    with pytest.raises(SafeplanError, match=r"loss_q.*is not finite"):
        train(learner, source, tmp_path, updates=5, log_every=1)
    assert newest(tmp_path) == 0


@pytest.mark.parametrize("what", ["loss", "weight"])
def test_nan_never_replaces_a_good_checkpoint(tmp_path, what):
    """Checkpoints lie between the logged updates: losses and weights are looked at before each."""
    learner, source = fisor_from_log(small_log(), SMALL)
    options = {"updates": 10, "checkpoint_every": 2, "log_every": 9, "keep": 1}
    good = learner.update

    def broken(batch, generator):
        metrics = dict(good(batch, generator))
        if learner.agent.updates == 6:
            with torch.no_grad():
                next(learner.agent.nets["q"].parameters())[:] = torch.nan
            if what == "loss":
                metrics["loss_q"] = torch.tensor(torch.nan)
        return metrics

    learner.update = broken
    named = "loss_q" if what == "loss" else r"state\.nets\.q\."
    with pytest.raises(SafeplanError, match=rf"update 6: {named}.*is not finite"):
        train(learner, source, tmp_path, **options)
    assert newest(tmp_path) == 4
    assert all(torch.isfinite(v).all() for v in load_model(tmp_path).tensors.values())


def test_two_trainings_end_in_the_same_bytes(whole, tmp_path):
    other = go(tmp_path, 20)
    assert (other / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_load_gives_an_agent_that_acts_alike(whole):
    learner, _ = fisor_from_log(small_log(), SMALL)
    learner.load_state_dict(torch.load(whole / "state.pt", weights_only=True)["learner"])
    agent = load(whole)
    obs = small_log().observations[:5]
    assert isinstance(agent, FisorPolicy)
    np.testing.assert_array_equal(agent.v_h(obs), learner.agent.v_h(obs))
    np.testing.assert_array_equal(agent.act(obs, torch_rng(1)), learner.agent.act(obs, torch_rng(1)))
    assert agent.normalizer.supports(obs).all() and not agent.normalizer.supports(obs + 9).any()


def test_sources():
    columns = {"x": np.arange(20.0), "y": torch.arange(20) * 2}
    source = TransitionSource(columns, 50)
    a, b, c = source.batch(3, 0), source.batch(3, 0), source.batch(4, 0)
    assert torch.equal(a["x"], b["x"]) and not torch.equal(a["x"], c["x"])
    assert torch.equal(a["x"] * 2, a["y"].double())
    assert len(source.batch(0, 1)["x"].unique()) > 15
    windows = WindowSource(columns, [0, 5, 16], 4, 30, labels={"k": [0, 1, 2]})
    batch = windows.batch(0, 0)
    assert batch["x"].shape == (30, 4) and (batch["x"].diff(dim=1) == 1).all()
    assert torch.equal(batch["x"][:, 0], torch.tensor([0.0, 5.0, 16.0], dtype=torch.float64)[batch["k"]])
    with pytest.raises(DataError, match="do not fit"):
        WindowSource(columns, [17], 4, 3)
    with pytest.raises(DataError, match="same number of rows"):
        TransitionSource({"x": np.zeros(3), "y": np.zeros(4)}, 2)
