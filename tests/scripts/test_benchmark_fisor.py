"""The benchmark counts what it says it counts, and judges by the variant that an aim is about."""

import json
import runpy
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "benchmark_fisor.py"))


def test_products_are_recorded_forward_and_backward(script):
    layer = torch.nn.Linear(5, 3)
    twins = torch.rand(2, 5, 4, requires_grad=True)
    x = torch.rand(7, 5)
    with script["Recorder"]() as recorder:
        layer(x).sum().backward()  # x needs no gradient: one product forward, one back
        torch.baddbmm(torch.zeros(2, 1, 4), x.expand(2, 7, 5), twins).sum().backward()
        (x * x).sum()
    assert len(recorder.calls) == 4 and recorder.flops() == 2 * (2 * 7 * 5 * 3) + 2 * (2 * 2 * 7 * 5 * 4)


def test_the_floor_of_a_small_update_is_its_products(script):
    log = script["synthetic"](3000, 6, 2, 0)
    config = script["official"](batch=64, critic_rows=16, hidden=8, actor_width=8, actor_blocks=1)
    plain = script["Variant"](log, config, "cpu", 0)
    floor = script["Floor"](lambda: plain.update(1), config, "cpu")
    actor = 64 * 128 + 128 * 128 + (2 + 6 + 128) * 8 + 2 * 8 * 32 + 8 * 2  # multiplications of a row, forward
    critics = 16 * (6 * 8 * (6 * 8 + 8 * 8 + 8))  # about: six heads on 16 rows
    assert 2.5 < floor.flops / (2 * (64 * actor + critics)) < 3.5  # once forward, twice back
    acting = script["Floor"](lambda: plain.act(plain.agent, 1, 1), config, "cpu")
    trunk = 2 * 8 * 32 + 8 * 2  # of one row and step
    rest = 16 * 2 * (8 * 8 + 8 * 8 + 8) * 2 + 16 * 6 * 8 + 5 * (64 * 128 + 128 * 128 + 128 * 8)  # critics; first layer
    assert 0.95 < acting.flops / (2 * (5 * 16 * (trunk + 2 * 8) + rest)) < 1.05
    v, row = script["measure"]("eager", log, config, "cpu", script["argparse"].Namespace(
        seed=0, updates=1, gpu_updates=1, acts=1, rounds=2))  # fmt: skip
    assert v.step == 4 and row["variant"] == "cpu eager" and all(x > 0 for k, x in row.items() if k != "variant")


def test_one_step_is_judged_by_return_and_cost_too(script, tmp_path):
    def cell(task, method, returns, cost):
        value = {"estimate": returns, "low": returns - 5}
        return {"task": task, "method": method, "limit": 10.0, "return": value, "cost": {"estimate": cost}}

    def judged(fast, more=()):
        cells = [cell("A", "FISOR", 100, 0.2), cell("B", "FISOR", 50, 1.5), cell("A", "FISOR, one step", *fast)]
        cells.append(cell("B", "FISOR, one step", 60, 1.4))  # above the limit, but no dearer than its teacher
        table = {"limits": [10.0], "logs": {"A": {}, "B": {}}, "cells": [*cells, *more]}
        (tmp_path / "t.json").write_text(json.dumps(table))
        found, *with_budget = script["quality"](tmp_path / "t.json")
        assert [(f["aim"], f["met"]) for f in with_budget] == [
            ("with a budget and reserve at equal return and cost on every task", True)
        ] * bool(more)
        return found["met"], found["note"]

    assert judged((96, 0.9)) == (True, "2 of 2 tasks")
    assert judged((94, 0.1)) == (False, "1 of 2 tasks; A 94 at 0.10 of the limit against 100 at 0.20 of the limit")
    assert judged((120, 1.1))[0] is False
    names = ("FISOR, normalised, budget, reserve", "FISOR, normalised, budget, one step, reserve")
    assert judged((120, 1.1), [cell(t, m, 9, 0.5) for t in "AB" for m in names])[0] is False
    assert script["quality"](tmp_path / "none.json") == []


def test_aims_are_judged_by_the_rows_they_are_about(script):
    row = {"over the floor": 1.4, "action ms": 5.0, "one step faster": 9.0, "one step faster, 20": 3.0}
    rows = [
        {"variant": "cpu eager", **row},
        {"variant": "cpu bf16", **row, "over the floor": 1.1, "action ms": 1.0},  # not float32
        {"variant": "cpu compiled", **row, "action ms": 50.0, "one step faster, 20": 90.0},  # a slow choice is no gain
        {"variant": "cpu narrow", **row, "over the floor": 1.0, "action ms": 1.0, "one step faster": 3.0},  # smaller
        {"variant": "cuda graph", **row, "over the floor": 1.0, "action ms": 1.0, "minutes for 1M updates": 15.0},
    ]
    found = {a["aim"]: a["met"] for a in script["aims"](rows)}
    assert found == {
        "fp32 update within 1.25x of its products": False,
        "one action in at most 4 ms": False,
        "one-step policy at least 4x faster": True,
        "and for 20 states": False,
        "1M updates in under 20 minutes": True,
        "1M updates in under 10 minutes": False,
    }
