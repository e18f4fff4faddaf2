"""A name or a path leads to a log, or to one error that says how to get it."""

import pytest

from safeplan.data import load_log, locate, write_log
from safeplan.errors import DataError
from tests.data.test_hdf5 import make


def test_names_paths_and_makers(tmp_path):
    made = []

    def maker(path, seed):
        made.append(seed)
        write_log(path, make())

    for _ in range(2):  # the second time it is there
        log = load_log("point_robot", root=tmp_path, seed=7, makers={"point_robot": maker})
        assert len(log) == 12
    assert made == [7]
    own = write_log(tmp_path / "own.h5", make(10))
    assert len(load_log(str(own))) == 10


def test_remedies(tmp_path, monkeypatch):
    monkeypatch.delenv("SAFEPLAN_DATA", raising=False)
    with pytest.raises(DataError, match="set the environment variable SAFEPLAN_DATA"):
        load_log("velocity")
    monkeypatch.setenv("SAFEPLAN_DATA", str(tmp_path))
    assert locate("velocity").parent.parent == tmp_path
    with pytest.raises(DataError, match="is not there"):
        load_log("velocity")
    with pytest.raises(DataError, match=r"scripts/collect.py --env hovercraft"):
        load_log("hovercraft", root=tmp_path)
    with pytest.raises(DataError, match="Use one of point_robot, hovercraft"):
        load_log("atlantis")
    with pytest.raises(DataError, match="no such file"):
        load_log(str(tmp_path / "absent.hdf5"))
