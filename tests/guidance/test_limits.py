"""Where one method equals another, and where it does nothing: CFG and its relatives."""

import math

import pytest
import torch

from safeplan.diffusion import EDM, Flow, Trace, VPCosine, ddim, denoise, euler, heun
from safeplan.diffusion.analytic import Mixture, ring
from safeplan.errors import ConfigError
from safeplan.guidance import (
    APG,
    CFG,
    FACFG,
    FDG,
    GFCG,
    ICG,
    MAMBO,
    PAG,
    AdaptiveGuidance,
    AutoGuidance,
    CFGpp,
    Composed,
    FeedbackGuidance,
    LinearAG,
    Rescale,
    cfgpp_scale,
    step_invariant_cfgpp,
)
from safeplan.guidance.vector import rms
from tests.guidance.methods import domain
from tests.guidance.mixture_runs import F64, GRIDS, at, same, start


@pytest.mark.parametrize(
    "twin",
    [
        APG(3.0, eta=1.0),
        MAMBO(3.0, alpha=0.0),
        AdaptiveGuidance(CFG(3.0), 1.1),
        LinearAG(3.0),
        Composed({"cond": 2.0}),
        CFG(torch.full((12,), 3.0, dtype=F64)),
    ],
    ids=lambda m: type(m).__name__,
)
@pytest.mark.parametrize("frame", GRIDS)
def test_these_are_cfg(twin, frame):
    mix, (z, label) = ring(var=0.3), start()
    same(ddim(mix, z, GRIDS[frame], label, (twin,)), ddim(mix, z, GRIDS[frame], label, (CFG(3.0),)))


@pytest.mark.parametrize("name", ["trajectory", "image"])
def test_equal_bands_are_cfg(name):
    d = domain(name)
    run = lambda m: ddim(d.nets, d.noise, VPCosine().grid(4), d.cond, (m,))  # noqa: E731
    same(run(FACFG(low=3.0, high=3.0)), run(CFG(3.0)), 1e-10)
    same(run(FDG(scales=(3.0, 3.0))), run(CFG(3.0)), 1e-10)
    assert not torch.allclose(run(FACFG(low=3.0, high=4.0)), run(CFG(3.0)))


@pytest.mark.parametrize(
    "off",
    [
        CFG(1.0), APG(1.0), PAG(0.0), AutoGuidance(1.0), ICG(1.0), Rescale(0.0), Composed({}), FeedbackGuidance(pi=1.0),
        GFCG(lambda x: 50.0 * torch.eye(4, dtype=F64)[torch.arange(len(x)) % 4], 3.0),  # a classifier that is sure
        GFCG(lambda x: x.repeat(1, 2), 0.0), Composed({"cond": 0.0}), Composed({"cond": lambda sigma: 0.0}),
    ],
    ids=lambda m: type(m).__name__,
)  # fmt: skip
def test_these_are_off(off):
    mix, (z, label) = ring(var=0.3), start()
    trace = Trace()
    same(ddim(mix, z, GRIDS["vp"], label, (off,), trace=trace), ddim(mix, z, GRIDS["vp"], label))
    sure = isinstance(off, GFCG) and off.s != 0  # it must be asked to be known as sure
    assert trace.total_nfe().eq(24 if sure else 12).all(), "what is off costs nothing"


def test_a_plain_zero_asks_for_nothing():
    assert not Composed({"neg": 0.0}).requires and not GFCG(lambda x: x, 0.0, net="weak").requires
    assert Composed({"neg": 0.0, "cond": 1.0}).requires == {"null"}


def test_a_weak_network_that_is_the_same_does_nothing():
    mix, (z, label) = ring(var=0.3), start()
    same(
        ddim({"main": mix, "weak": mix}, z, GRIDS["vp"], label, (AutoGuidance(3.0),)), ddim(mix, z, GRIDS["vp"], label)
    )


