"""Energy guidance against exact tilts of Gaussians."""

import pytest
import torch

from safeplan.diffusion import Cond, Context, Guided, Pin, Prediction, Predictions, VPCosine, conditions, ddim, denoise
from safeplan.diffusion.analytic import smooth_process
from safeplan.errors import CapabilityError, ConfigError
from safeplan.guidance import CFG, Energy

F64 = torch.float64


def quadratic(rows, targets, k):
    """E(v) = k/2 |R v - t|^2 on trajectories `[B, H, 1]`."""
    return lambda v: 0.5 * k * (v[..., 0] @ rows.T - targets).square().sum(1)


def tilted(gp, rows, targets, k, cond=None):
    """Mean and covariance of the prior (given a pin) times exp(-E)."""
    mean, cov = gp.conditioned(cond or Cond())
    inner = rows @ cov @ rows.T + torch.eye(len(rows), dtype=F64) / k
    gain = cov @ rows.T @ torch.linalg.inv(inner)
    return mean[0] + gain @ (targets - rows @ mean[0]), cov - gain @ rows @ cov


def at(gp, x, sigma, cond=None):
    a = torch.tensor((1 + sigma**2) ** -0.5, dtype=F64)
    return Context(x, a, a * sigma, sigma, 0, conditions(cond))


@pytest.mark.parametrize("rank", [1, 3])
def test_proximal_energy_is_the_exact_tilted_denoiser(rank):
    """Gaussian prior, quadratic cost: the guided x0 equals E[x0 | x] under the tilted prior, at every noise level."""
    gp, g = smooth_process(), torch.Generator().manual_seed(0)
    rows = torch.randn(rank, 16, generator=g, dtype=F64)
    targets, k = torch.randn(rank, generator=g, dtype=F64), 3.0
    mean, cov = tilted(gp, rows, targets, k)
    x = torch.randn(5, 16, 1, generator=g, dtype=F64)
    for sigma in (0.3, 2.0, 20.0):
        ctx = at(gp, x, sigma)
        got, _ = denoise(gp, ctx, (Energy(quadratic(rows, targets, k), iterations=rank),))
        want = type(gp)(cov, mean)(x, ctx.a, ctx.s, Cond()).x0
        torch.testing.assert_close(got.x0, want, rtol=1e-12, atol=1e-12)


def test_proximal_energy_samples_the_tilt_and_explicit_overshoots():
    """N(0, 1), E = 2 (v - 1.5)^2: the tilt is N(1.2, 0.2); DPS-like explicit steps overweight the goal."""

    def model(x, a, s, cond, perturb=None):
        return Prediction(a / (a * a + s * s) * x)

    z = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    cost = lambda v: 2.0 * (v - 1.5).square().sum(1)  # noqa: E731
    prox = ddim(model, z, VPCosine().grid(100), None, (Energy(cost),))
    assert prox.mean().item() == pytest.approx(1.2, abs=0.02) and prox.var().item() == pytest.approx(0.2, abs=0.015)
    grid = VPCosine(t_max=0.98).grid(20)
    prox, scalar = (ddim(model, z, grid, None, (Energy(cost, metric=m),)) for m in ("posterior", "scalar"))
    torch.testing.assert_close(scalar, prox, rtol=1e-9, atol=1e-9)  # unit data: both metrics are the same
    blunt = ddim(model, z, VPCosine().grid(100), None, (Energy(cost, proximal=False),))
    assert blunt.mean().item() > 1.5 and blunt.var().item() < 0.1


def test_one_vjp_is_the_posterior_covariance():
    gp, g = smooth_process(), torch.Generator().manual_seed(1)
    ctx = at(gp, torch.randn(3, 16, 1, generator=g, dtype=F64), 0.8)
    v = torch.randn(3, 16, 1, generator=g, dtype=F64)
    method = Energy(lambda y: (y * v).flatten(1).sum(1), proximal=False)
    got, _ = denoise(gp, ctx, (method,))
    a, s = ctx.a, ctx.s
    cov = gp.cov - a**2 * gp.cov @ torch.linalg.inv(a**2 * gp.cov + s**2 * torch.eye(16, dtype=F64)) @ gp.cov
    plain, _ = denoise(gp, ctx)
    torch.testing.assert_close(plain.x0 - got.x0, (v[..., 0] @ cov)[..., None], rtol=1e-10, atol=1e-10)


