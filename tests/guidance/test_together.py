"""Methods inside each other and one after the other in a chain."""

import pytest
import torch

from safeplan.diffusion import Flow, Trace, ddim, denoise
from safeplan.diffusion.analytic import ring
from safeplan.diffusion.guidance import Guidance
from safeplan.errors import ConfigError
from safeplan.guidance import (
    APG,
    CFG,
    FACFG,
    PAG,
    AdaptiveGuidance,
    CFGpp,
    CFGZeroStar,
    Composed,
    FeedbackGuidance,
    Rescale,
)
from tests.guidance.methods import domain
from tests.guidance.test_limits import at, same, start


@pytest.mark.parametrize(
    "base", [CFGpp(0.6), Composed({"neg": 1.0}), FeedbackGuidance()], ids=lambda m: type(m).__name__
)
def test_adaptive_guidance_refuses_what_cannot_lose_its_reference(base: Guidance):
    """CFG++ renoises with the null prediction: without it the anchor would jump from u to c."""
    with pytest.raises(ConfigError, match=f"base is {type(base).__name__}.*APG"):
        AdaptiveGuidance(base)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("base", [CFG(3.0), APG(3.0, r=0.5), FACFG(low=2.0, high=4.0)], ids=lambda m: type(m).__name__)
def test_adaptive_guidance_keeps_one_field_through_the_stop(base):
    d = domain("trajectory")
    method, ctx = AdaptiveGuidance(base, -1.0), at(d.noise, d.cond)
    first, state = denoise(d.nets, ctx, (method,))
    then, _ = denoise(d.nets, ctx, (method,), state)
    assert first.x0 is first.anchor and then.x0 is then.anchor
    same(first.x0, denoise(d.nets, ctx, (base,))[0].x0)
    same(then.x0, denoise(d.nets, ctx)[0].x0)


def test_adaptive_guidance_lets_cfg_zero_star_stand_still():
    mix, (z, label) = ring(var=0.3), start()
    kept, trace = [], Trace()
    chain = (AdaptiveGuidance(CFGZeroStar(3.0, zero=0.2), 1.1),)
    x = ddim(mix, z, Flow().grid(10), label, chain, trace=trace, callback=lambda k, x: kept.append(x.clone()))
    same(kept[1], z)
    same(x, ddim(mix, z, Flow().grid(10), label, (CFGZeroStar(3.0, zero=0.2),)))
    assert trace.total_nfe().eq(2 + 2 * 8).all()


@pytest.mark.parametrize("before", [CFG(3.0), CFGpp(0.6)], ids=lambda m: type(m).__name__)
def test_cfg_zero_star_stands_still_whatever_stands_before_it(before):
    mix, (z, label) = ring(var=0.3), start()
    kept = []
    chain = (before, CFGZeroStar(3.0, zero=0.2))
    ddim(mix, z, Flow().grid(10), label, chain, callback=lambda k, x: kept.append(x.clone()))
    same(kept[1], z)
    assert not torch.allclose(kept[2], z)


def test_rescale_after_cfgpp_leaves_its_noise_alone():
    d = domain("image")
    ctx = at(d.noise, d.cond)
    pp, _ = denoise(d.nets, ctx, (CFGpp(0.6),))
    got, _ = denoise(d.nets, ctx, (CFGpp(0.6), Rescale(1.0)))
    u, _ = denoise(d.nets, ctx._replace(conds={**ctx.conds, "cond": ctx.conds["null"]}))
    c, _ = denoise(d.nets, ctx)
    same(got.anchor, u.x0)
    same(got.x0.flatten(1).std(1), c.x0.flatten(1).std(1))
    assert (got.x0 - pp.x0).abs().max() > 0.01, "there must be something to rescale"
    one, _ = denoise(d.nets, ctx, (AdaptiveGuidance(CFG(6.0), 1.1), Rescale(1.0)))
    assert one.x0 is one.anchor  # one field stays one


def test_two_perturbations_have_two_cosines():
    d = domain("trajectory")
    trace = Trace()
    denoise(d.nets, at(d.noise, d.cond), (PAG(1.0, ("pag", 0)), PAG(1.0, ("pag", 1)), CFG(2.0)), trace=trace)
    assert list(trace.cosine[0]) == ["cond/main/pag/0", "cond/main/pag/1", "null/main"]
    assert not torch.equal(*list(trace.cosine[0].values())[:2])
