"""scripts/fqe_bias.py on a walk whose truth is known: no bias for who drove the log, rows are kept, gaps are said."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from safeplan.baselines import offline
from safeplan.data import Log
from safeplan.errors import DataError
from safeplan.evaluation.rollout import rollout
from safeplan.evaluation.study import read_study
from safeplan.training import train

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
STEPS = 12  # of a logged episode, which then times out


def script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as it is found when a script is run from its folder
    spec.loader.exec_module(module)
    return module


methods, bench, fqe_bias, readme = map(script, ("dsrl_methods", "dsrl_bench", "fqe_bias", "make_readme_tables"))


class Walk(gym.Env):
    """x' = x / 2 + action / 2 + noise; the reward is x', the cost 1 where x' > 0. It never ends by itself."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1)
        return np.array([self.x]), {}

    def step(self, action):
        self.x = 0.5 * self.x + 0.5 * float(action[0]) + 0.2 * self.np_random.normal()
        return np.array([self.x]), self.x, False, False, {"cost": float(self.x > 0)}


class Driver:
    """Acts at random around `mean`."""

    def __init__(self, mean):
        self.mean = mean

    def start(self, episodes, limit):
        return None

    def act(self, obs, state, generator):
        noise = 0.4 * torch.rand((len(obs), 1), generator=generator).numpy() - 0.2
        return (self.mean + noise).astype(np.float32), state

    def record(self, state, rewards, costs):
        return state


def driven(actor, episodes):
    rows, generator = [], torch.Generator().manual_seed(0)
    for i in range(episodes):
        env = Walk()
        obs, _ = env.reset(seed=i)
        for k in range(STEPS):
            action = actor.act(obs[None], None, generator)[0][0]
            after, reward, _, _, info = env.step(action)
            rows.append((obs, after, action, reward, info["cost"], k == STEPS - 1))
            obs = after
    obs, after, actions, rewards, costs, end = (np.array(c) for c in zip(*rows, strict=True))
    numbers = [v.astype(np.float32) for v in (obs, after, actions, rewards, costs)]
    return Log(*numbers, np.zeros(len(end), bool), end.astype(bool))


DRIVER = Driver(0.4)
LOG = driven(DRIVER, 80)


class Bench(bench.Bench):
    """The real one, on the walk's log; every method acts as the driver that made the log."""

    def log(self, task):
        return LOG

    def actor(self, task, method, policy):
        return DRIVER


class Judge(fqe_bias.Judge):
    called = 0

    def envs(self, task, steps):
        return [Walk() for _ in range(10)]

    def __call__(self, planner, seed):
        type(self).called += 1
        return super().__call__(planner, seed)


