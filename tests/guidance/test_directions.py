"""Which way each method goes: what a swapped pair or a flipped sign would turn round, against formulas by hand."""

import math
from itertools import pairwise

import pytest
import torch

from safeplan.diffusion import (
    COND,
    EDM,
    NULL,
    Cond,
    Context,
    Guided,
    Prediction,
    Predictions,
    VPCosine,
    conditions,
    ddim_inversion,
    dpmpp_2m,
    heun,
)
from safeplan.diffusion.analytic import ring
from safeplan.guidance import FACFG, FDG, CFGpp, EluCD, ExactEnergy, FeedbackGuidance, calibrated_logit
from tests.guidance.methods import CLASSES, logits

F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def at(x, sigma=0.75, cond=None, sigma_next=0.0, decode=None):
    a = torch.tensor((1 + sigma**2) ** -0.5, dtype=F64)
    return Context(x, a, a * sigma, sigma, 5, conditions(cond), decode, None, sigma_next, 10)


def both(c, u):
    return Guided(c, c), Predictions({COND: Prediction(c), NULL: Prediction(u)})


def close(a, b, tol=1e-12):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


@pytest.mark.parametrize("shape", [(2, 8, 3), (2, 3, 16, 8)], ids=["time", "image"])
@pytest.mark.parametrize(
    ("method", "coarse", "fine"), [(FACFG(low=2.0, high=5.0), 2.0, 5.0), (FDG(scales=(5.0, 2.0)), 2.0, 5.0)]
)
def test_bands_take_the_constant_by_low_and_the_finest_by_high(method, coarse, fine, shape):
    """A constant difference is all coarse, one that alternates from entry to entry all fine."""
    c, step = draw(*shape), torch.ones(shape, dtype=F64)
    axes = (1,) if len(shape) == 3 else (2, 3)
    alternating = step.clone()
    for axis in axes:
        sign = (-1.0) ** torch.arange(shape[axis], dtype=F64)
        alternating = alternating * sign.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    for d, w in ((step, coarse), (alternating, fine)):
        guided, _ = method(*both(c, c - d), at(c), None)
        close(guided.x0, c + (w - 1) * d)


@pytest.mark.parametrize("unit", [False, True])
def test_elucd_climbs_its_calibrated_logit_along_the_gradient_by_hand(unit):
    """Through the decoder, and with the classifier of the wanted class."""
    c, y = draw(4, 8, 2), torch.arange(4) % CLASSES
    decode = lambda v: 2.0 * v + 0.5  # noqa: E731
    ctx = at(c, cond={"label": y}, decode=decode)
    method = EluCD(logits, 0.05, joint=1.0, marginal=0.5, unit=unit)
    guided, _ = method(*both(c, c), ctx, None)

    def value(v):
        f = logits(decode(v))
        return f[range(4), y] - (0.5 * f).exp().sum(1).log()

    v = c.clone().requires_grad_()
    (g,) = torch.autograd.grad(value(v).sum(), v)
    if unit:
        g = g * (c.square().mean((1, 2), keepdim=True) / g.square().mean((1, 2), keepdim=True)).sqrt()
    close(guided.x0, c + 0.05 * g)
    close(calibrated_logit(logits(decode(c)), y), value(c))
    assert (value(guided.x0) > value(c)).all() and torch.equal(guided.x0, guided.anchor)


def test_feedback_guides_more_where_the_step_looked_like_the_null_model():
    """Seen where the null prediction led, w rises by the evidence for it; seen where c led, w stays 1 / pi."""
    c, u, x = draw(3, 4), draw(3, 4, seed=1), draw(3, 4, seed=2)
    method, sigma, after = FeedbackGuidance(pi=0.9, w_max=8.0, temperature=0.01), 2.0, 1.2
    first = at(x, sigma, sigma_next=after)
    _, state = method(*both(c, u), first, method.init(first))
    rho2, here = (after / sigma) ** 2, x / first.a
    by_cond, by_null = (rho2 * here + (1 - rho2) * v for v in (c, u))
    w = []
    for led in (by_cond, by_null):
        there = at(led * (1 + after**2) ** -0.5, after, sigma_next=0.5)
        guided, _ = method(*both(c, u), there, state)
        share = (guided.x0 - c) / (c - u)
        close(share, share[:, :1].expand_as(share), 1e-9)
        w.append(1 + share[:, 0])
    close(w[0], torch.full((3,), 1 / 0.9, dtype=F64), 1e-9)
    evidence = (by_cond - by_null).square().sum(1) / (2 * after**2 * (1 - rho2))
    p = (-0.01 * evidence).exp()
    assert (p > 0.15).all()  # the clamp is out of play
    close(w[1], p / (p - 0.1), 1e-9)
    assert (w[1] > w[0]).all()


