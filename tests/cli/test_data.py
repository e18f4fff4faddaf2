"""`safeplan data check` and `safeplan data import`, in process: pages, pictures, one error, nothing half written."""

import json
import re

import h5py
import numpy as np
import pytest

from safeplan.cli.main import main
from safeplan.data import read_log, write_log
from tests.data.foreign import same, sample, table, with_next, without_last, write_csv


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    err = capsys.readouterr().err.strip()
    assert caught.value.code == 2 and "Traceback" not in err
    return err


def spoil(path, key, index, value):
    with h5py.File(path, "a") as file:
        file[key][index] = value


# ---------------------------------------------------------------- check
def test_a_good_log_is_pleasant_to_read(capsys, elsewhere):
    path = write_log(elsewhere / "drive.hdf5", sample())
    main(["data", "check", "drive.hdf5"])
    out = capsys.readouterr().out
    assert out.startswith("drive.hdf5: 4 episodes, 19 rows: 1 ended by themselves, 3 timed out, 0 unfinished")
    assert "for FISOR" in out and "Warnings" not in out
    assert out.strip().splitlines()[-2:] == [
        "This log can be used: no errors, 0 warnings.",
        "results: runs/check_drive/ (log.png, stats.json)",
    ]
    folder = elsewhere / "runs" / "check_drive"
    assert (folder / "log.png").read_bytes().startswith(b"\x89PNG")
    stats = json.loads((folder / "stats.json").read_text())
    assert stats["rows"] == 19 and stats["errors"] == stats["warnings"] == []
    assert stats["sha256_of_columns"] == read_log(path).digest()
    main(["data", "check", "path=drive.hdf5", "name=mine"])
    assert (elsewhere / "runs" / "mine" / "stats.json").is_file()


def test_warnings_leave_a_log_usable(capsys, elsewhere):
    path = write_log(elsewhere / "it's = odd.hdf5", sample())
    spoil(path, "timeouts", -1, False)
    spoil(path, "rewards", slice(None), 1.0)
    with h5py.File(path, "a") as file:
        file["words"] = np.array([b"a"] * 19)
    main(["data", "check", str(path)])
    out = capsys.readouterr().out
    assert "no errors, 3 warnings." in out and "are no numbers or no columns: words" in out
    assert "'rewards' never changes (1)" in out and "rows 15 to 18 count as cut off" in out
    (stats,) = (elsewhere / "runs").rglob("stats.json")
    assert len(json.loads(stats.read_text())["warnings"]) == 3


def test_all_faults_of_a_bad_log_at_once(capsys, elsewhere):
    path = write_log(elsewhere / "bad.hdf5", sample())
    spoil(path, "observations", (8, 1), np.nan)
    spoil(path, "costs", 3, -2.0)
    spoil(path, "actions", (4, 0), 7.0)
    with pytest.raises(SystemExit):
        main(["data", "check", "bad.hdf5"])
    page, err = capsys.readouterr()
    err = err.strip()
    assert err.startswith("safeplan data check: error: log bad.hdf5: 3 fault(s):") and len(err.splitlines()) == 4
    assert re.search(r"^observations +19 x 3 +1 ", page, re.M) and re.search(r"^costs +19 +0 +-2 ", page, re.M)
    assert (elsewhere / "runs" / "check_bad" / "log.png").read_bytes().startswith(b"\x89PNG")
    stats = json.loads((elsewhere / "runs" / "check_bad" / "stats.json").read_text())
    assert stats["columns"]["actions"]["max"] == 7.0
    assert [f"  - {e}" for e in stats["errors"]] == err.splitlines()[1:]
    train = refused(capsys, "train", "policy=fisor", "data=file", "data.path=bad.hdf5")
    assert train.splitlines()[1:] == err.splitlines()[1:]  # one place for the rules


def test_a_file_without_any_column_ends_in_one_error(capsys, elsewhere):
    with h5py.File(elsewhere / "empty.hdf5", "w") as file:
        file["words"] = np.array([b"a"])
    err = refused(capsys, "data", "check", "empty.hdf5")
    assert err.startswith("safeplan data check: error: log empty.hdf5: ")


def test_one_file_at_a_time(capsys, elsewhere):
    for name in ("a.hdf5", "b.hdf5"):
        write_log(elsewhere / name, sample())
    assert "2 paths are given, a.hdf5, b.hdf5: one at a time" in refused(capsys, "data", "check", "a.hdf5", "b.hdf5")


