"""Import: every format gives the same log again; what is not known is asked for, what is wrong ends in one error."""

import zipfile

import h5py
import numpy as np
import pytest

from safeplan.data import faults, read_log, write_log
from safeplan.data.hdf5 import Log
from safeplan.errors import ConfigError, DataError
from tests.data.damage import damaged
from tests.data.foreign import (
    LENGTHS,
    load,
    same,
    sample,
    table,
    with_next,
    without_last,
    write_csv,
    write_d4rl,
)


def refused(source: str, **settings) -> str:
    with pytest.raises(DataError) as caught:
        load(source, **settings)
    return str(caught.value)


@pytest.fixture
def log() -> Log:
    return sample()


# ---------------------------------------------------------------- the same log again
def test_csv_with_next_observations_is_the_same_log(tmp_path, log):
    for name, separator in (("a.csv", ","), ("b.csv", ";"), ("c.tsv", "\t")):
        made = load(write_csv(tmp_path / name, with_next(log), separator))
        same(made.log, log)
        assert made.log.extra["episode"].tolist() == np.repeat(range(4), LENGTHS).tolist()
        same(read_log(write_log(tmp_path / "log.hdf5", made.log)), log)
    assert made.names["observations"] == ["obs_0", "obs_1", "obs_2"] and made.names["terminals"] == ["terminated"]


def test_csv_without_them_drops_what_nothing_is_known_of(tmp_path, log):
    made = load(write_csv(tmp_path / "a.csv", table(log)))
    same(made.log, without_last(log))
    assert len(made.log) == len(log) - 3 and faults(made.log.columns) == []
    assert any("last rows of 3 episodes" in n and "1 terminal rows keep" in n for n in made.notes)


def test_npz_of_the_seven_keys_and_of_d4rl(tmp_path, log):
    np.savez(tmp_path / "seven.npz", **log.columns)
    same(load(str(tmp_path / "seven.npz")).log, log)
    d4rl = {k: log.columns[k] for k in ("observations", "actions", "rewards", "costs", "terminals", "timeouts")}
    np.savez(tmp_path / "d4rl.npz", **d4rl)
    same(load(str(tmp_path / "d4rl.npz")).log, without_last(log))


def test_hdf5_of_d4rl_and_of_ours(tmp_path, log):
    made = load(write_d4rl(tmp_path / "d4rl.hdf5", log))
    same(made.log, without_last(log))
    assert made.names["costs"] == ["infos/cost"] and set(made.left_out) == {"infos/qpos", "metadata/policy/bias"}
    same(load(str(write_log(tmp_path / "ours.hdf5", log))).log, log)


def test_ends_from_numbers_and_lengths(tmp_path, log):
    columns = with_next(log)
    del columns["truncated"]
    made = load(write_csv(tmp_path / "a.csv", columns))
    same(made.log, log)
    assert any("3 episodes had no end mark" in n for n in made.notes)
    arrays = {k: v for k, v in log.columns.items() if k != "timeouts"}
    np.savez(tmp_path / "a.npz", **arrays, episode_lengths=np.array(LENGTHS))
    same(load(str(tmp_path / "a.npz")).log, log)


def test_done_is_terminal_where_it_is_no_timeout(tmp_path, log):
    columns = with_next(log)
    del columns["terminated"]
    same(load(write_csv(tmp_path / "a.csv", columns | {"done": log.ends})).log, log)
    del columns["truncated"]
    made = load(write_csv(tmp_path / "b.csv", columns | {"done": log.ends}))
    assert made.log.terminals.tolist() == log.ends.tolist()
    assert any("are done count as terminal" in n and "columns.timeouts" in n for n in made.notes)


def test_sorting_brings_a_shuffled_table_back(tmp_path, log):
    columns = table(log)
    mixed = np.random.default_rng(0).permutation(len(log))
    path = write_csv(tmp_path / "a.csv", {k: v[mixed] for k, v in columns.items()})
    text = refused(path)
    assert "comes back in row" in text and "sort=true" in text
    made = load(path, sort=True)
    same(made.log, without_last(log))
    assert made.notes[0].endswith("rows changed their place when sorted by episode and time")
    assert "columns.time=NAME" in refused(path, sort=True, columns={"time": "none"})
    assert "columns.episode=NAME" in refused(path, sort=True, columns={"episode": "none"})


