"""Files of DSRL tasks: found, downloaded, checked again later, and a clear word where there is no network."""

import numpy as np
import pytest

from safeplan.data import write_log
from safeplan.data.dsrl_files import check, fetch, load_task
from safeplan.errors import DataError
from tests.data.local_server import Site, serve
from tests.data.test_hdf5 import make

FILE = "SafetyBallCircle-v0-80-886.hdf5"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("SAFEPLAN_DATA", raising=False)
    return tmp_path / "data"


def test_downloaded_once_and_checked_at_every_reading(folder, tmp_path):
    log = make()
    body = write_log(tmp_path / "x.hdf5", log).read_bytes()
    with serve(Site({FILE: body}, drop_at={FILE: [len(body) // 2]})) as site:
        assert load_task("BallCircle", address=site.address).digest() == log.digest()
        before = len(site.asked)
        assert load_task("OfflineBallCircle-v0", address=site.address).digest() == log.digest()
        assert len(site.asked) == before
    assert sorted(p.name for p in folder.iterdir()) == [FILE, f"{FILE}.sha256"]
    assert (folder / f"{FILE}.sha256").read_text().split()[1] == FILE and check(folder / FILE)
    damaged = bytearray(body)
    damaged[-1] ^= 1
    (folder / FILE).write_bytes(damaged)
    with pytest.raises(DataError, match=r"sha256 says .*Remove both"):
        load_task("BallCircle")


def test_a_file_of_the_users_is_taken_as_it_is(folder):
    log = make()
    write_log(folder / FILE, log)
    assert fetch("BallCircle") == folder / FILE and not check(folder / FILE)
    np.testing.assert_array_equal(load_task(FILE).observations, log.observations)


@pytest.mark.parametrize("below", ["", "dsrl"])
def test_files_under_the_projects_own_variable_count_too(folder, tmp_path, monkeypatch, below):
    theirs = write_log(tmp_path / "mine" / below / FILE, make())
    monkeypatch.setenv("SAFEPLAN_DATA", str(tmp_path / "mine"))
    assert fetch("BallCircle", address="http://127.0.0.1:9/") == theirs and not folder.exists()
    ours = write_log(folder / FILE, make(20))
    assert fetch("BallCircle") == ours


def test_a_wrong_checksum_leaves_no_file(folder):
    with serve(Site({FILE: b"something"}, checksum="wrong")) as site, pytest.raises(DataError, match="expected 0000"):
        fetch("BallCircle", address=site.address)
    assert not list(folder.iterdir())


def test_no_network(folder):
    with pytest.raises(DataError, match=rf"refused.*put {FILE} from https://.*DSRL_DATASET_DIR.*{folder}") as caught:
        fetch("BallCircle", address="http://127.0.0.1:9/")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"'BallSqare' is unknown\. Did you mean 'BallCircle'\? Use one of AntCircle"):
        fetch("BallSqare")
