"""Samplers: functions over a shared driver.

`sampler(denoiser, noise, grid, cond, chain, **options) -> x [B, ...]`; `noise` is standard normal `[B, ...]`, the
options are those of `driver.Options`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Unpack

import torch
from torch import Tensor

from safeplan.diffusion.driver import Chain, Options, Step, check_rows, context, drive, renoise
from safeplan.diffusion.executor import Denoisers, conditions, denoise, networks, offered
from safeplan.diffusion.guidance import check_capabilities
from safeplan.diffusion.paths import Grid
from safeplan.diffusion.trace import Trace
from safeplan.errors import ConfigError


def euler(
    denoiser: Denoisers, noise: Tensor, grid: Grid, cond: Any = None, chain: Chain = (), **options: Unpack[Options]
) -> Tensor:
    """First order, deterministic; [edm] algorithm 1 without its correction."""
    return drive(_euler, denoiser, noise, grid, cond, chain, **options)


def ddim(
    denoiser: Denoisers,
    noise: Tensor,
    grid: Grid,
    cond: Any = None,
    chain: Chain = (),
    *,
    eta: float = 0.0,
    **options: Unpack[Options],
) -> Tensor:
    """Song et al. 2021 [ddim], eq. 12 and 16: eta = 0 is Euler's step, eta = 1 is DDPM with the posterior variance."""

    def rule(st: Step) -> Tensor:
        var = eta**2 * posterior_variance(st)
        x = renoise(st.x, st.guided, st.a, st.s, st.a2, st.s2, keep=math.sqrt(max(st.s2**2 - var, 0.0)))
        return x + math.sqrt(var) * st.noise() if var > 0 else x

    return drive(rule, denoiser, noise, grid, cond, chain, **options)


def ddpm(
    denoiser: Denoisers,
    noise: Tensor,
    grid: Grid,
    cond: Any = None,
    chain: Chain = (),
    *,
    variance: str = "posterior",
    clip: tuple[float, float] | None = None,
    temperature: float = 1.0,
    **options: Unpack[Options],
) -> Tensor:
    """Ancestral sampling, Ho et al. 2020 [ddpm], eq. 6 and 7.

    variance: "posterior" (beta tilde) or "beta"; clip: bounds applied to x after every step. FISOR samples with
    variance="beta", clip=(-1, 1). temperature scales the drawn noise.
    """
    if variance not in ("posterior", "beta"):
        raise ConfigError(f"ddpm: variance {variance!r}; use 'posterior' or 'beta'")

    def rule(st: Step) -> Tensor:
        post = posterior_variance(st)
        x = renoise(st.x, st.guided, st.a, st.s, st.a2, st.s2, keep=math.sqrt(max(st.s2**2 - post, 0.0)))
        if st.s2 > 0:  # the last step draws no noise
            var = post if variance == "posterior" else transition_variance(st)
            x = x + temperature * math.sqrt(var) * st.noise()
        return x if clip is None else x.clamp(*clip)

    return drive(rule, denoiser, noise, grid, cond, chain, **options)


def heun(
    denoiser: Denoisers, noise: Tensor, grid: Grid, cond: Any = None, chain: Chain = (), **options: Unpack[Options]
) -> Tensor:
    """Second order, two evaluations a step; [edm] algorithm 1. A first step from a = 0 averages x0 instead of noise."""

    def rule(st: Step) -> Tensor:
        x1 = _euler(st)
        if st.s2 == 0:
            return x1
        rho = 0.0 if st.a == 0 else st.rho
        d1, d2 = st.guided.collapse(rho), st.look(x1).collapse(rho)
        if st.a == 0:
            return st.s2 / st.s * st.x + st.a2 * (d1 + d2) / 2
        e1, e2 = (st.x - st.a * d1) / st.s, (x1 - st.a2 * d2) / st.s2
        return st.a2 * (st.x / st.a + (st.s2 / st.a2 - st.s / st.a) * (e1 + e2) / 2)

    return drive(rule, denoiser, noise, grid, cond, chain, **options)


def dpmpp_2m(
    denoiser: Denoisers, noise: Tensor, grid: Grid, cond: Any = None, chain: Chain = (), **options: Unpack[Options]
) -> Tensor:
    """DPM-Solver++(2M), Lu et al. 2022 [dpm_solver_pp], algorithm 2: second order, one evaluation a step.

    First and last step are Euler's. The history is the anchor's, as CFG++ needs it [cfgpp].
    """

    def rule(st: Step) -> Tensor:
        x = _euler(st)
        if st.previous is None or st.s2 == 0:
            return x
        old, h_old = st.previous
        correction = -math.expm1(-st.h) * st.h / (2 * h_old)  # h_old = inf after a = 0: no correction
        return x + st.a2 * correction * (st.guided.x0 - old.anchor)

    return drive(rule, denoiser, noise, grid, cond, chain, **options)


def ddim_inversion(
    denoiser: Denoisers,
    x0: Tensor,
    grid: Grid,
    cond: Any = None,
    chain: Chain = (),
    *,
    conds: Mapping[str, Any] | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    generators: Sequence[torch.Generator] | None = None,
    max_rows: int | None = None,
    trace: Trace | None = None,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Data `[B, ...]` to the noise `x / s` that DDIM turns back into it, along `grid` upwards; two fields are swapped.

    The network is asked at the level that the step ends on, as in the code of [cfgpp]; exact as steps shrink. Options:
    those of `Options` but `origin`, which x0 is.
    """
    nets, named = networks(denoiser), conditions(cond, conds)
    check_rows(x0, named, generators)
    check_capabilities(chain, offered(nets, named, x0, decode))
    levels = list(zip(grid.a[::-1], grid.s[::-1], strict=True))
    states, x = None, levels[0][0] * x0
    with torch.no_grad():
        for k, ((a, s), (a2, s2)) in enumerate(pairwise(levels)):
            ctx = context(x, a2, s2, a, s, k, grid.steps, named, decode, generators)
            g, states = denoise(nets, ctx, chain, states, max_rows=max_rows, trace=trace)
            g = g.swap()  # now x0 tells the noise to take out, and anchor the noise to put in
            clean = (x - s * (x - a2 * g.x0) / s2) / a
            x = a2 * clean + s2 * (x - a2 * g.anchor) / s2
            if callback is not None:
                callback(k, x)
    return x / levels[-1][1]


def posterior_variance(st: Step) -> float:
    """Variance of x' given x and x0: (s'/s)^2 (s^2 - (a/a')^2 s'^2)."""
    return (st.s2 / st.s) ** 2 * transition_variance(st)


def transition_variance(st: Step) -> float:
    """Variance of x given x', beta of DDPM: s^2 - (a/a')^2 s'^2."""
    return max(st.s**2 - (st.a / st.a2) ** 2 * st.s2**2, 0.0)


def _euler(st: Step) -> Tensor:
    return renoise(st.x, st.guided, st.a, st.s, st.a2, st.s2)


SAMPLERS: dict[str, Callable[..., Tensor]] = {f.__name__: f for f in (euler, ddim, ddpm, heun, dpmpp_2m)}
