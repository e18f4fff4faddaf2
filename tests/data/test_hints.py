"""Hints name what deserves a look and never refuse a log."""

import numpy as np
import pytest

from safeplan.data import faults, hints, read_log, write_log
from safeplan.data.hdf5 import Log
from tests.data.test_hdf5 import make


def apart(lengths: tuple[int, ...] = (5, 5, 2), seed: int = 0) -> dict[str, np.ndarray]:
    """Columns of episodes that start anew each time, with costs in some rows: nothing to hint at."""
    rng = np.random.default_rng(seed)
    n, stops = sum(lengths), np.cumsum(lengths) - 1
    following = rng.normal(size=(n, 3)).astype(np.float32)
    observations = rng.normal(size=(n, 3)).astype(np.float32)
    inside = np.setdiff1d(np.arange(n - 1), stops)
    observations[inside + 1] = following[inside]
    timeouts = np.zeros(n, bool)
    timeouts[stops] = True
    actions = rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    rewards, costs = rng.normal(size=n).astype(np.float32), (np.arange(n) % 3 == 0).astype(np.float32)
    values = (observations, following, actions, rewards, costs, np.zeros(n, bool), timeouts)
    return dict(Log(*values).columns)


def copy_episode(c):
    for key, value in c.items():
        c[key] = np.concatenate([value, value[5:10]])


HINTS = {  # what is odd -> how it is made, words about it
    "cut off": (lambda c: c["timeouts"].__setitem__(-1, False), "the last episode has no end mark: rows 10 to 11"),
    "single": (lambda c: c["timeouts"].__setitem__(10, True), "episodes are one row long, first row 10"),
    "both": (lambda c: c["terminals"].__setitem__(4, True), "1 rows are both terminal and time-out, first row 4"),
    "goes on": (
        lambda c: c["timeouts"].__setitem__(1, True),
        "1 of 3 episodes go on in the next one, first after row 1",
    ),
    "constant": (lambda c: c["actions"].__setitem__((slice(None), 1), 0.5), "'actions' never changes (entries 1 of 2)"),
    "flat": (lambda c: c["rewards"].fill(2.0), "'rewards' never changes (2)"),
    "no cost": (lambda c: c["costs"].fill(0.0), "no row costs anything"),
    "all cost": (lambda c: c["costs"].fill(1.0), "every row costs something"),
    "copies": (copy_episode, "1 of 4 episodes are copies of others, first of episode 1"),
    "gap": (lambda c: c.update(episode=np.repeat([0, 1, 3], [5, 5, 2])), "'episode' leaves out numbers, first after 1"),
}


@pytest.mark.parametrize("name", HINTS)
def test_every_oddity_is_named_and_read_all_the_same(tmp_path, name):
    assert hints(apart()) == []
    change, words = HINTS[name]
    odd = apart()
    change(odd)
    found = hints(odd)
    assert sum(words in f for f in found) == 1, found
    assert faults(odd) == []
    keys = ("observations", "next_observations", "actions", "rewards", "costs", "terminals", "timeouts")
    log = Log(*(odd.pop(k) for k in keys), extra=odd)
    assert read_log(write_log(tmp_path / "log.hdf5", log)).digest()


def test_a_log_without_marks_is_one_episode():
    log = make(12, ())
    assert any("all 12 rows count as one unfinished episode" in f for f in hints(log.columns))


def test_copies_agree_with_a_set():
    rng = np.random.default_rng(1)
    parts = [
        apart((int(k),), seed=int(s)) for k, s in zip(rng.integers(1, 4, 300), rng.integers(0, 40, 300), strict=True)
    ]
    joined = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    distinct = {(p["observations"].tobytes(), p["actions"].tobytes()) for p in parts}
    (found,) = [f for f in hints(joined) if "copies" in f]
    assert found.startswith(f"{300 - len(distinct)} of 300 ")


def test_hints_survive_faults():
    bad = apart()
    bad["costs"][:] = 0.0
    bad["rewards"] = np.array([b"x"] * 12)
    del bad["terminals"]
    assert hints(bad) == ["no row costs anything: nothing here tells safe from unsafe"]
    assert hints({}) == []


@pytest.mark.parametrize(("offset", "lost"), [(0.0, False), (1e3, False), (5e6, True)])
def test_digits_that_float32_rounds_away_are_told(offset, lost):
    wide = {k: v.astype(np.float64) for k, v in apart().items()}
    for key in ("observations", "next_observations"):
        wide[key][:, 1] += offset
    found = [f for f in hints(wide) if "float32" in f]
    assert len(found) == lost
    assert not lost or "'observations' loses digits in float32 (entries 1 of 3)" in found[0]
    assert hints({k: v.astype(np.float32) for k, v in wide.items()}) == [] or offset  # in float32 they are gone already


@pytest.mark.parametrize("value", [1e308, np.nan, np.inf, 1e39])
def test_what_no_float32_holds_is_left_to_the_faults(value):
    wide = {k: v.astype(np.float64) for k, v in apart().items()}
    wide["rewards"][:] = value
    assert not any("float32" in f for f in hints(wide)) and any("rewards" in f for f in faults(wide))
