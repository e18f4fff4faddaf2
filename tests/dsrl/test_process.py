"""Our post-processing against dsrl's own, with the same random numbers where it takes them from a generator."""

import numpy as np
import pytest

from safeplan.data import Log
from safeplan.data.dsrl_process import add_noise, add_outliers, cut_out, thin, without_best
from tests.data.test_dsrl_process import LENGTH, spread

LIMIT = 5


@pytest.fixture
def theirs(make, tmp_path, monkeypatch):
    """`pre_process_data` of an environment whose extremes suit the made log; its picture goes to a temporary folder."""
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)

    def run(log: Log, **options) -> dict[str, np.ndarray]:
        import matplotlib.pyplot as plt

        env = make("OfflineBallRun-v0").unwrapped
        env.max_episode_cost, env.max_episode_reward = LENGTH, 90.0
        env.set_target_cost(LIMIT)
        out = env.pre_process_data({k: v.copy() for k, v in log.columns.items()}, **options)
        plt.close("all")
        return out

    return run


def same(ours: Log, theirs: dict[str, np.ndarray]) -> None:
    for key, value in ours.columns.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)


def rng() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed=1234))  # as dsrl makes its own


def test_cut_out(theirs):
    log, boxes = spread(tail=4), [(0.1, 0.4, 0.2, 0.7), (0.5, 0.9, 0.5, 1.0)]
    same(cut_out(log, boxes[:1]), theirs(log, inpaint_ranges=boxes[:1]))
    same(cut_out(log, boxes[1:]), theirs(log, inpaint_ranges=boxes[1:]))


@pytest.mark.parametrize("margin", [2.0, 20.0])
def test_without_best(theirs, margin):
    log = spread()
    same(without_best(log, limit=LIMIT, margin=margin, safe=True), theirs(log, epsilon=margin))
    same(without_best(log, limit=LIMIT, margin=margin, safe=False), theirs(log, epsilon=-margin))


def test_noise(theirs):
    log = spread()
    same(add_noise(log, rng(), scale=0.2), theirs(log, noise_scale=0.2))


def test_outliers(theirs):
    log = spread()
    ours = add_outliers(log, rng(), fraction=0.07, limit=LIMIT, cost_max=LENGTH, return_max=90.0)
    same(ours, theirs(log, outliers_percent=0.07))


def test_thin(theirs):
    log = spread(400)
    grid = {"density": 0.5, "cbins": 6, "rbins": 5}
    # cells are emptied alike, and none is full: the same episodes, theirs in the order of cells
    ours = thin(log, rng(), cost_bins=6, return_bins=5, most=400, least=4)
    other = theirs(log, **grid, max_npb=400, min_npb=4)
    assert 0 < len(ours) < len(log)
    np.testing.assert_array_equal(ours.extra["h"], np.sort(other["h"]))
    # cells are thinned by chance: as many from each
    ours = thin(log, rng(), cost_bins=6, return_bins=5, most=7, least=2)
    assert len(ours) == len(theirs(log, **grid, max_npb=7, min_npb=2)["h"]) < len(log)
