"""The DSRL layout: what goes in comes out, and every fault is named at once with its remedy."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from safeplan.data import KEYS, Log, concatenate, read_log, write_log
from safeplan.errors import DataError
from tests.data.damage import damaged


def make(n: int = 12, ends: tuple[int, ...] = (4, 9), **extra: np.ndarray) -> Log:
    rng = np.random.default_rng(n)
    timeouts = np.zeros(n, bool)
    timeouts[list(ends)] = True
    obs = rng.normal(size=(n + 1, 3)).astype(np.float32)
    return Log(
        obs[:-1],
        obs[1:],
        rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        rng.normal(size=n).astype(np.float32),
        (rng.random(n) > 0.5).astype(np.float32),
        np.zeros(n, bool),
        timeouts,
        extra=extra,
        attrs={"seed": 3, "origin": "test"},
    )


def test_round_trip_with_extra_columns_and_notes(tmp_path):
    log = make(h=np.linspace(-1, 1, 12).astype(np.float32))
    back = read_log(write_log(tmp_path / "deep" / "log.hdf5", log))
    for key, value in log.columns.items():
        assert back.columns[key].dtype == value.dtype
        np.testing.assert_array_equal(back.columns[key], value)
    assert back.attrs == {"seed": 3, "origin": "test"}
    assert back.digest() == log.digest() != make().digest()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["log.hdf5"]


def test_columns_are_squeezed_and_cast(tmp_path):
    log, path = make(), tmp_path / "wide.hdf5"
    with h5py.File(path, "w") as file:
        for key, value in log.columns.items():
            wide = value.astype(np.float64)
            file[key] = wide if wide.ndim == 2 else wide[:, None]
        file["names"] = np.array([b"a"] * 12)  # not numbers, not ours: ignored
        file["matrix"] = np.zeros((12, 4))
    back = read_log(path)
    assert back.rewards.shape == (12,) and back.rewards.dtype == np.float32
    assert back.timeouts.dtype == bool and not back.extra
    assert back.digest() == log.digest()


def test_episodes_and_ends():
    log = make()
    assert log.episodes.tolist() == [[0, 5], [5, 10], [10, 12]]  # the last one is unfinished
    assert np.flatnonzero(log.ends).tolist() == [4, 9]
    assert make(10).episodes.tolist() == [[0, 5], [5, 10]]


def test_concatenate_closes_open_episodes():
    joined = concatenate([make(), make(10)])
    assert joined.episodes.tolist() == [[0, 5], [5, 10], [10, 12], [12, 17], [17, 22]]
    numbered = replace(make(), extra={"episode": np.cumsum(np.r_[0, make().ends[:-1]]).astype(np.float32)})
    assert concatenate([numbered, numbered]).extra["episode"][[0, 11, 12, 23]].tolist() == [0, 2, 3, 5]
    with pytest.raises(DataError, match="no logs"):
        concatenate([])
    with pytest.raises(DataError, match="'observations' have 3 and 4 entries"):
        wide = np.zeros((len(make()), 4), np.float32)
        concatenate([make(), replace(make(), observations=wide, next_observations=wide)])


@pytest.mark.parametrize("key", KEYS)
def test_missing_key_is_named(tmp_path, key):
    path = write_log(tmp_path / "log.hdf5", make())
    with h5py.File(path, "a") as file:
        del file[key]
    with pytest.raises(DataError, match=f"key '{key}' is missing"):
        read_log(path)


def test_all_faults_in_one_error(tmp_path):
    path = write_log(tmp_path / "log.hdf5", make())
    with h5py.File(path, "a") as file:
        del file["rewards"], file["costs"], file["actions"], file["next_observations"], file["timeouts"]
        file["costs"] = np.zeros(11)
        file["actions"] = np.zeros(12)
        file["next_observations"] = np.zeros((12, 4))
        file["timeouts"] = np.array([b"x"] * 12)
        file["observations"][7, 1] = np.nan
        file["observations"][9, 0] = np.inf
    with pytest.raises(DataError) as e:
        read_log(path)
    text = str(e.value)
    for part in (
        "6 fault(s)",
        "'rewards' is missing",
        "'costs' has 11 rows, expected 12",
        "'actions' has shape (12,), expected (N, size)",
        "'next_observations' has 4 columns, 'observations' has 3",
        "'timeouts' has type",
        "'observations' holds NaN or infinity in 2 of 12 rows, first in row 7",
    ):
        assert part in text, text


def test_unreadable_absent_and_grouped(tmp_path):
    (tmp_path / "junk.hdf5").write_bytes(b"not hdf5 at all")
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        read_log(tmp_path / "junk.hdf5")
    with pytest.raises(DataError, match="no such file"):
        read_log(tmp_path / "nowhere.hdf5")
    (tmp_path / "folder.hdf5").mkdir()
    with pytest.raises(DataError, match="a folder"):
        read_log(tmp_path / "folder.hdf5")
    path = write_log(tmp_path / "log.hdf5", make())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError):
        read_log(path)
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file.create_group("rewards")
    with pytest.raises(DataError, match="'rewards' is a group"):
        read_log(tmp_path / "empty.hdf5")


@pytest.mark.parametrize("seed", range(4))
def test_damage_anywhere_is_one_error(tmp_path, seed):
    """Bytes changed at random: read as before, or refused; never anything else."""
    path, refused = write_log(tmp_path / "log.hdf5", make()), 0
    for _ in damaged(path, seed):
        try:
            read_log(path)
        except DataError:
            refused += 1
    assert refused > 5


def test_notes_that_are_none_and_links_that_lead_nowhere(tmp_path):
    path = write_log(tmp_path / "log.hdf5", replace(make(), attrs={"seed": 3}))
    with h5py.File(path, "a") as file:
        file.attrs["nothing"] = h5py.Empty("f")
        file.attrs["pointer"] = file["rewards"].ref
        file.attrs["raw"] = np.bytes_("text")
    assert read_log(path).attrs == {"seed": 3, "raw": "text"}
    with h5py.File(path, "a") as file:
        del file["costs"]
        file["costs"] = h5py.SoftLink("/gone")
    with pytest.raises(DataError, match="'costs' leads nowhere"):
        read_log(path)


def test_names_that_no_file_takes(tmp_path):
    with pytest.raises(DataError, match="'a/b' cannot be the name of an array"):
        write_log(tmp_path / "log.hdf5", replace(make(), extra={"a/b": make().rewards}))


def test_a_faulty_log_is_not_written(tmp_path):
    log = make()
    rewards = log.rewards.copy()
    rewards[5] = np.nan
    with pytest.raises(DataError, match=r"'rewards' holds NaN or infinity in 1 of 12 rows, first in row 5"):
        write_log(tmp_path / "log.hdf5", replace(log, rewards=rewards))
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(DataError, match=r"cannot be written.*may be written"):
        write_log(tmp_path / "file" / "log.hdf5", make())
    assert (tmp_path / "file").read_text() == "kept" and len(list(tmp_path.iterdir())) == 1
