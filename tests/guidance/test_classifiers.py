"""Guidance by a classifier of clean or of noisy samples: what it equals and how often it is asked."""

import pytest
import torch

from safeplan.diffusion import EDM, Flow, Trace, VPCosine, ddim, denoise
from safeplan.diffusion.analytic import ring
from safeplan.errors import ConfigError
from safeplan.guidance import CFG, GFCG, ClassifierGuidance, EluCD, calibrated_logit, confusion, smooth_activations
from safeplan.guidance.vector import rms
from tests.guidance.methods import domain
from tests.guidance.mixture_runs import F64, GRIDS, at, noisy_logits, same, start


def test_cfg_is_classifier_guidance_with_the_exact_noisy_posterior():
    """u + w (s^2/a) grad log p(y|x): from the unconditional model, along a whole run, in every frame."""
    mix, (z, label) = ring(var=0.3), start()
    for grid in (VPCosine(t_max=0.97).grid(12), EDM(sigma_max=20.0).grid(12), Flow().grid(40).below(20.0)):
        classifier = ClassifierGuidance(noisy_logits(mix), 2.5)
        got = ddim(mix, z, grid, label, (CFG(0.0), classifier))
        same(got, ddim(mix, z, grid, label, (CFG(2.5),)))


def test_gfcg_with_two_classes_and_the_exact_posterior_is_cfg():
    mix, (z, label) = ring(2, var=0.5), start(12, 2)
    for sigma in (0.3, 1.0, 4.0):
        ctx = at(sigma * z, label, sigma, "ve")
        exact = GFCG(lambda x, ctx=ctx: mix.logits(ctx.x, ctx.a, ctx.s), 1.7)
        got, _ = denoise(mix, ctx, (exact,))
        want, _ = denoise(mix, ctx, (CFG(2.7),))
        same(got.x0, want.x0)


def test_gfcg_rival_is_deterministic_and_its_laws_are_bounded():
    p = torch.tensor([[0.6, 0.2, 0.2], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0]], dtype=F64)
    y = torch.tensor([0, 2, 0])
    doubt, r = confusion(p, y)
    assert r.tolist() == [1, 0, 1]  # ties: the lowest
    same(doubt, torch.tensor([0.4, 0.2, 0.0], dtype=F64))
    rival, _ = confusion(p, y, "rival")
    same(rival, torch.tensor([0.25, 1 / 9, 0.0], dtype=F64))
    with pytest.raises(ConfigError, match="law"):
        GFCG(lambda x: x, law="other")


def test_gfcg_asks_the_classifier_once_a_step():
    calls = []

    def clf(x):
        calls.append(len(x))
        return torch.zeros(len(x), 4, dtype=x.dtype)

    mix, (z, label) = ring(var=0.3), start()
    trace = Trace()
    ddim({"main": mix, "weak": mix}, z, GRIDS["vp"], label, (GFCG(clf, 1.0, net="weak"),), trace=trace)
    assert len(calls) == 12 and trace.total_nfe().eq(24).all()


def test_calibrated_logit_limits_and_smooth_activations():
    f, y = torch.randn(5, 4, dtype=F64, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0])
    grad = lambda **t: torch.func.grad(lambda v: calibrated_logit(v, y, **t).sum())(f)  # noqa: E731
    same(grad(joint=1.0, marginal=1.0), torch.func.grad(lambda v: v.log_softmax(1)[range(5), y].sum())(f))
    one_hot = torch.eye(4, dtype=F64)[y]
    same(grad(joint=1.0, marginal=0.5), one_hot - 0.5 * (0.5 * f).softmax(1), 1e-12)
    same(grad(joint=1.0, marginal=0.0), one_hot)
    flat = torch.zeros(5, 4, dtype=F64)
    same(torch.func.grad(lambda v: calibrated_logit(v, y, 1.0, 1.0).sum())(flat).sum(), torch.zeros((), dtype=F64))
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4)).double()
    x = torch.randn(6, 3, dtype=F64)
    gap = [(smooth_activations(net, b)(x) - net(x)).abs().max().item() for b in (3.0, 30.0, 300.0)]
    assert gap[0] > gap[1] > gap[2] and gap[2] < 0.05 and isinstance(net[1], torch.nn.ReLU)


def test_elucd_takes_the_network_out_of_the_gradient_and_unit_rms_holds():
    d = domain("trajectory")
    target = torch.tensor([0.3, 0.1, -0.2, 0.4], dtype=F64)
    clf = lambda x: x.flatten(1)[:, :4] * target  # noqa: E731
    ctx = at(d.noise, d.cond)
    plain, _ = denoise(d.nets, ctx)
    got, _ = denoise(d.nets, ctx, (EluCD(clf, 0.25),))

    def value(x0):
        return calibrated_logit(clf(x0), d.cond["label"], 1.0, 0.5).sum()

    without = torch.func.grad(value)(plain.x0)
    through = torch.func.grad(lambda x: value(denoise(d.nets, ctx._replace(x=x))[0].x0))(ctx.x)
    same(got.x0 - plain.x0, 0.25 * without)
    assert (through - without).flatten(1).norm(dim=1).min() > 0.05 * without.norm(), "the network must matter"
    unit, _ = denoise(d.nets, ctx, (EluCD(clf, 0.25, unit=True),))
    same(rms(unit.x0 - plain.x0), 0.25 * rms(plain.x0))
