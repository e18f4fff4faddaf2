"""What methods that change from step to step do in the correctors of Heun's method."""

import math

import pytest
import torch

from safeplan.diffusion import EDM, Trace, VPCosine, ddim, heun
from safeplan.diffusion.analytic import Mixture, ring
from safeplan.diffusion.guidance import Guidance
from safeplan.errors import ConfigError
from safeplan.guidance import CFG, AdaptiveGuidance, LinearAG, fit_linear_ag
from tests.guidance.test_limits import F64, start


def test_a_corrector_knows_the_whole_step():
    seen = []

    class Spy(Guidance):
        def __call__(self, guided, predictions, ctx, state):
            seen.append((ctx.step, ctx.sigma, ctx.sigma_begin, ctx.taken))
            return guided, state

    grid = VPCosine().grid(4)
    heun(ring(), start()[0], grid, None, (Spy(),))
    s = grid.sigma
    want = [math.inf, *(s[k] ** 2 - s[k + 1] ** 2 for k in range(1, 4))]
    for k in range(4):
        (step, at, begin, taken), *corrector = [v for v in seen if v[0] == k]
        assert (step, at, begin) == (k, s[k], None) and taken == pytest.approx(want[k])
        assert corrector == ([(k, s[k + 1], s[k], taken)] if k < 3 else [])


def test_adaptive_guidance_drops_the_reference_in_the_corrector_of_the_same_step():
    mix, (z, label) = ring(var=0.3), start()
    trace = Trace()
    heun(mix, z, VPCosine().grid(6), label, (AdaptiveGuidance(CFG(4.0), -1.0),), trace=trace)
    assert [int(n[0]) for n in trace.nfe] == [2] + [1] * 10


@pytest.fixture
def world():
    """Seven classes in 16 dimensions, and a run: (sampler, chain, trace) -> samples."""
    g = torch.Generator().manual_seed(0)
    means = torch.randn(7, 16, generator=g, dtype=F64)
    mix = Mixture(2 * means / means.norm(dim=1, keepdim=True), 0.35)
    z, label = torch.randn(16, 16, generator=g, dtype=F64), {"label": torch.arange(16) % 7}
    return lambda sampler, chain, steps=16, trace=None: sampler(
        mix, z, EDM(sigma_max=10.0).grid(steps), label, chain, trace=trace
    )


@pytest.mark.parametrize("sampler", [ddim, heun])
def test_linear_ag_is_fitted_by_steps_and_not_by_calls(sampler, world):
    fitted, trace = fit_linear_ag(lambda chain: world(sampler, chain), [3, 5, 7], 3.0), Trace()
    want = world(sampler, (CFG(3.0),))
    got = world(sampler, (fitted,), trace=trace)
    off, effect = ((x - want).square().mean().sqrt() for x in (got, world(sampler, ())))
    assert off < 0.02 and effect > 0.2
    calls = 16 if sampler is ddim else 31  # correctors ask the network
    assert trace.total_nfe().eq(2 * calls - 3).all()


@pytest.mark.parametrize("w", [1.0, lambda sigma: 3.0 if sigma < 1.5 else 1.0], ids=["everywhere", "at first"])
def test_linear_ag_is_fitted_where_the_scale_is_one(w, world):
    run = lambda chain: world(ddim, chain)  # noqa: E731
    fitted, plain = fit_linear_ag(run, [3, 9, 12], w), fit_linear_ag(run, [3], 3.0)
    assert set(fitted.rules) == {3, 9, 12}
    off = (run((fitted,)) - run((CFG(w),))).square().mean().sqrt()
    assert off < 0.02
    if w != 1.0:  # before the scale starts the runs part, so that the rules of a step differ
        assert fitted.rules[3] != plain.rules[3]


def test_linear_ag_refuses_steps_that_no_run_has_and_other_grids(world):
    run = lambda chain: world(ddim, chain)  # noqa: E731
    for step in (0, -1, 16):
        with pytest.raises(ConfigError, match=f"step {step}; the run has 16 steps, give 1 to 15"):
            fit_linear_ag(run, [3, step], 3.0)
    fitted = fit_linear_ag(run, [3], 3.0)
    with pytest.raises(ConfigError, match=r"rule of step 3 was fitted at sigma = .* grid"):
        world(ddim, (fitted,), steps=12)
    world(ddim, (LinearAG(3.0, fitted.rules),), steps=12)  # rules of one's own have no levels
