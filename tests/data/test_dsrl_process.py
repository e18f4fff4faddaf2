"""DSRL's post-processing: what goes, what changes, and that the log given stays as it was."""

from dataclasses import replace

import numpy as np
import pytest

from safeplan.data import Log
from safeplan.data.dsrl import TASKS
from safeplan.data.dsrl_process import DENSITY, add_noise, add_outliers, cut_out, select, thin, totals, without_best
from safeplan.errors import DataError

LENGTH = 12


def spread(n: int = 200, seed: int = 0, tail: int = 0) -> Log:
    """`n` episodes of 12 steps with whole costs in 0..12 and returns in eighths; `tail` rows of an unfinished one."""
    rng = np.random.default_rng(seed)
    rows = n * LENGTH + tail
    costs = np.zeros((n, LENGTH), np.float32)
    for row, c in zip(costs, rng.integers(0, LENGTH + 1, n), strict=True):
        row[rng.permutation(LENGTH)[:c]] = 1
    pad = np.zeros(tail, np.float32)
    obs = rng.normal(size=(rows, 3)).astype(np.float32)
    ends = np.zeros(rows, bool)
    ends[LENGTH - 1 : n * LENGTH : LENGTH] = True
    half = np.arange(rows) // LENGTH % 2 == 0
    return Log(
        obs,
        obs + 1,
        rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        np.append(rng.integers(0, 80, n * LENGTH) / 8, pad).astype(np.float32),
        np.append(costs, pad),
        ends & half,
        ends & ~half,
        extra={"h": np.arange(rows, dtype=np.float32)},
        attrs={"seed": seed},
    )


