"""The benchmark counts what it says it counts, and judges by the variant that an aim is about."""

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
    floor = script["Floor"](log, config, "cpu", 0)
    actor = 64 * 128 + 128 * 128 + (2 + 6 + 128) * 8 + 2 * 8 * 32 + 8 * 2  # multiplications of a row, forward
    critics = 16 * (6 * 8 * (6 * 8 + 8 * 8 + 8))  # about: six heads on 16 rows
    assert 2.5 < floor.flops / (2 * (64 * actor + critics)) < 3.5  # once forward, twice back
    v, row = script["measure"]("eager", log, config, "cpu", script["argparse"].Namespace(
        seed=0, updates=1, gpu_updates=1, acts=1, rounds=2))  # fmt: skip
    assert v.step == 4 and row["variant"] == "cpu eager" and all(x > 0 for k, x in row.items() if k != "variant")


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
