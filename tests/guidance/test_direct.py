"""DiRecT on N(0, 1) with the cost 2 (v - 1.5)^2: where samples end with steps that keep the noise and that renew it."""

from dataclasses import replace

import pytest
import torch

from safeplan.diffusion import VPCosine, ddim, ddpm, euler, heun
from safeplan.diffusion.analytic import Process
from safeplan.guidance import Barrier, Energy, Project, direct
from safeplan.rng import sample_generators

F64 = torch.float64
GAUSS = Process(torch.ones(1, 1, dtype=F64), torch.zeros(1, dtype=F64))


def cost(v):
    return 2.0 * (v - 1.5).square().flatten(1).sum(1)


def means(sampler, scale=0.05, **options):
    """Mean after 20, 80 and 320 steps: every step is affine, so the mean is where zero noise ends."""
    zero = torch.zeros(1, 1, 1, dtype=F64)
    return [sampler(GAUSS, zero, VPCosine().grid(n), None, (direct(cost, scale),), **options) for n in (20, 80, 320)]


def test_the_strength_grows_with_the_steps_and_only_ancestral_sampling_stops_at_the_goal():
    """The numbers of the docstring."""
    kept = [x.item() for x in means(euler)]
    assert kept == pytest.approx([1.36, 2.07, 2.99], abs=0.006)
    renewed = [x.item() for x in means(ddpm, temperature=0.0, generators=sample_generators(0, 1))]
    assert renewed == pytest.approx([0.65, 0.75, 0.86], abs=0.006)
    strong = means(ddpm, 1.0, temperature=0.0, generators=sample_generators(0, 1))
    assert all(1.45 < x < 1.5 for x in strong) and all(x > 1.7 for x in means(euler, 1.0))


def test_a_heun_corrector_has_the_weight_of_its_predictor():
    """So Heun ends where Euler does; a corrector without the correction would halve the strength (0.58, 1.15, 1.91)."""
    for x, y in zip(means(heun), means(euler), strict=True):
        assert x.item() == pytest.approx(y.item(), rel=0.02)


@pytest.mark.parametrize(
    "method",
    [Energy(lambda v: 0.05 * cost(v)), Barrier(lambda v: v[:, 0, 0] - 1.0), Project(lambda v: v.clamp_min(1.0))],
    ids=lambda m: type(m).__name__,
)
def test_an_aim_without_the_weight_of_the_step_grows_with_the_steps(method):
    """As the docstrings say; what moves both fields stays: at 0.25, the tilt, or at the bound 1."""
    zero = torch.zeros(1, 1, 1, dtype=F64)
    aim, both = (
        [ddim(GAUSS, zero, VPCosine().grid(n), None, (replace(method, fields=f),)).item() for n in (20, 80)]
        for f in ("aim", "both")
    )
    assert aim[1] > aim[0] + 0.5 and both == pytest.approx([0.25 if isinstance(method, Energy) else 1.0] * 2, abs=0.02)


def test_it_cites_its_own_paper():
    assert direct(cost).citation().startswith("[direct") and "2606.15359" in direct(cost).citation()
