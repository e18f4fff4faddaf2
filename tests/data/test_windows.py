"""Windows stay inside their episode."""

import numpy as np
import pytest

from safeplan.data import gather, windows
from safeplan.errors import DataError
from tests.data.test_hdf5 import make


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_no_window_crosses_an_episode_end(horizon):
    log = make(40, (4, 9, 10, 30))
    starts = windows(log, horizon)
    number = np.concatenate([[0], np.cumsum(log.ends)[:-1]])
    inside = gather(number, starts, horizon)
    assert inside.shape == (len(starts), horizon)
    assert (inside == inside[:, :1]).all()
    # all of them: one per start that leaves room
    assert len(starts) == sum(max(0, b - a - horizon + 1) for a, b in log.episodes)


def test_stride_and_keep():
    log = make(40, (19,))
    assert windows(log, 5, stride=5).tolist() == [0, 5, 10, 15, 20, 25, 30, 35]
    keep = np.ones(40, bool)
    keep[[7, 22]] = False
    kept = windows(log, 5, keep=keep)
    assert keep[kept[:, None] + np.arange(5)].all()
    assert len(kept) == len(windows(log, 5)) - 5 - 3


def test_nothing_fits():
    with pytest.raises(DataError, match="longest episode 5"):
        windows(make(10), 6)
    with pytest.raises(DataError, match="at least 1"):
        windows(make(10), 0)