def test_files_that_are_no_logs(capsys, elsewhere):
    write_csv(elsewhere / "a.csv", table(sample()))
    assert "safeplan data import a.csv out=FILE.hdf5" in refused(capsys, "data", "check", "a.csv")
    assert "none.hdf5: no such file" in refused(capsys, "data", "check", "none.hdf5")
    assert "path must be given" in refused(capsys, "data", "check")


# ---------------------------------------------------------------- import
def test_import_tells_what_it_does_and_writes_the_log(capsys, elsewhere):
    log = sample()
    write_csv(elsewhere / "drive.csv", table(log) | {"action_0": 2.0 * log.actions[:, 0]})
    argv = ["data", "import", "drive.csv", "out=logs/drive.hdf5", "action_low=[-2,-1]", "action_high=[2,1]"]
    main(argv)
    out = capsys.readouterr().out
    assert "observations       <- obs_0, obs_1, obs_2" in out and "last rows of 3 episodes" in out
    assert out.strip().splitlines()[-1] == "results: logs/drive.hdf5, runs/import_drive/ (log.png, stats.json)"
    made = read_log("logs/drive.hdf5")
    same(made, without_last(log))
    assert made.attrs["source"] == "drive.csv" and len(str(made.attrs["source_sha256"])) == 64
    assert json.loads(str(made.attrs["mapping"]))["costs"] == ["cost"]
    before = (elsewhere / "logs" / "drive.hdf5").read_bytes()
    main(argv)  # the same again is no conflict
    assert (elsewhere / "logs" / "drive.hdf5").read_bytes() == before
    err = refused(capsys, *argv, "columns.costs=none")
    assert "is there already and holds something else" in err and "overwrite=true" in err
    main([*argv, "columns.costs=none", "overwrite=true"])
    assert not read_log("logs/drive.hdf5").costs.any()


def test_what_an_import_loses_counts_among_the_warnings(capsys, elsewhere):
    write_csv(elsewhere / "drive.csv", table(sample()))  # its last row costs something, and times out
    main(["data", "import", "drive.csv", "out=drive.hdf5"])
    out = capsys.readouterr().out
    assert "Warnings:\n  - 1 of the dropped rows cost something, which is lost" in out
    assert "no errors, 1 warning." in out
    assert "dropped rows cost" in str(read_log("drive.hdf5").attrs["warnings"])
    assert len(json.loads((elsewhere / "runs" / "import_drive" / "stats.json").read_text())["warnings"]) == 1


def test_nothing_is_written_of_a_bad_source(capsys, elsewhere):
    columns = {k: v.astype(float) for k, v in with_next(sample()).items()}
    columns["cost"][2] = -1.0
    write_csv(elsewhere / "a.csv", columns)
    err = refused(capsys, "data", "import", "a.csv", "out=a.hdf5")
    assert err.startswith("safeplan data import: error: import a.csv: 1 fault(s):") and "'costs' is negative" in err
    assert not (elsewhere / "a.hdf5").exists()


def test_refusals_of_settings(capsys, elsewhere):
    write_csv(elsewhere / "a.csv", table(sample()))
    path = write_log(elsewhere / "b.hdf5", sample())
    base = ("data", "import", "a.csv", "out=a.hdf5")
    assert "out must be given" in refused(capsys, *base[:3])
    assert "must end in .hdf5" in refused(capsys, *base[:3], "out=a.npz")
    assert "give both" in refused(capsys, *base, "action_low=[-1]")
    assert "the low one below" in refused(capsys, *base, "action_low=[1]", "action_high=[1]")
    assert "Did you mean 'costs'" in refused(capsys, *base, "columns.cost=c")
    assert "is the source itself" in refused(capsys, "data", "import", "b.hdf5", f"out={path}", "overwrite=true")


def test_the_command_lists_its_parts(capsys):
    for argv in (["data"], ["data", "--help"]):
        main(argv)
        out = capsys.readouterr().out
        assert "data check" in out and "data import" in out and "safeplan data check --help" in out
    assert "unknown command 'data chek'. Did you mean 'check'? Commands: check, import" in refused(
        capsys, "data", "chek", "x"
    )