# ---------------------------------------------------------------- names
def test_names_of_ones_own(tmp_path, log):
    own = {"x": "obs_0", "y": "obs_1", "v": "obs_2", "u_a": "action_0", "u_b": "action_1", "gain": "reward"}
    columns = table(log)
    renamed = {k: columns[v] for k, v in own.items()} | {k: columns[k] for k in ("episode", "cost", "terminated")}
    path = write_csv(tmp_path / "a.csv", renamed | {"penalty": columns["cost"] * 2, "spare": columns["cost"]})
    text = refused(path)
    assert "3 fault(s)" in text and "no column for 'observations': name it with columns.observations=NAME" in text
    names = {"observations": ["x", "y", "v"], "actions": ["u_*"], "rewards": "gain"}
    assert "Did you mean 'gain'" in refused(path, columns=names | {"rewards": "gian"})
    made = load(path, columns=names | {"costs": "penalty"})
    expected = without_last(log)
    np.testing.assert_array_equal(made.log.observations, expected.observations)
    np.testing.assert_array_equal(made.log.costs, 2 * expected.costs)
    assert set(made.log.extra) == {"episode", "spare", "cost"} and made.left_out == ()


def test_what_a_log_cannot_be_without(tmp_path, log):
    path = write_csv(tmp_path / "a.csv", table(log))
    assert "columns.rewards=none: a log cannot be without rewards" in refused(path, columns={"rewards": "none"})
    path = write_csv(tmp_path / "b.csv", {"x": log.rewards})
    text = refused(path)
    assert "5 fault(s)" in text and "There are: x" in text and "no rows" not in text


def test_columns_that_are_denied_are_not_judged(tmp_path, log):
    columns = with_next(log)
    columns["trajectory"] = columns.pop("episode")[::-1]
    path = write_csv(tmp_path / "a.csv", columns)
    assert "'episode'" in refused(path)
    made = load(path, columns={"episode": "none"})
    same(made.log, log)
    assert "trajectory" in made.left_out


def test_doubtful_names_are_asked_for(tmp_path, log):
    columns = table(log)
    assert "'obs_0' and 'state_0' could all be 'observations'" in refused(
        write_csv(tmp_path / "a.csv", columns | {"state_0": log.rewards})
    )
    columns["obs_3"] = columns.pop("obs_1")
    assert "obs_1 is missing between 0 and 2" in refused(write_csv(tmp_path / "b.csv", columns))


def test_ten_columns_are_in_the_order_of_their_numbers(tmp_path, log):
    columns = {k: v for k, v in table(log).items() if not k.startswith("obs_")}
    wide = {f"obs_{i}": np.full(len(log), float(i)) for i in (10, 2, 0, 1, 3, 11, 4, 5, 6, 7, 8, 9)}
    made = load(write_csv(tmp_path / "a.csv", wide | columns))
    assert made.log.observations[0].tolist() == list(range(12))


def test_what_is_not_there_must_be_said(tmp_path, log):
    columns = table(log)
    del columns["cost"], columns["terminated"]
    path = write_csv(tmp_path / "a.csv", columns)
    text = refused(path)
    assert "no column for 'costs'" in text and "no column for 'terminals'" in text and "columns.terminals=none" in text
    made = load(path, columns={"costs": "none", "terminals": "none"})
    assert not made.log.costs.any() and not made.log.terminals.any()
    assert "columns.costs=none: every row costs 0" in made.notes
    del columns["truncated"], columns["episode"], columns["time"]
    path = write_csv(tmp_path / "b.csv", columns)
    assert "no row ends an episode" in refused(path, columns={"costs": "none", "terminals": "none"})
    one = load(path, columns={"costs": "none", "terminals": "none", "episode": "none"})
    assert one.log.episodes.tolist() == [[0, len(log) - 1]]


# ---------------------------------------------------------------- actions
def test_actions_are_scaled_by_stated_bounds_only(tmp_path, log):
    columns = with_next(log)
    columns["action_0"], columns["action_1"] = 3.0 * log.actions[:, 0] + 1.0, 0.5 * log.actions[:, 1]
    path = write_csv(tmp_path / "a.csv", columns)
    text = refused(path)
    assert "'actions' is outside [-1, 1]" in text and "action_low=[...]" in text and "clip=true" in text
    made = load(path, action_low=[-2.0, -0.5], action_high=[4.0, 0.5])
    np.testing.assert_allclose(made.log.actions, log.actions, atol=1e-6)
    assert "to [-1, 1], as asked for" in made.notes[-1]
    cut = load(path, clip=True)
    np.testing.assert_allclose(cut.log.actions[:, 0], np.clip(columns["action_0"], -1, 1), atol=1e-6)
    assert "is outside [-1, 1]" in refused(path, action_low=[-1.0], action_high=[1.0])
    with pytest.raises(ConfigError, match="3 numbers for actions of 2 entries"):
        load(path, action_low=[-1.0] * 3, action_high=[1.0] * 3)