def test_exact_energy_tilts_the_normal_distribution_towards_low_energy():
    """N(0, 1) and E = 2 (x - 1.5)^2 make N(1.2, 0.2); the intermediate energy is known in closed form."""

    def model(x, a, s, cond, perturb=None):
        return Prediction(a / (a * a + s * s) * x)

    def log_prob(x, a, s):
        mean, var = a * x / (a * a + s * s), s * s / (a * a + s * s)  # of x0 given x
        return -2.0 * (mean[:, 0] - 1.5) ** 2 / (1 + 4 * var)

    z = torch.tensor([[-1.0], [1.0]], dtype=F64)  # the map from noise to samples is affine: two points tell it
    low, high = heun(model, z, VPCosine().grid(100), None, (ExactEnergy(log_prob),)).flatten().tolist()
    assert (low + high) / 2 == pytest.approx(1.2, abs=0.005)
    assert ((high - low) / 2) ** 2 == pytest.approx(0.2, abs=0.005)


def fields(mix, x, a, s, label, lam):
    """(u + lam (c - u), u) at x."""
    a, s = torch.tensor(a, dtype=F64), torch.tensor(s, dtype=F64)
    c, u = mix.x0(x, a, s, Cond({"label": label})), mix.x0(x, a, s, Cond())
    return u + lam * (c - u), u


def test_cfgpp_with_dpmpp_2m_is_its_formula_on_variance_exploding_steps():
    """x' = D - e^-h u + e^-h x - expm1(-h) (D - u_old) / (2 r): the history is the null prediction."""
    mix, z, label, lam = ring(var=0.3), draw(6, 2), torch.arange(6) % 4, 0.6
    grid = EDM(sigma_max=20.0).grid(6)
    x, u_old, h_old = grid.sigma[0] * z, None, math.nan
    for s, t in pairwise(grid.sigma):
        d, u = fields(mix, x, 1.0, s, label, lam)
        if u_old is None or t == 0:
            x = d + t / s * (x - u)
            h = math.log(s / t) if t else math.inf
        else:
            h = math.log(s / t)
            r = h_old / h
            x = d - math.exp(-h) * u + math.exp(-h) * x - math.expm1(-h) * (d - u_old) / (2 * r)
        u_old, h_old = u, h
    close(dpmpp_2m(mix, z, grid, {"label": label}, (CFGpp(lam),)), x, 1e-10)


def test_cfgpp_inversion_takes_out_the_null_noise_and_puts_in_the_guided_one():
    """x0 = (x - s eps_u) / a; x' = a' x0 + s' eps_lam, both noises at the level where the step ends."""
    mix, x0, label, lam = ring(var=0.3), 2 * draw(6, 2), torch.arange(6) % 4, 0.6
    grid = VPCosine(t_max=0.9).grid(5)
    levels = list(zip(grid.a, grid.s, strict=True))[::-1]
    x = levels[0][0] * x0
    for (a, s), (a2, s2) in pairwise(levels):
        d, u = fields(mix, x, a2, s2, label, lam)
        eps_u, eps_lam = (x - a2 * u) / s2, (x - a2 * d) / s2
        x = a2 * (x - s * eps_u) / a + s2 * eps_lam
    close(ddim_inversion(mix, x0, grid, {"label": label}, (CFGpp(lam),)), x / levels[-1][1], 1e-10)
