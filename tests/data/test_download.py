"""Downloads resume, are checked, and leave a whole file or none."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from safeplan.data import download as download_module
from safeplan.data.download import download
from safeplan.errors import DataError
from tests.data.local_server import Site, serve

BODY = np.random.default_rng(0).bytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def site():
    with serve(Site({"a.bin": BODY})) as running:
        yield running


def test_the_checksum_on_a_redirect_is_used(site, tmp_path):
    assert download(site.address + "a.bin", tmp_path / "deep" / "a.bin") == SHA
    assert (tmp_path / "deep" / "a.bin").read_bytes() == BODY
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.bin"]
    assert [where for where, _ in site.asked] == ["hub", "store"]


def test_a_dropped_connection_is_taken_up_where_it_broke(site, tmp_path):
    site.drop_at["a.bin"] = [100_000, 250_000]
    download(site.address + "a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert [r for where, r in site.asked if where == "store"] == ["", "bytes=100000-", "bytes=250000-"]


def test_a_part_survives_and_is_used_by_the_next_run(site, tmp_path):
    site.drop_at["a.bin"] = [100_000, 100_000]  # the second answer brings nothing
    with pytest.raises(DataError, match=r"stops short.*Ask Ann"):
        download(site.address + "a.bin", tmp_path / "a.bin", remedy="Ask Ann")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin.part"]
    assert (tmp_path / "a.bin.part").read_bytes() == BODY[:100_000]
    site.asked.clear()
    assert download(site.address + "a.bin", tmp_path / "a.bin") == SHA
    assert site.asked[-1] == ("store", "bytes=100000-")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_without_ranges_it_begins_anew(site, tmp_path):
    site.ranges = False
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    assert download(site.address + "a.bin", tmp_path / "a.bin") == SHA
    site.drop_at["a.bin"] = [100_000] * 9  # would go on for ever if every answer counted as progress
    with pytest.raises(DataError, match="stops short"):
        download(site.address + "a.bin", tmp_path / "b.bin")


@pytest.mark.parametrize("size", [len(BODY), len(BODY) + 5])
def test_a_part_with_nothing_left_to_fetch(site, tmp_path, size):
    """A run that ended just before the file got its name; and a part of some other, longer file."""
    (tmp_path / "a.bin.part").write_bytes((BODY + b"extra")[:size])
    assert download(site.address + "a.bin", tmp_path / "a.bin") == SHA
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize("redirect", [True, False])
def test_a_wrong_checksum_leaves_nothing(site, tmp_path, redirect):
    site.checksum, site.redirect = "wrong", redirect
    with pytest.raises(DataError, match=f"SHA-256 is {SHA}, expected 0000"):
        download(site.address + "a.bin", tmp_path / "a.bin")
    assert not list(tmp_path.iterdir())
    assert download(site.address + "a.bin", tmp_path / "a.bin", sha256=SHA) == SHA  # the caller's word counts more


def test_a_part_of_an_older_version_is_noticed(site, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="SHA-256"):
        download(site.address + "a.bin", tmp_path / "a.bin")
    assert download(site.address + "a.bin", tmp_path / "a.bin") == SHA


def test_no_checksum_is_said(site, tmp_path, capsys):
    site.checksum = "none"
    assert download(site.address + "a.bin", tmp_path / "a.bin") == SHA
    assert "nothing to check it against" in capsys.readouterr().out


def test_absent_and_unreachable(site, tmp_path):
    with pytest.raises(DataError, match="Not Found"):
        download(site.address + "b.bin", tmp_path / "b.bin")
    with pytest.raises(DataError, match=r"refused.*Ask Ann"):
        download("http://127.0.0.1:9/b.bin", tmp_path / "b.bin", remedy="Ask Ann")
    assert not list(tmp_path.iterdir())


def test_without_a_checksum_a_part_counts_where_the_version_is_the_same(site, tmp_path):
    site.checksum, site.version = "none", '"one"'
    site.drop_at["a.bin"] = [100_000, 100_000]
    with pytest.raises(DataError, match="stops short"):
        download(site.address + "a.bin", tmp_path / "a.bin")
    assert {p.name for p in tmp_path.iterdir()} == {"a.bin.part", "a.bin.part.version"}
    site.asked.clear()
    assert download(site.address + "a.bin", tmp_path / "a.bin") == SHA
    assert site.asked[-1] == ("store", "bytes=100000-")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("version", ["", '"two"'])
def test_a_part_of_who_knows_what_is_not_gone_on_with(site, tmp_path, version):
    site.checksum, site.version = "none", version
    (tmp_path / "a.bin.part").write_bytes(b"old" * 1000)
    if version:
        (tmp_path / "a.bin.part.version").write_text('"one"')
    assert download(site.address + "a.bin", tmp_path / "a.bin") == SHA
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_part_that_is_all_of_it_is_not_fetched_again(site, tmp_path):
    site.told_length = True
    (tmp_path / "a.bin.part").write_bytes(BODY)
    assert download(site.address + "a.bin", tmp_path / "a.bin", sha256=SHA.upper()) == SHA
    assert [r for where, r in site.asked if where == "store"] == [f"bytes={len(BODY)}-"]


def test_several_that_want_one_file_fetch_it_once(site, tmp_path):
    site.pause = 0.3
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(download, site.address + "a.bin", tmp_path / "a.bin") for _ in range(3)]
        assert [j.result() for j in jobs] == [SHA] * 3
    assert [where for where, _ in site.asked] == ["hub", "store"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_server_that_gives_another_range_is_not_believed(site, tmp_path):
    site.checksum, site.version, site.wrong_range = "none", '"one"', True
    site.drop_at["a.bin"] = [100_000]
    assert download(site.address + "a.bin", tmp_path / "a.bin") == SHA


def test_what_another_process_brought_is_compared_too(site, tmp_path, monkeypatch):
    real = download_module._alone

    @contextmanager
    def late(part):
        with real(part) as file:
            part.with_name("a.bin").write_bytes(b"something else")
            yield file

    monkeypatch.setattr(download_module, "_alone", late)
    assert download(site.address + "a.bin", tmp_path / "a.bin", sha256=SHA) == SHA
    assert (tmp_path / "a.bin").read_bytes() == BODY