def test_autoguidance_narrows_what_the_networks_blurred():
    """Smoothed nets of N(0, .05): the variance crosses the true one near w = 1 + d1 / (d0 - d1)."""
    centre = torch.zeros(1, 1, dtype=F64)
    nets = {"main": Mixture(centre, 0.05 + 0.07**2), "weak": Mixture(centre, 0.05 + 0.13**2)}
    z = torch.randn(20000, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    grid = EDM(sigma_max=10.0).grid(40)
    var = [ddim(nets, z, grid, None, (AutoGuidance(w),)).var().item() for w in (1.0, 1.5, 2.0)]
    assert var[0] > var[1] > var[2] and var[0] > 0.05 > var[2]


@pytest.mark.parametrize("frame", GRIDS)
@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_cfgpp_is_scheduled_cfg(frame, lam):
    """With first-order steps CFG++ is CFG of scale lam / (1 - rho); lam = 0 is unconditional."""
    mix, (z, label), grid = ring(var=0.3), start(), GRIDS[frame]
    got = ddim(mix, z, grid, label, (CFGpp(lam),))
    same(got, ddim(mix, z, grid, label, (CFG(cfgpp_scale(lam, grid)),)))
    same(got, euler(mix, z, grid, label, (CFGpp(lam),)))
    if lam == 0:
        same(got, ddim(mix, z, grid))


def test_cfgpp_gets_stronger_with_the_steps_and_the_invariant_form_does_not():
    mix, (z, label) = ring(var=0.3), start(400)
    reference = EDM(sigma_max=20.0).grid(20)

    def spread(method, steps):
        x = ddim(mix, z, EDM(sigma_max=20.0).grid(steps), label, (method,))
        return (x - mix.means[label["label"]]).square().sum(1).mean().item()

    drift = abs(spread(CFGpp(0.6), 80) - spread(CFGpp(0.6), 20))
    held = [spread(step_invariant_cfgpp(0.6, reference), n) for n in (20, 80)]
    assert abs(held[1] - held[0]) < 0.5 * drift
    scale = cfgpp_scale(0.6, reference)
    between = math.sqrt(reference.sigma[4] * reference.sigma[5])
    ends = scale(reference.sigma[4]), scale(reference.sigma[5])
    assert min(ends) <= scale(between) <= max(ends)
    assert scale(1e-9) == scale(reference.sigma[-2]) and scale(1e9) == scale(reference.sigma[0])


@pytest.mark.parametrize(("path", "tol"), [(VPCosine(), 1e-9), (Flow(), 0.01)], ids=["vp", "flow"])
def test_cfgpp_scale_between_the_noisiest_level_and_infinity(path, tol):
    """By hand: the time of sigma = 25 and 100, less one step of the reference grid, gives sigma' and rho."""
    scale = cfgpp_scale(0.6, path.grid(20))
    for sigma in (25.0, 100.0):
        t = path.time(torch.ones((), dtype=F64), torch.tensor(sigma, dtype=F64))
        a, s = path.at(t - 1 / 20)
        rho = float(s / a) / sigma
        assert scale(sigma) == pytest.approx(0.6 / (1 - rho), rel=tol) and rho > 0.1
    assert scale(math.inf) == 0.6
    finite = path.grid(20).sigma[1]
    assert scale(finite * (1 + 1e-9)) == pytest.approx(scale(finite), rel=1e-6) and scale(1e12) == pytest.approx(0.6)


def test_apg_orthogonality_threshold_and_momentum():
    d = domain("trajectory")
    ctx = at(d.noise, d.cond)
    c, _ = denoise(d.nets, ctx)
    only, _ = denoise(d.nets, ctx, (APG(3.0, eta=0.0),))
    assert ((only.x0 - c.x0) * c.x0).flatten(1).sum(1).abs().max() < 1e-12
    clamped, _ = denoise(d.nets, ctx, (APG(3.0, eta=1.0, r=0.01),))
    same(rms(clamped.x0 - c.x0).flatten(), torch.full((3,), 0.02, dtype=F64))
    method = APG(3.0, eta=1.0, momentum=-0.5)
    first, (state,) = denoise(d.nets, ctx, (method,))
    second, _ = denoise(d.nets, ctx, (method,), (state,))
    same(second.x0 - c.x0, 0.5 * (first.x0 - c.x0))  # m = d - d / 2
    again, _ = denoise(d.nets, ctx, (method,))
    assert torch.equal(again.x0, first.x0)  # the state was passed, not kept
    with pytest.raises(ConfigError, match="momentum"):
        APG(momentum=1.0)


def test_heun_counts_apg_steps_not_calls():
    """Correctors see the momentum and do not commit it."""
    calls = []

    class Spy(APG):
        def shape(self, d, predictions, ctx, state):
            out = super().shape(d, predictions, ctx, state)
            calls.append((ctx.step, state, out[1]))
            return out

    mix, (z, label) = ring(var=0.3), start()
    trace = Trace()
    heun(mix, z, GRIDS["vp"], label, (Spy(3.0, momentum=-0.5),), trace=trace)
    assert len(calls) == 2 * 12 - 1 and trace.total_nfe()[0] == 2 * (2 * 12 - 1)
    for (k, _, after), (j, seen, made), (n, found, _) in zip(calls[::2], calls[1::2], calls[2::2], strict=False):
        assert k == j == n - 1 and torch.equal(seen, after) and torch.equal(found, after)
        assert not torch.allclose(made, after)
