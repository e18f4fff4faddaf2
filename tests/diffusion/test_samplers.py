"""Samplers against closed forms: one Gaussian has an exact flow map, a mixture exact densities and class shares."""

import math
from itertools import pairwise

import pytest
import torch

from safeplan.diffusion import (
    EDM,
    SAMPLERS,
    Cond,
    Denoiser,
    FisorVP,
    Flow,
    Grid,
    Prediction,
    Trace,
    VPCosine,
    VPLinear,
    ddim,
    ddim_inversion,
    ddpm,
    dpmpp_2m,
    euler,
    heun,
)
from safeplan.diffusion.analytic import Mixture, ring
from safeplan.errors import ConfigError, ShapeError
from safeplan.guidance import CFG
from safeplan.rng import randn, sample_generators

F64 = torch.float64


def noise(n, d=2, seed=0, dtype=F64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gaussian(mean, var):
    return Mixture(torch.tensor([mean], dtype=F64), var)


def flow_map(g, z, grid):
    """Exact end of the probability-flow ODE for a single Gaussian."""
    (a, a2), (s, s2) = (grid.a[0], grid.a[-1]), (grid.s[0], grid.s[-1])
    shrink = (a2 * a2 * g.var + s2 * s2) / (a * a * g.var + s * s)
    return a2 * g.means + shrink**0.5 * (s * z - a * g.means)


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (ddim, 1), (heun, 2), (dpmpp_2m, 2)])
@pytest.mark.parametrize("path", [EDM(), VPCosine(), Flow()], ids=lambda p: p.name)
def test_convergence_order(sampler, order, path):
    """Between two fixed noise levels, since the last step to s = 0 is first order by design."""
    g, z = gaussian([0.7, -0.4], 0.25), noise(32)
    errors = []
    for n in (32, 64, 128):
        grid = path.karras(n + 1, 0.1, 8.0, 3.0)
        grid = Grid(grid.a[:-1], grid.s[:-1])
        errors.append((sampler(g, z, grid) - flow_map(g, z, grid)).square().mean().sqrt().item())
    rates = [math.log2(a / b) for a, b in pairwise(errors)]
    assert abs(rates[-1] - order) < 0.3, (errors, rates)
    assert errors[-1] < (0.05 if order == 1 else 0.005)


@pytest.mark.parametrize("path", [VPCosine(), Flow(), VPLinear(), EDM()], ids=lambda p: p.name)
@pytest.mark.parametrize("sampler", [ddim, heun, dpmpp_2m])
def test_mixture_is_reproduced(path, sampler):
    """Class shares, within-class variance and mean log-density of 2-D mixture samples against the exact ones."""
    mix = Mixture(ring(3).means, 0.04, torch.tensor([0.5, 0.3, 0.2], dtype=F64).log())
    x = sampler(mix, noise(4000, seed=1), path.grid(400 if sampler is ddim else 60))
    one, zero = torch.ones((), dtype=F64), torch.zeros((), dtype=F64)
    k = mix.logits(x, one, zero).argmax(1)
    share = torch.bincount(k, minlength=3) / len(x)
    torch.testing.assert_close(share.double(), torch.tensor([0.5, 0.3, 0.2], dtype=F64), atol=0.035, rtol=0)
    within = (x - mix.means[k]).square().mean().item()
    assert within == pytest.approx(0.04, rel=0.1)
    true, _ = mix.sample(4000, torch.Generator().manual_seed(2))
    assert mix.log_prob(x).mean().item() == pytest.approx(mix.log_prob(true).mean().item(), abs=0.1)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ddpm_reproduces_the_mixture(variance):
    mix = ring(4)
    x = ddpm(mix, noise(1500, seed=3), VPCosine().grid(80), variance=variance, generators=sample_generators(0, 1500))
    one, zero = torch.ones((), dtype=F64), torch.zeros((), dtype=F64)
    k = mix.logits(x, one, zero).argmax(1)
    assert (x - mix.means[k]).square().mean().item() == pytest.approx(0.04, rel=0.15)
    assert (torch.bincount(k, minlength=4) / len(x) - 0.25).abs().max() < 0.05


@pytest.mark.parametrize("sampler", [heun, dpmpp_2m, ddim])
def test_cfg_on_gaussians_ends_where_the_closed_form_says(sampler):
    """Condition N(0, c), null N(0, u): the guided ODE is linear and solvable; w = 1 is the condition itself."""
    c, u = 0.09, 1.0

    def model(x, a, s, cond, perturb=None):
        off = cond.null.get("label", torch.zeros(len(x), dtype=torch.bool))[:, None]
        var = torch.where(off, u, c)
        return Prediction(a * var / (a * a * var + s * s) * x)

    z, label = noise(16), {"label": torch.zeros(16, dtype=torch.long)}
    for w in (1.0, 2.0, 3.5):
        want = 20.0 * z * (c / (c + 400)) ** (w / 2) * (u / (u + 400)) ** ((1 - w) / 2)
        errors = []
        for n in (150, 300):
            got = sampler(model, z, EDM(sigma_max=20.0).grid(n), label, (CFG(w),))
            errors.append(((got - want).norm() / want.norm()).item())
        assert errors[1] < (0.1 if sampler is ddim else 0.005), (w, errors)
        assert errors[0] / errors[1] > (1.8 if sampler is ddim else 3.2), (w, errors)


