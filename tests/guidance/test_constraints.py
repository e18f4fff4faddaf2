"""Barriers, measurements and aims against exact answers on a Gaussian process over trajectories."""

from dataclasses import replace

import pytest
import torch

from safeplan.diffusion import Cond, Context, Pin, VPCosine, conditions, ddim, denoise
from safeplan.diffusion.analytic import smooth_process
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.guidance import Barrier, ConstrictingBarrier, Energy, PiGDM, Project, direct

F64 = torch.float64


def at(gp, x, sigma, sigma_next=None):
    a = torch.tensor((1 + sigma**2) ** -0.5, dtype=F64)
    return Context(
        x, a, a * sigma, sigma, 0, conditions(None), None, None, sigma / 2 if sigma_next is None else sigma_next
    )


def noise(n, seed=0):
    return torch.randn(n, 16, 1, generator=torch.Generator().manual_seed(seed), dtype=F64)


def posterior(gp, ctx):
    a, s = ctx.a, ctx.s
    inner = torch.linalg.inv(a**2 * gp.cov + s**2 * torch.eye(16, dtype=F64))
    return gp.cov - a**2 * gp.cov @ inner @ gp.cov


def roughness(x):
    return x[..., 0].diff(n=2, dim=1).square().mean(1).sqrt().mean().item()


def test_barrier_moves_along_the_posterior_covariance_and_just_enough():
    gp = smooth_process()
    ctx = at(gp, noise(4), 0.8)
    plain, _ = denoise(gp, ctx)
    got, _ = denoise(gp, ctx, (Barrier(lambda v: v[:, 8, 0] - 1.0),))
    column = posterior(gp, ctx)[:, 8]
    want = plain.x0[..., 0] + (1.0 - plain.x0[:, 8]).clamp_min(0) * column / column[8]
    torch.testing.assert_close(got.x0[..., 0], want, rtol=1e-10, atol=1e-10)
    assert (got.x0[:, 8] >= 1.0 - 1e-9).all()
    free, _ = denoise(gp, ctx, (Barrier(lambda v: v[:, 8, 0] + 50.0),))
    assert torch.equal(free.x0, plain.x0)  # nothing to do: nothing done


def test_barrier_handles_the_worst_of_several_one_after_the_other():
    gp = smooth_process()
    ctx = at(gp, noise(4), 0.8)
    two = lambda v: torch.stack([v[:, 4, 0] - 1.0, v[:, 12, 0] - 1.0], 1)  # noqa: E731
    once, many = (denoise(gp, ctx, (Barrier(two, iterations=n),))[0].x0 for n in (1, 60))
    assert two(once).amin(1).min() < -0.1 and two(many).amin() > -1e-4


def test_posterior_metric_keeps_trajectories_smooth_and_projection_does_not():
    """Constraint x[8] >= 1: all satisfy it; Euclidean corrections leave a kink, the posterior metric does not."""
    gp, z, grid = smooth_process(), noise(200), VPCosine().grid(20)
    h = lambda v: v[:, 8, 0] - 1.0  # noqa: E731

    def lift(v):
        v = v.clone()
        v[:, 8] = v[:, 8].clamp_min(1.0)
        return v

    plain = roughness(ddim(gp, z, grid))
    rough = {}
    for name, method in {
        "posterior": Barrier(h),
        "euclid": Barrier(h, metric="identity"),
        "project": Project(lift),
        "tube": ConstrictingBarrier(h, width=1.0),
    }.items():
        x = ddim(gp, z, grid, None, (method,))
        assert (x[:, 8] >= 1.0 - 1e-6).all(), name
        rough[name] = roughness(x) / plain
    assert rough["posterior"] < 1.3 < 1.5 < min(rough["euclid"], rough["project"], rough["tube"])
    last = lift(ddim(gp, z, grid))
    assert roughness(last) / plain > rough["posterior"]


def test_constricting_tube_is_loose_at_noise():
    gp = smooth_process()
    method = ConstrictingBarrier(lambda v: v[:, 8, 0] - 1.0, width=0.5)
    for sigma in (0.1, 1.0, 4.0):
        got, _ = denoise(gp, at(gp, noise(6), sigma), (method,))
        assert (got.x0[:, 8, 0] - 1.0 >= -0.25 * sigma - 1e-9).all()