def test_pin_and_energy_together_are_the_conditioned_tilt():
    gp = smooth_process()
    rows = torch.zeros(1, 16, dtype=F64)
    rows[0, 12] = 1.0
    mask = torch.zeros(1, 16, 1, dtype=torch.bool)
    mask[:, 0] = True
    n = 3000
    value = torch.zeros(n, 16, 1, dtype=F64)
    value[:, 0] = -0.5
    cond = Cond(pin=Pin(mask, value))
    mean, cov = tilted(gp, rows, torch.tensor([2.0], dtype=F64), 8.0, cond)
    z = torch.randn(n, 16, 1, generator=torch.Generator().manual_seed(2), dtype=F64)
    chain = (Energy(quadratic(rows, torch.tensor([2.0], dtype=F64), 8.0)),)
    x = ddim(gp, z, VPCosine().grid(200), cond, chain)[..., 0]
    assert (x[:, 0] == -0.5).all()
    assert (x.mean(0) - mean).square().mean().sqrt() < 0.04
    assert (torch.cov(x.T) - cov).square().mean().sqrt() < 0.04


def test_gradient_goes_through_decode():
    """Finite differences of the energy of physical units give the explicit identity-metric step."""
    scale, shift = torch.tensor([3.0, 0.2], dtype=F64), torch.tensor([1.0, -2.0], dtype=F64)
    decode = lambda v: v * scale + shift  # noqa: E731
    energy = lambda y: torch.sin(y[:, 0]) * y[:, 1] ** 2  # noqa: E731
    x0 = torch.tensor([[0.3, -0.7], [1.1, 0.4]], dtype=F64)
    one = torch.tensor(0.6, dtype=F64)
    ctx = Context(x0, one, one, 1.0, 0, conditions(None), decode)
    preds = Predictions({})
    got, _ = Energy(energy, metric="identity", proximal=False, scale=0.7)(Guided(x0, x0), preds, ctx, None)
    eps, fd = 1e-6, torch.zeros_like(x0)
    for j in range(2):
        d = torch.zeros(2, dtype=F64)
        d[j] = eps
        fd[:, j] = (energy(decode(x0 + d)) - energy(decode(x0 - d))) / (2 * eps)
    torch.testing.assert_close(got.x0, x0 - 0.7 * fd, rtol=1e-7, atol=1e-7)
    aim, _ = Energy(energy, metric="identity", proximal=False, fields="aim")(Guided(x0, x0), preds, ctx, None)
    assert torch.equal(aim.anchor, x0) and not torch.equal(aim.x0, x0)


def test_limits_scales_and_interval():
    gp = smooth_process()
    x = torch.randn(4, 16, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    ctx, cost = at(gp, x, 1.0), lambda v: v.flatten(1).square().sum(1)
    plain, _ = denoise(gp, ctx)
    for off in (Energy(cost, scale=0.0), Energy(cost, interval=(2.0, 3.0)), Energy(cost, scale=lambda s: 0.0)):
        assert torch.equal(denoise(gp, ctx, (off,))[0].x0, plain.x0)
    w = torch.tensor([0.0, 1.0, 0.0, 2.0], dtype=F64)
    each, _ = denoise(gp, ctx, (Energy(cost, scale=w),))
    torch.testing.assert_close(each.x0[::2], plain.x0[::2])
    torch.testing.assert_close(each.x0[3], denoise(gp, ctx, (Energy(cost, scale=2.0),))[0].x0[3])
    # at a = 0, x says nothing about x0: finite, and no step in the posterior metric
    zero, one = torch.zeros((), dtype=F64), torch.ones((), dtype=F64)
    end = Context(x, zero, one, float("inf"), 0, conditions(None))
    assert torch.equal(denoise(gp, end, (Energy(cost),))[0].x0, denoise(gp, end)[0].x0)
    assert torch.isfinite(denoise(gp, end, (Energy(cost, metric="scalar"),))[0].x0).all()


def test_concave_energy_does_not_break_the_proximal_step():
    gp = smooth_process()
    x = torch.randn(4, 16, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    got, _ = denoise(gp, at(gp, x, 1.0), (Energy(lambda v: -50 * v.flatten(1).square().sum(1), iterations=3),))
    assert torch.isfinite(got.x0).all()


def test_gradients_with_a_row_cap_and_a_partner():
    gp = smooth_process()
    x = torch.randn(5, 16, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    ctx = at(gp, x, 1.0, {"goal": torch.zeros(5, 1)})
    chain = (CFG(2.0), Energy(lambda v: v.flatten(1).square().sum(1)))
    whole, cut = (denoise(gp, ctx, chain, max_rows=m)[0].x0 for m in (None, 3))
    torch.testing.assert_close(whole, cut, rtol=1e-12, atol=1e-12)


def test_errors_and_citation():
    cost = lambda v: v.sum(1)  # noqa: E731
    for kw in ({"metric": "euclid"}, {"fields": "none"}, {"iterations": 0}, {"interval": (-1.0, 2.0)}):
        with pytest.raises(ConfigError):
            Energy(cost, **kw)
    with pytest.raises(CapabilityError, match="gradient"):
        Predictions({}).vjp(torch.zeros(1))
    assert "[dps" in Energy(cost).citation()