# ---------------------------------------------------------------- what is wrong
def test_all_faults_of_the_values_at_once(tmp_path, log):
    columns = {k: v.astype(float) for k, v in table(log).items()}
    columns["obs_1"][3], columns["cost"][6], columns["truncated"][2] = np.nan, -1.0, 0.5
    text = refused(write_csv(tmp_path / "a.csv", columns))
    assert "3 fault(s)" in text
    for words in ("'observations' holds NaN", "'costs' is negative", "'timeouts' is neither 0 nor 1", "row 3", "row 6"):
        assert words in text


def test_time_that_runs_backwards(tmp_path, log):
    columns = table(log)
    columns["time"][3] = 0.05
    assert "'time' runs backwards inside an episode in 1 of 19 rows, first after row 2" in refused(
        write_csv(tmp_path / "a.csv", columns)
    )


def test_an_episode_of_which_nothing_is_left(tmp_path):
    columns = table(sample())
    columns["episode"][:5] = [1, 2, 2, 2, 2]
    columns["truncated"][0] = True
    text = refused(write_csv(tmp_path / "a.csv", columns))
    assert "1 episodes are one row long" in text and "first row 0" in text and "their length is zero" in text


def test_costs_do_not_go_unsaid_with_the_rows_that_are_dropped(tmp_path, log):
    """A recording that stops at the crash has its only costs in rows of which what follows is unknown."""
    columns = table(log)
    (cost,) = (k for k in columns if "cost" in k)
    ends = np.cumsum(LENGTHS) - 1
    timed = [e for e in ends if columns["truncated"][e]]
    columns[cost] = np.zeros(len(log))
    columns[cost][timed[:2]] = 1
    text = refused(write_csv(tmp_path / "a.csv", columns))
    assert "all 2 rows that cost something are last rows, which are dropped: mark them terminal" in text
    columns[cost][timed[0] - 1] = 1
    made = load(write_csv(tmp_path / "b.csv", columns))
    assert made.log.costs.sum() == 1
    assert [w[:57] for w in made.warnings] == ["2 of the dropped rows cost something, which is lost: mark"]
    columns[cost][timed[:2]] = 0
    assert not load(write_csv(tmp_path / "c.csv", columns)).warnings


def test_lengths_that_do_not_fit(tmp_path, log):
    np.savez(tmp_path / "a.npz", **log.columns, episode_lengths=np.array([5, 0, 14]))
    assert "1 episodes of zero length, first episode 1" in refused(str(tmp_path / "a.npz"))
    np.savez(tmp_path / "c.npz", **log.columns, episode_lengths=np.array(["5", "14"]))
    assert "expected whole numbers" in refused(str(tmp_path / "c.npz"))
    np.savez(tmp_path / "b.npz", **log.columns, episode_lengths=np.array([5, 5]))
    assert "adds up to 10 rows, there are 19" in refused(str(tmp_path / "b.npz"))


def test_large_numbers_survive_float32(tmp_path, log):
    columns = with_next(log)
    columns["time"] = 1.7e9 + 0.1 * np.arange(len(log))
    columns["episode"] = columns["episode"] + 10**9
    made = load(write_csv(tmp_path / "a.csv", columns))
    assert made.log.extra["time"][:3] == pytest.approx([0.0, 0.1, 0.2], abs=1e-5)
    assert read_log(write_log(tmp_path / "a.hdf5", made.log)).extra["episode"].max() == 3


def test_digits_that_float32_rounds_away_are_told(tmp_path, log):
    columns = with_next(log)
    assert not load(write_csv(tmp_path / "a.csv", columns)).warnings
    for name in [k for k in columns if "obs" in k]:
        columns[name] = np.asarray(columns[name], float) + 5e6
    warnings = load(write_csv(tmp_path / "b.csv", columns)).warnings
    assert sum("key 'observations' loses digits in float32" in w for w in warnings) == 1


def test_files_that_are_not_what_they_say(tmp_path, log):
    for name, words in (
        ("a.npz", "not an NPZ file"),
        ("a.hdf5", "cannot be read"),
        ("a.xls", "unknown format"),
    ):
        (tmp_path / name).write_bytes(b"\x00\x01 nothing")
        assert words in refused(str(tmp_path / name))
    assert "no such file" in refused(str(tmp_path / "none.csv"))
    np.savez(tmp_path / "o.npz", data=np.array({"rewards": log.rewards}, dtype=object))
    assert "'data' holds Python objects" in refused(str(tmp_path / "o.npz"))
    np.savez(tmp_path / "e.npz", **{**log.columns, "observations": log.observations[None]})
    assert "'observations' has shape (1, 19, 3)" in refused(str(tmp_path / "e.npz"))


