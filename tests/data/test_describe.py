"""Statistics of a log against a loop over its episodes."""

import json

import numpy as np
import pytest

from safeplan.data.describe import describe, describe_columns, quantiles, reward_scale
from safeplan.data.hdf5 import Log
from tests.data.test_hints import apart


def test_numbers_agree_with_a_loop():
    rng = np.random.default_rng(0)
    columns = apart(tuple(rng.integers(1, 9, 40)))
    columns["terminals"][columns["timeouts"] & (rng.random(len(columns["timeouts"])) < 0.3)] = True
    columns["timeouts"][-1] = columns["terminals"][-1] = False
    log = Log(**columns, extra={"h": np.linspace(-1, 1, len(columns["costs"]))})
    stats = describe(log)
    spans = [slice(a, b) for a, b in log.episodes]
    returns, costs = [float(log.rewards[s].sum()) for s in spans], [float(log.costs[s].sum()) for s in spans]
    assert stats["episodes"] == len(spans) == 40 and stats["rows"] == len(log)
    assert stats["return"]["min"] == pytest.approx(min(returns)) and stats["cost"]["max"] == pytest.approx(max(costs))
    assert stats["return"]["median"] == pytest.approx(float(np.median(returns)))
    assert stats["cost_free_episodes"] == sum(c == 0 for c in costs) / 40
    ends = stats["ends"]
    assert ends["terminal"] == sum(bool(log.terminals[s][-1]) for s in spans) > 0
    assert ends["unfinished"] == 1 and sum(ends.values()) == 40
    assert stats["fisor"]["rows_of_episodes_without_violation"] == pytest.approx(
        sum(s.stop - s.start for s, c in zip(spans, costs, strict=True) if c == 0) / len(log)
    )
    assert stats["fisor"]["rows_with_h_above_0"] == 0.5
    longest = max(s.stop - s.start for s in spans)
    assert reward_scale(log) == pytest.approx(longest / (max(returns) - min(returns)))
    assert json.loads(json.dumps(stats)) == stats


def test_saturation_and_ranges():
    columns = apart((500, 500))
    columns["actions"][:100, 0] = 1.0
    columns["observations"][7, 2] = 99.0
    stats = describe(Log(**columns))
    assert stats["saturated"][0] == pytest.approx(0.1, abs=0.005) and stats["saturated"][1] < 0.005
    assert stats["observations"]["max"][2] == 99.0
    assert quantiles(np.array([3.0]))["10 %"] == 3.0


def test_means_of_the_largest_floats_are_finite():
    assert describe_columns({"a": np.full(7, 1e308)})["a"]["mean"] == pytest.approx(1e308)
