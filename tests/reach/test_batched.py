"""Many plans at once: the same motion as one by one, on levels, gradients, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from safeplan.dynamics.hovercraft import hovercraft, hovercraft_belief
from safeplan.dynamics.systems import system
from safeplan.errors import ShapeError
from safeplan.reach import rollout
from safeplan.reach.batched import push_plans, risks, stack_plans
from safeplan.reach.sets import Ball, Union, levels
from safeplan.types import Draw, Reference

DOUBLE = torch.zeros((), dtype=torch.float64)


def plans(system, B, N=6, seed=0):
    rng = np.random.default_rng(seed)
    n, m = system.n, system.m
    make = lambda: Reference(  # noqa: E731
        0.2 * rng.normal(size=(N + 1, n)), rng.uniform(-0.3, 0.3, (N, m)), 0.2 * rng.normal(size=(N, m, n)), 0.1
    )
    return [make() for _ in range(B)]


def test_batch_is_each_plan_by_itself():
    """Angles, clipping, feedback and disturbances that change: the hovercraft has them all."""
    craft = hovercraft()
    draw = hovercraft_belief(np.zeros(9)).sample(7, 3, np.random.default_rng(1))
    refs = plans(craft, 3)
    region = Union([Ball([0.05, 0.0], 0.02), Ball([0.0, 0.3], 0.1, velocity=[0.0, -0.4])])
    out = push_plans(craft, draw, refs, 0.25, region, like=DOUBLE, keep=True)
    assert out.states is not None
    for b, ref in enumerate(refs):
        flow = rollout(craft, draw, ref, 0.25)
        np.testing.assert_allclose(out.states[:, :, b].numpy(), flow.states, atol=1e-12)
        worst = levels(region, flow.times, flow.states).min(0)
        np.testing.assert_allclose(out.worst[b].numpy(), worst, atol=1e-9)
        assert float(risks(out)[b]) == pytest.approx(np.mean(worst <= 0))
    assert 0 < float(risks(out).mean()) < 1


def test_a_closed_loop_has_no_controls():
    case = system("vdp")
    draw = case.start.sample(5, 1, np.random.default_rng(0))
    out = push_plans(case.loop, draw, [case.reference], np.inf, like=DOUBLE, keep=True)
    flow = rollout(case.loop, draw, case.reference, np.inf)
    assert out.states is not None
    np.testing.assert_allclose(out.states[:, :, 0].numpy(), flow.states, atol=1e-12)
    assert torch.isinf(out.worst).all()


def test_gradient_of_the_worst_level_in_the_controls():
    craft = hovercraft()
    draw = hovercraft_belief(np.zeros(9)).sample(3, 1, np.random.default_rng(1))
    (ref,) = plans(craft, 1)
    region = Ball([0.4, 0.1], 0.1)

    def mean_level(controls):
        r = ref._replace(controls=controls)
        return push_plans(craft, draw, [r], np.inf, region, like=DOUBLE).worst.mean()

    u = torch.as_tensor(ref.controls).requires_grad_(True)
    (g,) = torch.autograd.grad(mean_level(u), u)
    for i in ((0, 0), (3, 1)):
        d = torch.zeros_like(u)
        d[i] = 1e-5
        with torch.no_grad():
            slope = (mean_level(u + d) - mean_level(u - d)) / 2e-5
        assert float(g[i]) == pytest.approx(float(slope), rel=1e-4, abs=1e-9)
    assert g.abs().max() > 1e-4


def test_what_is_not_a_number_counts_as_inside():
    case = system("vdp")
    draw = Draw(np.array([[0.0, 0.0], [np.nan, 0.0]]), np.zeros((2, 1, 0)))
    out = push_plans(case.loop, draw, [case.reference], np.inf, Ball([9.0, 9.0], 0.1))
    assert float(risks(out)[0]) == 0.5


def test_single_precision_is_close_and_compiled_is_the_same():
    case = system("car")
    draw = case.start.sample(16, 1, np.random.default_rng(0))
    region = Ball([1.0, 0.0], 0.5)
    fine = push_plans(case.loop, draw, [case.reference], np.inf, region, like=DOUBLE).worst
    coarse = push_plans(case.loop, draw, [case.reference], np.inf, region).worst
    assert coarse.dtype == torch.float32
    np.testing.assert_allclose(coarse.numpy(), fine.numpy(), atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("substeps", [1, 4])
def test_compiled_equals_eager(substeps):
    """Steps compiled together and one by one; a set that moves; parameters that change."""
    case = system("car")
    loop = replace(case.loop, substeps=substeps)
    draw = case.start.sample(67, 1, np.random.default_rng(0))
    draw = Draw(draw.x, draw.theta * np.array([1.0, 0.5, 0.0])[:, None])
    region, refs = Ball([1.0, 0.0], 0.5, velocity=[-0.1, 0.0]), plans(loop, 2, 10)
    eager, fast = (push_plans(loop, draw, refs, 0.3, region, keep=True, compiled=c) for c in (False, True))
    assert eager.states is not None and fast.states is not None
    assert fast.states.shape == (10 * substeps + 1, 3, 2, 67)
    torch.testing.assert_close(fast.states, eager.states, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast.worst, eager.worst, atol=1e-5, rtol=1e-5)


def test_refusals():
    craft = hovercraft()
    with pytest.raises(ShapeError, match="0 references of 0 shapes"):
        stack_plans([], DOUBLE)
    with pytest.raises(ShapeError, match="2 references of 2 shapes"):
        stack_plans([*plans(craft, 1), *plans(craft, 1, N=4)], DOUBLE)