@pytest.fixture
def go(tmp_path, monkeypatch):
    small = {"updates": 250, "batch": 128, "hidden": 16, "lr": 5e-3, "target_rate": 0.2, "members": 6}
    monkeypatch.setattr(fqe_bias, "FQE", small)
    monkeypatch.setattr(Judge, "called", 0)

    def run(*more):
        argv = ["--gamma", "0.8", "--fqe-updates", "250", "--flights", "100", "--episodes", "70", "--updates", "3"]
        places = ["--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
        return fqe_bias.main([*argv, *places, *more], Bench, Judge)

    return run


def trained(tmp_path, method="bc", folder="BallCircle/BC", updates=3, known=True):
    """A run as dsrl_table.py leaves it."""
    runs = tmp_path / "runs" / "bullet"
    learner, source = offline.make(method, LOG, 1000.0, hidden=8)
    train(learner, source, runs / folder / "seed_0", updates=updates, seed=0)
    if known:
        (runs / folder).parent.joinpath("seconds_per_update.json").write_text(
            '{"FISOR": 1.0, "BC": 1.0, "BC-Safe": 1.0}'
        )


def result(tmp_path):
    summary = json.loads((tmp_path / "out" / "fqe_bias.json").read_text())
    return summary, {f"{c['task']}/{c['method']}": c for c in summary["cells"]}


def test_who_drove_the_log_is_judged_without_bias(tmp_path, go):
    trained(tmp_path)
    assert go() == 0
    summary, cells = result(tmp_path)
    signals = cells["BallCircle/BC"]["signals"]
    assert summary["settings"]["steps"] == 21 and summary["made_with"]["device"] == "cpu"
    e = rollout([Walk() for _ in range(50)], DRIVER, episodes=400, limit=0, seed=9, max_steps=60, gamma=0.8)
    # x settles at 0.4 (reward), and the driver is above 0 most of the time (cost)
    for name, truth in (("rewards", e.returns.mean()), ("costs", e.costs.mean())):
        assert signals[name]["truth"]["estimate"] == pytest.approx(truth, rel=0.12)
        assert abs(signals[name]["bias"]["estimate"]) < 0.12 * truth
        assert signals[name]["bias"]["low"] < 0.05 * truth and signals[name]["bias"]["high"] > -0.05 * truth
    row = read_study(tmp_path / "out" / "fqe_bias.study.jsonl", fqe_bias.KINDS)[1][0]
    assert len(row["signals"]["costs"]["flown"]) == 100 and row["episodes"] == 70


def test_a_row_is_not_made_twice_and_new_runs_join(tmp_path, go):
    trained(tmp_path)
    assert go() == 0 and go() == 0 and Judge.called == 1
    trained(tmp_path, "bc_safe", "BallCircle/BC-Safe")
    trained(tmp_path, folder="CarRun/BC")
    assert go("--methods", "BC-Safe") == 0 and Judge.called == 2
    assert [k for k, c in result(tmp_path)[1].items() if "signals" in c] == ["BallCircle/BC", "BallCircle/BC-Safe"]
    assert result(tmp_path)[1]["CarRun/BC"]["why"] == "not asked for"
    assert go("--tasks", "CarRun") == 0 and Judge.called == 3
    assert "| CarRun, BC | 0 |" in readme.table("fqe_bias", tmp_path / "out")


def test_what_is_missing_is_said(tmp_path, go, capsys):
    assert go() == 0 and Judge.called == 0
    _, cells = result(tmp_path)
    assert list(cells) == [f"{t}/{m}" for t in ("BallCircle", "CarCircle") for m in fqe_bias.JUDGED]
    assert {c["why"] for c in cells.values()} == {"no checkpoint"}
    trained(tmp_path, updates=2)
    trained(tmp_path, "bc_safe", "CarCircle/BC-Safe", known=False)
    trained(tmp_path, folder="BallCircle/FISOR", updates=1)
    assert go() == 0 and Judge.called == 0
    cells = result(tmp_path)[1]
    assert cells["BallCircle/BC"]["why"] == "2 of 3 updates" and cells["BallCircle/FISOR"]["why"] == "1 of 3 updates"
    assert cells["CarCircle/BC-Safe"]["why"] == "nobody measured how many updates it gets"
    assert "BallCircle/BC, seed 0: not run (2 of 3 updates)" in capsys.readouterr().out
    text = readme.table("fqe_bias", tmp_path / "out")
    assert text.count("| not run |") == 10 and "0 of 0 policies" in text


def test_rows_outlive_their_runs_but_not_a_change_of_them(tmp_path, go, capsys):
    trained(tmp_path)
    assert go() == 0
    file = next((tmp_path / "runs").rglob("model.safetensors"))
    whole = file.read_bytes()
    file.write_bytes(whole + b" ")
    assert go() == 2
    assert "the row of BallCircle/BC, seed 0 was made from other weights" in capsys.readouterr().err
    file.unlink()
    assert go() == 0 and "signals" in result(tmp_path)[1]["BallCircle/BC"]


def test_refusals(tmp_path, go, capsys, monkeypatch):
    trained(tmp_path)
    assert go("--gamma", "1") == 2 and "gamma" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        go("--methods", "CDT")
    assert "unknown method 'CDT'" in capsys.readouterr().err

    def gone(self, task):
        raise DataError("no log")

    monkeypatch.setattr(Bench, "log", gone)
    assert go() == 2 and capsys.readouterr().err == "error: no log\n"
    work = Bench(replace(methods.SUITES["bullet"]), tmp_path, tmp_path / "runs" / "bullet")
    assert Judge(work, None, 1, 1).lacking("BallCircle", "BC", 0).endswith("of 10000 updates")