def kept(log: Log) -> list[int]:
    """Numbers of the episodes that are left."""
    return [int(log.extra["h"][a]) // LENGTH for a, _ in log.episodes]


PROCESSES = {
    "thin": lambda log: thin(log, np.random.default_rng(1), cost_bins=5, return_bins=5, most=4),
    "outliers": lambda log: add_outliers(
        log, np.random.default_rng(1), fraction=0.1, limit=5, cost_max=12, return_max=60
    ),
    "cut_out": lambda log: cut_out(log, [(0.0, 0.5, 0.5, 1.0)]),
    "without_best": lambda log: without_best(log, limit=5, margin=10, safe=True),
    "noise": lambda log: add_noise(log, np.random.default_rng(1), scale=0.1),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_the_given_log_stays_and_the_same_seed_gives_the_same(name):
    log = spread(tail=3)
    before = log.digest()
    first, second = PROCESSES[name](log), PROCESSES[name](log)
    assert log.digest() == before != first.digest() == second.digest()
    assert first.ends[-1] and kept(first) == sorted(kept(first)), "finished episodes, in order"
    assert set(first.extra) == {"h"} and first.attrs["seed"] == 0
    twice = PROCESSES["noise"](first)
    assert str(twice.attrs["processed"]).startswith(f"{first.attrs['processed']}; add_noise")
    for (a, b), e in zip(first.episodes, kept(first), strict=True):  # whole episodes, not pieces
        np.testing.assert_array_equal(first.actions[a:b], log.actions[e * LENGTH : (e + 1) * LENGTH])


def test_thin_keeps_the_grid_even():
    log = spread(400)
    out = thin(log, np.random.default_rng(0), cost_bins=4, return_bins=1, most=30, least=2)
    _, _, costs = totals(out)
    _, _, all_costs = totals(log)
    for low in range(4):  # bins of width 3; the greatest cost, 12, has its own
        there, before = (int(((c >= 3 * low) & (c < 3 * low + 3)).sum()) for c in (costs, all_costs))
        assert there <= 60 and (there >= 30 or before < 30)  # the greatest return has a cell of its own, too
    assert len(costs) < 200
    sparse = thin(spread(5), np.random.default_rng(0), cost_bins=1, return_bins=1, most=9, least=2)
    assert len(sparse.episodes) == 4, "the cell of the greatest return held one episode"
    same = replace(spread(9), costs=np.zeros(9 * LENGTH, np.float32), rewards=np.zeros(9 * LENGTH, np.float32))
    assert len(thin(same, np.random.default_rng(0), cost_bins=3, return_bins=3, most=4).episodes) == 4


def test_outliers_look_safe_and_pay_more():
    log = spread()
    _, returns, costs = totals(log)
    out = add_outliers(log, np.random.default_rng(0), fraction=0.05, limit=4, cost_max=12, return_max=90)
    _, r, c = totals(out)
    changed = np.flatnonzero(r != returns)
    assert len(changed) == 10 and (costs[changed] >= 6).all() and (returns[changed] >= 45).all()
    assert (c[changed] < 4).all()
    np.testing.assert_allclose(r[changed], 1.5 * returns[changed])
    untouched = np.setdiff1d(np.arange(len(r)), changed)
    np.testing.assert_array_equal(c[untouched], costs[untouched])
    for wrong in ({"fraction": 0.9}, {"fraction": 0.0}, {"limit": 0.5}, {"limit": 99}):
        with pytest.raises(DataError, match="add_outliers"):
            settings = {"fraction": 0.05, "limit": 4, "cost_max": 12, "return_max": 90, **wrong}
            add_outliers(log, np.random.default_rng(0), **settings)


def test_boxes_and_the_best_go():
    log = spread()
    _, returns, costs = totals(log)
    out = cut_out(log, [(0.0, 0.5, 0.0, 1.0)])
    assert kept(out) == np.flatnonzero(costs > 6).tolist()
    out = cut_out(log, [(0.0, 1.0, 0.5, 1.0)])
    assert kept(out) == np.flatnonzero(returns < (returns.min() + returns.max()) / 2).tolist()
    out = without_best(log, limit=4, margin=5, safe=True)
    gone = np.setdiff1d(np.arange(200), kept(out))
    assert len(gone) and (costs[gone] <= 4).all() and (returns[gone] >= returns[costs <= 4].max() - 5).all()
    gone = np.setdiff1d(np.arange(200), kept(without_best(log, limit=4, margin=0, safe=False)))
    assert gone.tolist() == np.flatnonzero((costs > 4) & (returns == returns[costs > 4].max())).tolist()
    with pytest.raises(DataError, match="0 episodes are unsafe"):
        without_best(log, limit=99, margin=1, safe=False)
    with pytest.raises(DataError, match="no episode has a cost in the band"):
        cut_out(log, [(0.01, 0.02, 0.0, 1.0)])
    with pytest.raises(DataError, match="no episode is left"):
        cut_out(log, [(0.0, 1.0, 0.0, 1.0)])


def test_noise_has_the_size_asked_for():
    log = spread(500)
    out = add_noise(log, np.random.default_rng(0), scale=0.3)
    for key in ("observations", "next_observations"):
        noise = out.columns[key] - log.columns[key]
        assert abs(noise.std() / (0.3 * log.columns[key].std()) - 1) < 0.02 and abs(noise.mean()) < 0.01
        assert out.columns[key].dtype == np.float32
    assert not np.allclose(out.observations - log.observations, out.next_observations - log.next_observations)


def test_a_log_without_an_end_and_an_empty_choice_are_refused():
    log = spread(1)
    open_ended = replace(log, terminals=np.zeros(LENGTH, bool), timeouts=np.zeros(LENGTH, bool))
    with pytest.raises(DataError, match="no episode ends"):
        totals(open_ended)
    with pytest.raises(DataError, match="no episode is left"):
        select(log, np.zeros((0, 2), int), "nothing")
    with pytest.raises(DataError, match="must be positive"):
        thin(log, np.random.default_rng(0), cost_bins=0, return_bins=1, most=1)


def test_settings_belong_to_tasks():
    assert set(DENSITY) <= set(TASKS) and all(0 < share < 1 for per in DENSITY.values() for share in per)