def test_two_recordings_that_share_their_numbers_are_not_interleaved(tmp_path, log):
    twice = {k: np.concatenate([v, v]) for k, v in table(log).items() if k not in ("terminated", "truncated")}
    path, says = write_csv(tmp_path / "a.csv", twice), {"terminals": "none"}
    with pytest.raises(DataError, match=r"episode 17 comes back in row 19.*number their episodes apart"):
        load(path, columns=says)
    with pytest.raises(DataError, match="sort=true: episode 17 has time 0 twice, in rows 0 and 19"):
        load(path, columns=says, sort=True)


def test_a_column_that_should_hold_numbers_is_not_left_out(tmp_path, log):
    columns = {k: v.astype(object) for k, v in table(log).items()}
    columns["obs_0"][0] = "N/A"
    with pytest.raises(DataError, match=r"column 'obs_0' holds no number in 1 lines, first in line 2 \('N/A'\)"):
        load(write_csv(tmp_path / "a.csv", columns))
    columns["obs_0"] = np.array([f"1,{i}" for i in range(len(log))], object)
    with pytest.raises(DataError, match="'obs_0' holds no numbers, and by its name it belongs to 'observations'"):
        load(write_csv(tmp_path / "b.csv", columns, ";"))


def test_one_number_a_row_is_one_column(tmp_path, log):
    columns = table(log) | {"reward": log.rewards, "reward_b": log.rewards}
    with pytest.raises(DataError, match=r"columns\.rewards names 2 columns, reward, reward_b"):
        load(write_csv(tmp_path / "a.csv", columns), columns={"rewards": "reward*"})


def test_further_columns_of_groups_survive_the_file(tmp_path, log):
    path = write_d4rl(tmp_path / "d.hdf5", log)
    with h5py.File(path, "a") as file:
        file["infos/speed"] = log.rewards
    made = load(path).log
    assert "infos.speed" in made.extra
    again = read_log(write_log(tmp_path / "e.hdf5", made))
    assert again.digest() == made.digest()
    with h5py.File(path, "a") as file:
        file["infos.speed"] = log.rewards
    with pytest.raises(DataError, match=r"would be called 'infos\.speed', which is taken"):
        load(path)


def test_the_row_count_that_pandas_writes_is_left_out(tmp_path, log):
    made = load(write_csv(tmp_path / "a.csv", {"": np.arange(len(log)), **with_next(log)}))
    assert made.left_out == ("(column 1)",) and len(made.log) == len(log)


def test_numbers_that_floats_cannot_tell_apart(tmp_path, log):
    columns = table(log) | {"episode": table(log)["episode"].astype(np.int64) + 2**53}
    with pytest.raises(DataError, match=r"episode numbers of 2\^53 and more"):
        load(write_csv(tmp_path / "a.csv", columns))
    ours = {**log.columns, "episode": 2**24 + np.cumsum(np.r_[0, log.ends[:-1]])}
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        for key, value in ours.items():
            file[key] = value
    with pytest.raises(DataError, match="'episode' changes after row 4 from 16777216 to 16777217"):
        read_log(tmp_path / "b.hdf5")


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_archive_is_one_error(tmp_path, log, seed):
    path, refusals = tmp_path / "a.npz", 0
    np.savez_compressed(path, **log.columns)
    for _ in damaged(path, seed):
        try:
            load(str(path))
        except DataError:
            refusals += 1
    assert refusals > 5


def test_what_no_array_is_in_an_archive_is_left_out(tmp_path, log):
    path = tmp_path / "a.npz"
    np.savez(path, **log.columns)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("notes.txt", "hello")
    assert load(str(path)).left_out == ("notes.txt",)


def test_a_coarse_clock_is_no_second_recording(tmp_path, log):
    columns = with_next(log) | {"time": np.floor(table(log)["time"] * 5)}
    assert len(np.unique(np.stack([columns["episode"], columns["time"]]), axis=1).T) < len(log)
    same(load(write_csv(tmp_path / "a.csv", columns), sort=True).log, log)


def test_text_with_a_number_in_it_stays_text(tmp_path, log):
    n = len(log)
    labels = {
        "run": np.array(["a1b2", "12e4", "12345678", *["c3d4"] * (n - 3)], object),
        "note": np.array(["start", "3", *[""] * (n - 3), "end"], object),
        "0": np.array(["x"] * n, object),
        "weather": np.array(["ok", "nan", "inf", *["dry"] * (n - 3)], object),
        "state": np.array(["driving"] * n, object),
    }
    made = load(write_csv(tmp_path / "a.csv", with_next(log) | labels))
    assert made.left_out == tuple(labels)
    same(made.log, log)


def test_single_values_are_left_out_whatever_they_are_called(tmp_path, log):
    np.savez(tmp_path / "a.npz", **log.columns, step=np.int64(12), trajectory=np.int64(3), state=np.float64(1.0))
    assert set(load(str(tmp_path / "a.npz")).left_out) == {"step", "trajectory", "state"}