def test_all_frames_take_the_same_ddim_steps():
    mix, z = ring(), noise(64)
    ve = EDM(sigma_max=20.0).grid(12)
    vp = VPCosine().points(VPCosine().time(torch.ones(13, dtype=F64), torch.tensor(ve.sigma, dtype=F64)))
    fl = Flow().points(Flow().time(torch.ones(13, dtype=F64), torch.tensor(ve.sigma, dtype=F64)))
    for sampler in (ddim, heun, dpmpp_2m):
        ref = sampler(mix, z, ve)
        for grid in (vp, fl):
            torch.testing.assert_close(sampler(mix, z, grid), ref, rtol=1e-10, atol=1e-10)


def test_ddim_eta_one_is_ddpm():
    mix, z, grid = ring(), noise(8), VPCosine().grid(10)
    a = ddim(mix, z, grid, eta=1.0, generators=sample_generators(5, 8))
    b = ddpm(mix, z, grid, generators=sample_generators(5, 8))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_fisor_sampling_equals_its_published_loop():
    """The loop of the FISOR paper's code, written out, against ddpm(variance="beta", clip=(-1, 1))."""
    g = torch.Generator().manual_seed(0)
    w = torch.randn(2, 2, generator=g)
    net = lambda x, t, leaves, null: torch.tanh(x @ w) * (1 + 0.1 * t[:, None])  # noqa: E731
    path = FisorVP()
    got = ddpm(
        Denoiser(net, path, "eps"), noise(6, dtype=torch.float32), path.grid(), variance="beta", clip=(-1, 1),
        generators=sample_generators(1, 6),
    )  # fmt: skip
    betas, x, gens = [0.0] * 5, noise(6, dtype=torch.float32), sample_generators(1, 6)
    alphas = [math.exp(v) for v in path.log_alpha()]
    hats = [math.prod(alphas[: i + 1]) for i in range(5)]
    betas = [1 - v for v in alphas]
    x = hats and (1 - hats[4]) ** 0.5 * x  # the sampler starts from s_T times the noise
    for t in range(4, -1, -1):
        eps = net(x, torch.full((6,), float(t)), {}, None)
        x = (x - betas[t] / (1 - hats[t]) ** 0.5 * eps) / alphas[t] ** 0.5
        if t > 0:
            x = x + betas[t] ** 0.5 * randn(gens, (2,))
        x = x.clamp(-1, 1)
    torch.testing.assert_close(got, x, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("chain", [(), (CFG(2.0),)], ids=["plain", "cfg"])
def test_inversion_round_trip_improves_with_steps(chain):
    mix = ring(4, var=0.3)
    x, k = mix.sample(64, torch.Generator().manual_seed(0))
    errors = []
    for n in (40, 160):
        grid = VPCosine(t_max=0.98).grid(n)
        z = ddim_inversion(mix, x, grid, {"label": k}, chain)
        errors.append((ddim(mix, z, grid, {"label": k}, chain) - x).square().mean().sqrt().item())
    assert errors[1] < 0.5 * errors[0] and errors[1] < 0.25


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_row_i_does_not_depend_on_the_batch(name):
    mix, grid, seed = ring(), VPCosine().grid(8), 11
    out = []
    for n in (3, 7):
        gens = sample_generators(seed, n)
        z = randn(gens, (2,), dtype=F64)
        label = {"label": torch.arange(n) % 4}
        out.append(SAMPLERS[name](mix, z, grid, label, (CFG(2.0),), generators=gens))
    torch.testing.assert_close(out[0], out[1][:3], rtol=1e-12, atol=1e-12)


def test_origin_starts_part_way():
    mix, z = ring(), noise(64)
    grid = VPCosine().grid(20).below(0.2)
    origin = mix.means[torch.arange(64) % 4]
    x = ddim(mix, z, grid, origin=origin)
    assert (x - origin).norm(dim=1).max() < 1.5  # it stays in the mode where it began
    seen = []
    ddim(mix, z, grid, callback=lambda k, y: seen.append((k, y.shape)))
    assert seen == [(k, (64, 2)) for k in range(grid.steps)]


def test_heun_evaluates_twice_but_for_the_last_step():
    trace = Trace()
    heun(ring(), noise(4), VPCosine().grid(6), trace=trace)
    assert trace.total_nfe().tolist() == [11] * 4


def test_clear_errors():
    mix, grid = ring(), VPCosine().grid(4)
    with pytest.raises(ConfigError, match="generators"):
        ddpm(mix, noise(2), grid)
    with pytest.raises(ConfigError, match="variance"):
        ddpm(mix, noise(2), grid, variance="huge")
    with pytest.raises(ShapeError, match="label"):
        ddim(mix, noise(2), grid, {"label": torch.zeros(3, dtype=torch.long)})
    with pytest.raises(ShapeError, match="generators"):
        ddpm(mix, noise(2), grid, generators=sample_generators(0, 3))
    with pytest.raises(ShapeError, match="leaf"):
        Cond({}).drop(names=["goal"])


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "flow"])
@pytest.mark.parametrize("path", [VPLinear(), EDM(), VPCosine()], ids=lambda p: p.name)
def test_a_grid_from_pure_noise_is_finite_on_every_path(path, kind):
    """sigma = inf on a network whose path has none: it is asked at the most noise that it knows."""
    mix, z = ring(), torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = ddim(Denoiser(mix.net(path, kind), path, kind), z, Flow().grid(6), {"label": torch.arange(4)})
    assert x.isfinite().all()
