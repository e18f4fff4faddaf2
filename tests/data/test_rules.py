"""Bad logs: each fault ends in one error that names the key, the row and the remedy; a sound log has none."""

import time

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeplan.data import KEYS, faults, read_log, write_log
from safeplan.data.order import broken_chain, follows
from safeplan.errors import DataError
from tests.data.test_hdf5 import make


def columns(n: int = 12, ends: tuple[int, ...] = (4, 9)) -> dict[str, np.ndarray]:
    """Sound columns that may be spoiled."""
    return {k: v.copy() for k, v in make(n, ends).columns.items()}


def put(key, index, value, dtype=None):
    def change(c):
        c[key] = c[key].astype(dtype or c[key].dtype)
        c[key][index] = value

    return change


def swap(i, j):
    """Rows `i` and `j` change places, in every column."""

    def change(c):
        for value in c.values():
            value[[i, j]] = value[[j, i]]

    return change


def empty(c):
    c.update({k: v[:0] for k, v in c.items()})


FAULTS = {  # what is wrong -> how it is made, words of the one sentence about it
    "nan": (
        put("observations", (7, 1), np.nan),
        ("'observations' holds NaN", "in 1 of 12 rows, first in row 7", "drop"),
    ),
    "infinity": (put("rewards", 3, np.inf), ("'rewards' holds NaN or infinity", "row 3", "drop those episodes")),
    "beyond float32": (put("rewards", 3, 1e39, np.float64), ("'rewards' exceeds 3.4e+38", "row 3", "change the unit")),
    "infinite half": (put("costs", 3, np.inf, np.float16), ("'costs' holds NaN or infinity", "row 3", "drop")),
    "nan in a flag": (put("timeouts", 2, np.nan, np.float32), ("'timeouts' holds NaN", "row 2", "drop")),
    "zero length: no rows": (empty, ("no rows", "zero length", "record at least one step")),
    "zero length: an entry": (
        lambda c: c.update(episode_lengths=np.array([5, 0, 5, 2])),
        ("'episode_lengths' holds 1 episodes of zero length, first episode 1 (0 rows)", "leave them out"),
    ),
    "lengths": (
        lambda c: c.update(episode_lengths=np.array([5, 4, 3])),
        ("'episode_lengths' and the end marks", "episode 1", "correct the one"),
    ),
    "unsorted rows": (swap(6, 8), ("'next_observations' is not the observation of the following row", "sort the rows")),
    "unsorted time": (
        lambda c: c.update(time=np.array([0, 1, 2, 4, 3, 0, 1, 2, 3, 4, 0, 1])),
        ("'time' runs backwards", "in 1 of 12 rows, first after row 3 (4, then 3)", "sort the rows"),
    ),
    "unsorted episodes": (
        lambda c: c.update(episode=np.array([0] * 5 + [1] * 5 + [0] * 2)),
        ("'episode': episode 0 comes back in row 10", "sort the rows"),
    ),
    "unmarked end": (
        lambda c: c.update(episode=np.array([0] * 2 + [1] * 3 + [2] * 5 + [3] * 2)),
        ("'episode' changes after 1 rows that are no end", "first after row 1", "mark the last row"),
    ),
    "numbered on": (
        lambda c: c.update(episode=np.array([0] * 10 + [1] * 2)),
        ("'episode' goes on after 1 rows that are an end", "first after row 4", "number the episodes anew"),
    ),
    "text": (lambda c: c.update(rewards=np.array([b"1.0"] * 12)), ("'rewards' has type |S3", "convert it")),
    "complex": (put("costs", 0, 1j, np.complex64), ("'costs' has type complex64, expected numbers", "convert it")),
    "half a flag": (put("timeouts", 2, 0.5, np.float32), ("'timeouts' is neither 0 nor 1", "row 2 (0.5)", "as bool")),
    "counting flag": (put("terminals", 8, 2, np.int64), ("'terminals' is neither 0 nor 1", "row 8 (2)", "as bool")),
    "negative cost": (put("costs", 6, -0.5), ("'costs' is negative in 1 of 12 rows, first in row 6 (-0.5)", "sign")),
    "missing terminals": (lambda c: c.pop("terminals"), ("'terminals' is missing", "the file must hold")),
    "missing timeouts": (lambda c: c.pop("timeouts"), ("'timeouts' is missing", "the file must hold")),
    "action range": (
        put("actions", (5, 1), -9.0),
        ("'actions' is outside [-1, 1]", "row 5 (entry 1: -9)", "action_low"),
    ),
    "no columns": (lambda c: c.update(actions=c["actions"][:, :0]), ("'actions'", "no column at all", "record")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_one_clear_sentence(tmp_path, name):
    change, words = FAULTS[name]
    bad = columns()
    change(bad)
    found = faults(bad)
    assert len(found) == 1 and all(w in found[0] for w in words), found
    with h5py.File(tmp_path / "bad.hdf5", "w") as file:
        for key, value in bad.items():
            file[key] = value
    with pytest.raises(DataError) as caught:
        read_log(tmp_path / "bad.hdf5")
    assert str(caught.value) == f"log {tmp_path / 'bad.hdf5'}: 1 fault(s):\n  - {found[0]}"


def test_a_sound_log_has_no_faults():
    assert faults(columns()) == [] and faults(columns(1, ())) == []
    whole = columns() | {"episode_lengths": np.array([5, 5, 2]), "time": np.arange(12), "episode": np.arange(12) // 5}
    assert faults(whole) == []


def test_faults_do_not_hide_each_other():
    bad = columns()
    for name in ("nan", "unsorted rows", "negative cost", "half a flag", "action range", "missing terminals"):
        FAULTS[name][0](bad)
    found = faults(bad)
    assert len(found) == 5  # without terminals nothing can be said about order
    assert [any(w in f for f in found) for w in ("missing", "NaN", "negative", "neither", "[-1, 1]")] == [True] * 5


def test_without_any_mark_the_jumps_say_so():
    bad = columns(ends=())
    bad["observations"][6:] += 5.0
    (found,) = faults(bad)
    assert "no row is marked as the end" in found and "row 5" in found and "mark the last row of each" in found


def test_a_mark_before_the_jump_mends_it():
    good = columns()
    swap(6, 8)(good)
    jumps = [i for i in range(11) if not np.allclose(good["next_observations"][i], good["observations"][i + 1])]
    good["timeouts"][jumps] = True
    assert faults(good) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(0, 6))
def test_the_chain_agrees_with_a_loop(seed, n, broken):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + 1, 2)) * [1.0, 100.0]
    a, b = x[:-1].copy(), x[1:].astype(np.float32)  # the file may mix precisions
    rows = rng.choice(n, min(broken, n), replace=False)
    b[rows, rng.integers(0, 2)] += 50.0
    end = rng.random(n) < 0.2
    slow = [i for i in range(n - 1) if not np.allclose(b[i], a[i + 1], rtol=1e-5, atol=1e-4)]
    assert np.flatnonzero(~follows(a, b)).tolist() == slow
    inside = [i for i in slow if not end[i]]
    found = broken_chain(a, b, end)
    assert len(found) == bool(inside)
    if inside:
        assert f"in {len(inside)} of {n} rows, first in row {inside[0]} " in found[0]


def test_whole_numbers_do_not_wrap_around():
    x = np.array([[0], [255], [3], [255]], np.uint8)
    assert follows(x[:-1], x[1:]).all()
    assert not follows(x[:-1], np.array([[255], [2], [0]], np.uint8))[1]
    assert follows(x[:-1].astype(bool), x[1:].astype(bool)).all()


def test_a_million_rows_take_seconds():
    n, rng = 1_000_000, np.random.default_rng(0)
    x = rng.standard_normal((n + 1, 17), np.float32)
    log = {k: np.zeros(n, np.float32) for k in KEYS}
    log |= {"observations": x[:-1], "next_observations": x[1:], "actions": rng.random((n, 6), np.float32)}
    log |= {"timeouts": np.arange(n) % 1000 == 999}
    began = time.process_time()
    assert faults(log) == []
    assert time.process_time() - began < 5.0


def test_written_logs_obey_the_same_rules(tmp_path):
    bad = make()
    bad.costs[3] = -1.0
    with pytest.raises(DataError, match="'costs' is negative in 1 of 12 rows, first in row 3"):
        write_log(tmp_path / "log.hdf5", bad)
    assert not list(tmp_path.iterdir())
