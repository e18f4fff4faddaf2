"""The table of DSRL tasks in itself, and its normalisation; tests/dsrl compares it with the package."""

import numpy as np
import pytest

from safeplan.data.dsrl import SUITES, TASKS, find_task, normalized_cost, normalized_return
from safeplan.errors import DataError


def test_the_table():
    assert len(TASKS) == 38
    assert [sum(t.suite == s for t in TASKS.values()) for s in SUITES] == [8, 21, 9]
    assert len({t.id for t in TASKS.values()}) == len({t.file for t in TASKS.values()}) == 38
    for name, task in TASKS.items():
        assert task is find_task(name) is find_task(task.id) is find_task(task.file)
        assert task.return_min < task.return_max and 0 <= task.cost_min < task.cost_max
        # the name rounds to 5, and in one file no episode reaches its cap
        assert task.cap - 5 < task.cost_max < task.cap + 0.02
        assert task.limits[2] == (80 if task.suite == "safety" else 40) and task.fisor_limit <= task.limits[0]
    wanted = r"'Ball' is unknown. Did you mean 'BallRun'\? Use one of AntCircle, .*harddense, or an id"
    with pytest.raises(DataError, match=wanted):
        find_task("Ball")


def test_normalisation():
    task = TASKS["BallCircle"]
    ends = normalized_return(task, np.array([task.return_min, task.return_max]))
    np.testing.assert_array_equal(ends, [0, 1])
    assert normalized_return(task, 2 * task.return_max) > 1
    assert normalized_cost(10.0, 10) == 1 and normalized_cost(0.0, 10) == 0
    assert normalized_cost(0.0, 0) == 1 and normalized_cost(3.0, 0) == 4  # one more in both, where the limit is 0
    np.testing.assert_array_equal(normalized_cost(np.array([5.0, 20.0]), 10), [0.5, 2])
    with pytest.raises(DataError, match="cost limit -1"):
        normalized_cost(1.0, -1)
