import math

import pytest
import torch

from safeplan.diffusion import (
    EDM,
    Cond,
    Context,
    Denoiser,
    Flow,
    Trace,
    VPCosine,
    VPLinear,
    conditions,
    ddim,
    denoise,
    heun,
)
from safeplan.diffusion.analytic import ring
from safeplan.errors import ConfigError
from safeplan.guidance import CFG

F64 = torch.float64


def start(n=16, dtype=F64):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return z, {"label": torch.arange(n) % 4}


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (F64, 1e-12)])
def test_cfg_is_the_same_in_every_parametrisation(dtype, tol):
    """One step from x0, eps, v, flow and EDM networks that are exactly right; the step is affine, so all must agree."""
    mix, (z, label) = ring(var=0.3, dtype=dtype), start(dtype=dtype)
    a, s = torch.tensor(0.8, dtype=F64), torch.tensor(0.6, dtype=F64)
    ctx = Context(z, a, s, 0.75, 0, conditions(label))
    want, _ = denoise(mix, ctx, (CFG(3.0),))
    for path, kind in (
        (VPCosine(), "x0"), (VPCosine(), "eps"), (VPLinear(), "eps"), (VPCosine(), "v"), (Flow(), "flow"),
        (EDM(), "edm"), (EDM(), "eps"),
    ):  # fmt: skip
        got, _ = denoise(Denoiser(mix.net(path, kind), path, kind), ctx, (CFG(3.0),))
        assert (got.x0 - want.x0).abs().max() < tol, (path.name, kind)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-6), (F64, 1e-12)])
def test_guided_predictions_agree_across_eps_x0_v_on_one_path(dtype, tol):
    mix, (z, label) = ring(var=0.3, dtype=dtype), start(dtype=dtype)
    path = VPCosine()
    a, s = path.at(torch.tensor(0.3, dtype=F64))
    ctx = Context(z, a, s, float(s / a), 0, conditions(label))
    outs = [denoise(Denoiser(mix.net(path, k), path, k), ctx, (CFG(1.5),))[0].x0 for k in ("x0", "eps", "v")]
    assert max((o - outs[0]).abs().max() for o in outs) < tol


def test_cfg_is_exact_noisy_posterior_guidance():
    """c + (w-1)(c-u) = u + w (s^2/a) grad log p(label | x) on the mixture."""
    mix, (z, label) = ring(var=0.3), start()
    for sigma in (0.2, 1.0, 8.0):
        a = torch.tensor((1 + sigma**2) ** -0.5, dtype=F64)
        s = a * sigma
        x = (a * mix.means[label["label"]] + s * z).requires_grad_()
        logp = mix.logits(x, a, s).log_softmax(1).gather(1, label["label"][:, None]).sum()
        (grad,) = torch.autograd.grad(logp, x)
        x = x.detach()
        got, _ = denoise(mix, Context(x, a, s, sigma, 0, conditions(label)), (CFG(2.5),))
        u = mix.x0(x, a, s, Cond())
        torch.testing.assert_close(got.x0, u + 2.5 * s**2 / a * grad, rtol=1e-12, atol=1e-12)
        assert got.x0 is not None and torch.equal(got.x0, got.anchor)


def test_limits_and_cost():
    mix, (z, label) = ring(), start()
    grid = VPCosine().grid(8)
    cond, null = ddim(mix, z, grid, label), ddim(mix, z, grid)
    off = Trace()
    assert torch.equal(ddim(mix, z, grid, label, (CFG(1.0),), trace=off), cond)
    assert off.total_nfe().eq(8).all()
    torch.testing.assert_close(ddim(mix, z, grid, label, (CFG(0.0),)), null, rtol=1e-12, atol=1e-12)
    empty = ddim(mix, z, grid, label, (CFG(5.0, interval=(100.0, 101.0)),))
    assert torch.equal(empty, cond)
    assert not torch.equal(ddim(mix, z, grid, label, (CFG(5.0),)), cond)


@pytest.mark.parametrize("path", [VPCosine(), Flow()], ids=lambda p: p.name)
def test_interval_is_inclusive_and_infinite_sigma_counts(path):
    mix, (z, label) = ring(), start()
    grid = path.grid(8)
    assert grid.sigma[0] == math.inf
    trace = Trace()
    ddim(mix, z, grid, label, (CFG(2.0),), trace=trace)
    assert [int(n[0]) for n in trace.nfe] == [2] * 8
    trace = Trace()
    ddim(mix, z, grid, label, (CFG(2.0, interval=(grid.sigma[5], grid.sigma[2])),), trace=trace)
    assert [int(n[0]) for n in trace.nfe] == [1, 1, 2, 2, 2, 2, 1, 1]
    trace = Trace()
    heun(mix, z, grid, label, (CFG(2.0, interval=(grid.sigma[5], grid.sigma[2])),), trace=trace)  # correctors too
    assert [int(n[0]) for n in trace.nfe] == [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1]
    with pytest.raises(ConfigError, match="interval"):
        CFG(2.0, interval=(3.0, 1.0))


def test_scale_per_sample_and_as_a_function_of_sigma():
    mix, (z, label) = ring(var=0.3), start()
    grid = VPCosine().grid(6)
    w = torch.tensor([1.0, 3.0] * 8)
    mixed = ddim(mix, z, grid, label, (CFG(w),))
    for v, rows in ((1.0, slice(0, None, 2)), (3.0, slice(1, None, 2))):
        torch.testing.assert_close(mixed[rows], ddim(mix, z, grid, label, (CFG(v),))[rows], rtol=1e-12, atol=1e-12)
    by_sigma = ddim(mix, z, grid, label, (CFG(lambda s: 2.0 if s < 1 else 1.0),))
    interval = ddim(mix, z, grid, label, (CFG(2.0, interval=(0.0, 1.0 - 1e-9)),))
    assert torch.equal(by_sigma, interval)


def test_stronger_guidance_sharpens_classes():
    mix, _ = ring(4, var=1.2), None
    z = torch.randn(1000, 2, generator=torch.Generator().manual_seed(1), dtype=F64)
    label = torch.arange(1000) % 4
    one, zero = torch.ones((), dtype=F64), torch.zeros((), dtype=F64)
    rates = []
    for w in (1.0, 4.0):
        x = heun(mix, z, VPCosine().grid(20), {"label": label}, (CFG(w),))
        rates.append((mix.logits(x, one, zero).argmax(1) == label).double().mean().item())
    assert rates[1] > rates[0] + 0.05


def test_citation_names_key_and_equation():
    text = CFG(2.0).citation()
    assert text.startswith("[cfg, eq. 6]") and "2207.12598" in text
