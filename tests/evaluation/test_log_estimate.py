"""Estimates from a log: who acts like the driver gets the same, strangers are told apart, memory is refused."""

import json

import numpy as np
import pytest

from safeplan.baselines.offline import make
from safeplan.cli.main import main
from safeplan.data import Log, write_log
from safeplan.errors import ConfigError
from safeplan.evaluation.fqe import Choices, FqeConfig
from safeplan.evaluation.log_estimate import acting, estimate, flown_on, unlike
from safeplan.feasibility import FisorConfig, FisorPolicy
from safeplan.feasibility.one_step import OneStepConfig, OneStepPolicy
from safeplan.rng import torch_rng
from safeplan.training import fisor_from_log, train

FAST = FqeConfig(gamma=0.8, members=4, updates=300, batch=128, hidden=32, lr=5e-3)
TINY = FisorConfig(batch=64, hidden=8, actor_width=8, actor_blocks=1, candidates=2)


def drives(mean: float, episodes: int = 60, steps: int = 20) -> Log:
    """x' = x / 2 + a / 2; the reward is the action, the cost 1 where it is above 0; all time out."""
    rng = np.random.default_rng(0)
    x, rows = rng.uniform(-1, 1, episodes), []
    for _ in range(steps):
        a = np.clip(mean + 0.1 * rng.normal(size=episodes), -1, 1)
        rows.append((x, a, 0.5 * x + 0.5 * a))
        x = rows[-1][2]
    x, a, y = (np.stack(v, 1).reshape(-1, 1).astype(np.float32) for v in zip(*rows, strict=True))
    end = np.tile(np.arange(steps) == steps - 1, episodes)
    return Log(x, y, a, a[:, 0], (a[:, 0] > 0).astype(np.float32), np.zeros_like(end), end)


class Driver(FisorPolicy):
    """Acts around `mean`, whatever it learned."""

    mean = 0.4

    def act(self, obs, generator, **kw):
        return np.clip(self.mean + 0.1 * np.random.default_rng(0).normal(size=(len(obs), 1)), -1, 1)


def test_the_driver_itself_gets_what_it_got():
    log, driver = drives(0.4), Driver(1, 1, TINY)
    found = estimate(driver, log, FAST)
    assert found.policy["rewards"].estimate == pytest.approx(0.4 / 0.2, rel=0.1)
    assert found.driver["rewards"].estimate == pytest.approx(0.4 / 0.2, rel=0.02)  # as if it had flown on
    assert found.policy["costs"].estimate == pytest.approx(5.0, rel=0.05) and found.unlike < 0.03
    driver.mean = -0.6
    other = estimate(driver, log, FAST)
    assert other.unlike > 0.9 and other.chance == 1 / 61
    assert json.dumps(other.to_dict())


def test_unlike_is_judged_state_by_state_and_on_episodes_held_out():
    """Actions that the log has elsewhere, with its own states all known: as far from what is done there as can be."""
    rng = np.random.default_rng(1)
    x = np.repeat(rng.uniform(-1, 1, (150, 1)), 10, 0) + 0.01 * rng.normal(size=(1500, 1))
    a = np.where(x > 0, 0.5, -0.5) + 0.1 * rng.normal(size=x.shape)
    end = np.tile(np.arange(10) == 9, 150)
    x, a, zero = x.astype(np.float32), a.astype(np.float32), np.zeros(1500, np.float32)
    log = Log(x, np.roll(x, -1, 0), a, zero, zero, np.zeros_like(end), end)
    after = np.roll(a, -1, 0)
    begun = a[::10]
    assert unlike(log, Choices(after, begun)) == (pytest.approx(0.01, abs=0.008), 0.01)
    assert unlike(log, Choices(-after, begun))[0] > 0.85
    uniform = rng.uniform(-1, 1, after.shape).astype(np.float32)
    assert unlike(log, Choices(uniform, begun))[0] > 0.4


def test_only_what_timed_out_is_flown_on():
    log = drives(0.4, episodes=2, steps=3)
    log.terminals[2], log.timeouts[2] = True, False
    a = log.rewards.astype(float)
    ended, timed = (a[i : i + 3] @ [1, 0.5, 0.25] for i in (0, 3))
    np.testing.assert_allclose(flown_on(log, "rewards", 0.5), [ended, timed * 2 / 1.75], rtol=1e-6)


def test_which_policies_can_be_asked():
    log = drives(0.4)
    obs, g = log.observations[:5], torch_rng(0)
    for name in ("bc", "cpq"):
        assert acting(make(name, log, 3.0)[0])(obs, g).shape == (5, 1)
    policy = FisorPolicy(1, 1, TINY)
    assert acting(OneStepPolicy(policy, OneStepConfig(hidden=8)))(obs, g).shape == (5, 1)
    with pytest.raises(ConfigError, match="what is left of a budget"):
        acting(FisorPolicy(2, 1, FisorConfig(hidden=8, actor_width=8, budget=5.0)))
    with pytest.raises(ConfigError, match="cdt remembers its episode"):
        acting(make("cdt", log, 3.0)[0])
    with pytest.raises(ConfigError, match="str does not choose actions of a log"):
        acting("me")


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = write_log(tmp_path / "drives.hdf5", drives(0.4))
    learner, source = fisor_from_log(drives(0.4), TINY)
    train(learner, source, tmp_path / "run", updates=2, checkpoint_every=2)
    main(["data", "estimate", str(path), "run=run", "gamma=0.8", "updates=200"])
    out = capsys.readouterr().out
    assert out.startswith("From 60 episodes, discounted by 0.8: return ") and "(1.6% would be chance)" in out
    folder = tmp_path / "runs" / "estimate_drives"
    found = json.loads((folder / "estimate.json").read_text())
    assert found["policy"]["costs"]["low"] < found["policy"]["costs"]["high"] and found["run"] == "run"
    assert (folder / "estimate.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        main(["data", "estimate", str(path), "run=nowhere"])
    assert "nowhere" in capsys.readouterr().err