def test_aim_only_keeps_the_anchor():
    gp, ctx = smooth_process(), at(smooth_process(), noise(3), 0.8)
    plain, _ = denoise(gp, ctx)
    for method in (
        Barrier(lambda v: v[:, 8, 0] - 2.0, fields="aim"),
        Project(lambda v: v.clamp(0.0, 0.1), fields="aim"),
        direct(lambda v: (v - 1).square().flatten(1).sum(1)),
    ):
        got, _ = denoise(gp, ctx, (method,))
        assert torch.equal(got.anchor, plain.anchor) and not torch.allclose(got.x0, plain.x0)
        both, _ = denoise(gp, ctx, (replace(method, fields="both"),))
        assert torch.equal(both.x0, got.x0) and both.anchor is both.x0


def test_direct_solves_its_quadratic_with_the_step_weight():
    """argmin k/2 |v - 1|^2 + |v - x0|^2 / (2 M), M = sigma^2 - sigma'^2: (x0 + k M) / (1 + k M)."""
    gp = smooth_process()
    ctx = at(gp, noise(3), 0.8, 0.5)
    plain, _ = denoise(gp, ctx)
    got, _ = denoise(gp, ctx, (direct(lambda v: 1.5 * (v - 1).square().flatten(1).sum(1), iterations=1),))
    km = 3.0 * (0.8**2 - 0.5**2)
    torch.testing.assert_close(got.x0, (plain.x0 + km) / (1 + km), rtol=1e-10, atol=1e-10)


def test_pigdm_is_the_exact_posterior_mean_of_a_measured_gaussian():
    gp = smooth_process()
    ctx = at(gp, noise(4), 0.9)
    y, sd = torch.tensor([1.0, -0.5], dtype=F64), 0.2
    H = torch.zeros(2, 16, dtype=F64)
    H[0, 3], H[1, 12] = 1.0, 1.0
    gain = gp.cov @ H.T @ torch.linalg.inv(H @ gp.cov @ H.T + sd**2 * torch.eye(2, dtype=F64))
    told = type(gp)(gp.cov - gain @ H @ gp.cov, gain @ y)
    want = told(ctx.x, ctx.a, ctx.s, Cond()).x0
    got, _ = denoise(gp, ctx, (PiGDM(lambda v: v[..., 0] @ H.T, y, sd, exact=True),))
    torch.testing.assert_close(got.x0, want, rtol=1e-9, atol=1e-9)
    rough, _ = denoise(gp, ctx, (PiGDM(lambda v: v[..., 0] @ H.T, y, sd),))
    assert 1e-3 < (rough.x0 - want).abs().max() < 1.0
    with pytest.raises(ShapeError, match="measure"):
        denoise(gp, ctx, (PiGDM(lambda v: v.flatten(), y, sd),))


def test_a_start_state_by_pigdm_is_a_trained_pin_and_replacement_is_not():
    """x[0] = 1.5 for a Gaussian process: exact for the pin and for PiGDM; writing it into x_t leaves an error."""
    gp, z, grid = smooth_process(), noise(3000), VPCosine(t_max=0.995).grid(80)
    mask = torch.zeros(1, 16, 1, dtype=torch.bool)
    mask[:, 0] = True
    value = torch.full((3000, 16, 1), 1.5, dtype=F64)
    want = gp.conditioned(Cond(pin=Pin(mask, value)))[0][0, 1:6]
    error = lambda x: (x[:, 1:6, 0].mean(0) - want).abs().mean().item()  # noqa: E731
    pinned = ddim(gp, z, grid, Cond(pin=Pin(mask, value)))
    measured = ddim(gp, z, grid, None, (PiGDM(lambda v: v[:, 0], torch.tensor([1.5], dtype=F64), 1e-3, exact=True),))
    first = lambda v: torch.cat([torch.full_like(v[:, :1], 1.5), v[:, 1:]], 1)  # noqa: E731
    written = ddim(gp, z, grid, None, (Project(first),))
    assert error(pinned) < 0.03 and error(measured) < 0.03 and error(written) > 0.1


def test_bad_settings_are_refused_by_name():
    for make, word in (
        (lambda: Barrier(lambda v: v, metric="other"), "metric"),
        (lambda: Barrier(lambda v: v, fields="one"), "fields"),
        (lambda: Barrier(lambda v: v, iterations=0), "iterations"),
        (lambda: Project(lambda v: v, fields="one"), "fields"),
        (lambda: Energy(lambda v: v, metric="other"), "metric"),
    ):
        with pytest.raises(ConfigError, match=word):
            make()

    class Blind:
        capabilities = frozenset({"null"})

        def __call__(self, x, a, s, cond, perturb=None):
            raise AssertionError("must not be asked")

    with pytest.raises(CapabilityError, match="Barrier needs gradient"):
        ddim(Blind(), noise(2), VPCosine().grid(4), None, (Barrier(lambda v: v.flatten(1)[:, 0]),))
