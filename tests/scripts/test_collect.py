"""scripts/collect.py: a readable log with safe and unsafe episodes, resumed where it was stopped."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from safeplan.data.hdf5 import read_log

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "collect.py"
spec = importlib.util.spec_from_file_location("collect", SCRIPT)
collect = importlib.util.module_from_spec(spec)
spec.loader.exec_module(collect)


def run(path, episodes, env="point_robot", *more):
    return collect.main(
        ["--env", env, "--episodes", str(episodes), "--out", str(path), "--processes", "1", *map(str, more)]
    )


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(collect, "SHARD", 6)


def test_log_holds_safe_and_unsafe_episodes(tmp_path, capsys):
    path = tmp_path / "log.hdf5"
    assert run(path, 24) == 0
    log = read_log(path)
    hit = [bool((log.costs[a:b] > 0).any()) for a, b in log.episodes]
    assert len(hit) == 24 and 0 < sum(hit) < 24
    assert abs(log.actions).max() <= 1 and log.ends[-1]
    assert np.array_equal(log.costs > 0, log.extra["h"] > 0)
    for a, b in log.episodes:  # in time order
        assert np.array_equal(log.observations[a + 1 : b], log.next_observations[a : b - 1])
    words = capsys.readouterr().out
    assert "24 episodes" in words and words.strip().endswith(str(path))


def test_stopped_run_continues_and_ends_with_the_same_log(tmp_path, monkeypatch, capsys):
    whole, broken = tmp_path / "whole.hdf5", tmp_path / "broken.hdf5"
    run(whole, 12)
    real, made = collect.collect, []

    def stop_at_the_second(*job):
        if made:
            raise KeyboardInterrupt
        made.append(job[-2])
        return real(*job)

    monkeypatch.setattr(collect, "collect", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(broken, 12)
    assert not broken.exists()
    monkeypatch.setattr(collect, "collect", lambda *job: (made.append(job[-2]), real(*job))[1])
    run(broken, 12)
    assert made == [0, 6]
    assert read_log(broken).digest() == read_log(whole).digest()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.hdf5", "whole.hdf5"]
    capsys.readouterr()
    run(broken, 12)
    assert "already complete" in capsys.readouterr().out and made == [0, 6]


@pytest.mark.parametrize("env", ["hovercraft", "driving"])
def test_the_other_environments_log_too(tmp_path, env):
    path = tmp_path / "log.hdf5"
    assert run(path, 2, env, "--seed", 4) == 0
    log = read_log(path)
    assert len(log.episodes) == 2 and log.attrs["env"] == env


def test_bad_difficulty_is_one_clear_error(tmp_path, capsys):
    assert run(tmp_path / "log.hdf5", 2, "point_robot", "--difficulty", 1, 5) == 2
    assert "difficulty" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(tmp_path / "log.hdf5", 0)
