"""`safeplan train` on logs with costs: FISOR's rivals, its distillation, logs of DSRL tasks; resumed bit for bit."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import safeplan
from safeplan import schema
from safeplan.cli.main import main
from safeplan.data import dsrl_files, write_log
from safeplan.rng import torch_rng
from tests.baselines.toy import road_log
from tests.cli.test_cli import last_line, refused, refused_lines

SHORT = ("checkpoint_every=2", "log_every=2", "device=cpu")
SMALL = {
    "fisor": ("batch=16", "actor_steps=1", "hidden=8", "actor_width=8", "actor_blocks=1", "candidates=2"),
    "one_step": ("batch=16", "hidden=8", "layers=1"),
    "bc_safe": ("batch=16", "hidden=8", "limit=6"),
    "cdt": ("batch=8", "context=3", "width=16", "heads=2", "blocks=1"),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "dsrl"))
    monkeypatch.delenv("SAFEPLAN_DATA", raising=False)
    write_log(tmp_path / "road.hdf5", road_log(20))
    return tmp_path


def command(policy: str, name: str, updates: int = 4, *more: str) -> list[str]:
    small = (f"policy.{x}" for x in SMALL[policy])
    data = "data=file", "data.path=road.hdf5"
    return ["train", f"policy={policy}", *data, f"name={name}", f"updates={updates}", *SHORT, *small, *more]


def weights(name: str, updates: int = 4) -> bytes:
    return Path(f"runs/{name}/seed_0/checkpoints/{updates:09d}/model.safetensors").read_bytes()


# ---------------------------------------------------------------- help
@pytest.mark.parametrize("policy", [*schema.POLICIES, "fisor_official"])
def test_help_lists_the_settings_of_every_policy(capsys, policy):
    main(["train", f"policy={policy}", "--help"])
    text = capsys.readouterr().out
    settings = dict(re.findall(r"^  (policy\.\w+=\S+) +(\S.*)$", text, re.MULTILINE))
    assert any(x.startswith("policy.batch=") for x in settings)
    assert ("policy.limit=..." in settings) == (policy in schema.LIMITED)
    assert ("policy.teacher=..." in settings) == (policy == "one_step")
    assert "data.task=null" in text and "dsrl|" in text and "one_step|" in text


def test_help_of_a_policy_that_is_not_there(capsys):
    assert "policy=trebbi is unknown. Did you mean 'trebi'?" in refused(capsys, "train", "policy=trebbi", "--help")


def test_misspelt_settings(capsys):
    assert "Did you mean 'hidden'" in refused(capsys, "train", "policy=bc", "policy.hiden=3")
    assert "Did you mean 'teacher'" in refused(capsys, "train", "policy=one_step", "policy.teachr=x")
    assert "unknown setting 'limit' in 'policy'" in refused(capsys, "train", "policy=cdt", "policy.limit=3")


# ---------------------------------------------------------------- rivals
@pytest.mark.parametrize("policy", ["bc_safe", "cdt"])
def test_a_rival_trains_and_resumes_bit_for_bit(capsys, policy):
    main(command(policy, "whole"))
    assert last_line(capsys).startswith("results: runs/whole/seed_0/")
    for updates in (2, 4):
        main(command(policy, "halves", updates))
    assert weights("whole") == weights("halves") != weights("halves", 2)
    actor = safeplan.load("runs/whole/seed_0")
    assert actor.kind == policy and actor.settings.batch == (16 if policy == "bc_safe" else 8)
    state = actor.start(3, 6.0)
    actions, _ = actor.act(np.zeros((3, 2), np.float32), state, torch_rng(0))
    assert actions.shape == (3, 1) and (np.abs(actions) <= 1).all()


def test_a_run_keeps_to_its_limit(capsys):
    main(command("bc_safe", "t", 2))
    assert safeplan.load("runs/t/seed_0").facts.limit == 6.0
    assert "limit: 6.0 there, 7.0 here" in refused_lines(capsys, *command("bc_safe", "t", 2, "policy.limit=7"))
    main(command("bc_safe", "all", 2, "policy.limit=inf"))
    assert safeplan.load("runs/all/seed_0").facts.limit is None


# ---------------------------------------------------------------- distillation
def test_one_step_distils_a_run_or_a_file_and_resumes_bit_for_bit(capsys):
    main(command("fisor", "teacher", 2))
    run = "policy.teacher=runs/teacher/seed_0"
    main(command("one_step", "whole", 4, run))
    for updates in (2, 4):  # the same file, named in another way
        main(command("one_step", "halves", updates, f"{run}/checkpoints/000000002/model.safetensors"))
    assert weights("whole") == weights("halves") != weights("halves", 2)
    policy = safeplan.load("runs/whole/seed_0")
    assert policy.config.hidden == 8 and policy.teacher.config.candidates == 2
    assert policy.act(np.zeros((3, 2), np.float32), torch_rng(0)).shape == (3, 1)
    capsys.readouterr()
    main(command("fisor", "teacher", 4))  # it has learned more since
    assert "config.teacher.sha256: '" in refused_lines(capsys, *command("one_step", "whole", 6, run))


def test_a_log_may_be_called_anything(capsys, elsewhere):
    """The run is named after it."""
    from safeplan.cli.train import arguments

    words = ["policy=bc", "data=file", "data.path='my log (1).hdf5'"]
    assert arguments(words)[-1] == "name=train_${policy.kind}_my_log_1_"
    write_log(elsewhere / "my log (1).HDF5", road_log(20))
    small = (f"policy.{x}" for x in SMALL["bc_safe"])
    main(["train", "policy=bc_safe", "data=file", "data.path='my log (1).HDF5'", "updates=2", *SHORT, *small])
    assert (elsewhere / "runs/train_bc_safe_my_log_1_/seed_0/metrics.csv").is_file()


def test_teachers_that_are_none(capsys, elsewhere):
    def said(path: str) -> str:
        return refused(capsys, *command("one_step", "s", 2, f"policy.teacher={path}"))

    assert "checkpoint nowhere: no such file. Give a .safetensors file or the folder of a run" in said("nowhere")
    assert "no such file" in said(".")
    main(command("bc_safe", "clone", 2))
    assert "holds a model of kind 'bc_safe', expected 'fisor'" in said("runs/clone/seed_0")
    main(command("fisor", "teacher", 2))
    capsys.readouterr()
    damaged = bytearray(weights("teacher", 2))
    damaged[-1] ^= 1
    (elsewhere / "damaged.safetensors").write_bytes(damaged)
    assert "checkpoint damaged.safetensors: corrupt" in said("damaged.safetensors")
    five = np.ones((len(road_log(20)), 5), np.float32)
    wide = replace(road_log(20), observations=five, next_observations=five)
    write_log(elsewhere / "wide.hdf5", wide)
    argv = command("one_step", "s", 2, "policy.teacher=runs/teacher/seed_0", "data.path=wide.hdf5")
    assert "the log has 5 observations, the teacher 2" in refused(capsys, *argv)


# ---------------------------------------------------------------- DSRL
def dsrl(task: str, *more: str) -> list[str]:
    small = (f"policy.{x}" for x in SMALL["bc_safe"])
    return ["train", "policy=bc_safe", "data=dsrl", f"data.task={task}", "updates=2", *SHORT, *small, *more]


def test_a_task_of_dsrl_by_its_name(capsys, elsewhere):
    write_log(elsewhere / "dsrl" / "SafetyBallCircle-v0-80-886.hdf5", road_log(20))
    main(dsrl("BallCircle"))
    assert last_line(capsys).startswith("results: runs/train_bc_safe_dsrl_BallCircle/seed_0/")
    main(dsrl("BallCircle", "name=mine"))
    main(command("bc_safe", "file", 2))  # the same log as a file
    assert weights("train_bc_safe_dsrl_BallCircle", 2) == weights("mine", 2) == weights("file", 2)


def test_tasks_that_cannot_be_had(capsys, monkeypatch):
    assert "DSRL task 'BallCirle' is unknown. Did you mean 'BallCircle'?" in refused(capsys, *dsrl("BallCirle"))
    real = dsrl_files.download

    def offline(url: str, path: Path, **kw: str) -> str:
        return real(f"http://127.0.0.1:9/{Path(url).name}", path, **kw)

    monkeypatch.setattr(dsrl_files, "download", offline)
    monkeypatch.setenv("no_proxy", "*")
    err = refused(capsys, *dsrl("CarGoal1"))
    assert "cannot be downloaded" in err and "put SafetyCarGoal1Gymnasium-v0-120-1671.hdf5 from https://" in err
