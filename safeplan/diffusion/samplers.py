"""Samplers: functions that own renoising, noise and history. All share one driver and one step.

`sampler(denoiser, noise, grid, cond, chain, **options) -> x [B, ...]`; `noise` is standard normal `[B, ...]`.
The step in every frame is `x' = a' x0 + s' (x - a anchor) / s`: DDIM and Euler are the same thing. Only predictors commit guidance state: a corrector's evaluation sees it and forgets what it did.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, Unpack

import torch
from torch import Tensor

from safeplan.diffusion.executor import Denoisers, Trace, conditions, denoise, networks, offered
from safeplan.diffusion.guidance import Context, Guidance, Guided, check_capabilities
from safeplan.diffusion.paths import Grid
from safeplan.errors import ConfigError, ShapeError
from safeplan.rng import randn


class Options(TypedDict, total=False):
    """What every sampler takes by keyword.

    conds: extra conditions by name, for branches. decode: x0 -> physical units. generators: one per sample, for
    stochastic samplers and methods. origin: start from `a_0 origin + s_0 noise` instead of pure noise `[B, ...]`.
    max_rows: row cap of one forward. trace: filled in place. callback: `f(step, x)` after each step.
    """

    conds: Mapping[str, Any] | None
    decode: Callable[[Tensor], Tensor] | None
    generators: Sequence[torch.Generator] | None
    origin: Tensor | None
    max_rows: int | None
    trace: Trace | None
    callback: Callable[[int, Tensor], None] | None


class Step(NamedTuple):
    """What a rule sees: x and its guided prediction at (a, s), the next (a2, s2), and what came before."""

    x: Tensor
    guided: Guided
    a: float
    s: float
    a2: float
    s2: float
    previous: tuple[Guided, float] | None  # prediction and log-SNR step of the step before
    look: Callable[[Tensor], Guided]  # guided prediction at (x', a2, s2), state not committed
    noise: Callable[[], Tensor]

    @property
    def h(self) -> float:
        """Step in lambda = log(a / s), may be inf at either end."""
        return log_snr(self.a2, self.s2) - log_snr(self.a, self.s)

    @property
    def rho(self) -> float:
        """sigma' / sigma."""
        return self.s2 * self.a / (self.a2 * self.s)


Rule = Callable[[Step], Tensor]


def log_snr(a: float, s: float) -> float:
    """log(a / s), -inf at a = 0 and inf at s = 0."""
    return math.log(a / s) if a > 0 and s > 0 else (math.inf if s == 0 else -math.inf)


def renoise(x: Tensor, g: Guided, a, s, a2, s2, keep=None) -> Tensor:
    """x' = a' x0 + keep (x - a anchor) / s; `keep` is s' unless some of the noise is to be drawn afresh."""
    eps = (x - a * g.anchor) / s
    return a2 * g.x0 + (s2 if keep is None else keep) * eps


def drive(
    rule: Rule,
    denoiser: Denoisers,
    noise: Tensor,
    grid: Grid,
    cond: Any = None,
    chain: Sequence[Guidance] = (),
    *,
    conds: Mapping[str, Any] | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    generators: Sequence[torch.Generator] | None = None,
    origin: Tensor | None = None,
    max_rows: int | None = None,
    trace: Trace | None = None,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Run `rule` along `grid`. Other arguments: see `Options`.

    Raises:
        ShapeError: a leaf of a condition, or the generators, do not have one row per sample.
        CapabilityError: the chain needs what networks and run do not offer.
    """
    nets, named = networks(denoiser), conditions(cond, conds)
    check_rows(noise, named, generators)
    check_capabilities(chain, offered(nets, named, noise, decode))
    pin = named["cond"].pin
    states, previous = None, None
    with torch.no_grad():  # methods that need gradients use torch.func, which does not mind
        x = grid.s[0] * noise
        if origin is not None:
            x = x + grid.a[0] * origin
        for k in range(grid.steps):
            a, s, a2, s2 = grid.a[k], grid.s[k], grid.a[k + 1], grid.s[k + 1]
            x = x if pin is None else pin.write(x)
            ctx = context(x, a, s, a2, s2, k, grid.steps, named, decode, generators)
            guided, after = denoise(nets, ctx, chain, states, max_rows=max_rows, trace=trace)

            def look(y: Tensor, ctx=ctx, after=after, a2=a2, s2=s2) -> Guided:
                there = ctx._replace(x=y, a=_scalar(a2, y), s=_scalar(s2, y), sigma=s2 / a2 if a2 > 0 else math.inf)
                return denoise(nets, there, chain, after, max_rows=max_rows, trace=trace)[0]

            def fresh(x=x) -> Tensor:
                if generators is None:
                    raise ConfigError("this sampler draws noise: give generators=sample_generators(seed, B)")
                return randn(list(generators), tuple(x.shape[1:]), dtype=x.dtype, device=x.device)

            step = Step(x, guided, a, s, a2, s2, previous, look, fresh)
            x, states, previous = rule(step), after, (guided, step.h)
            if callback is not None:
                callback(k, x)
        return x if pin is None else pin.write(x)


def context(x, a, s, a2, s2, k, steps, conds, decode=None, generators=None) -> Context:
    """The context of step k, levels as Python floats."""
    sigma, after = (q / p if p > 0 else math.inf for p, q in ((a, s), (a2, s2)))
    return Context(x, _scalar(a, x), _scalar(s, x), sigma, k, conds, decode, generators, after, steps)


def check_rows(noise: Tensor, conds: Mapping[str, Any], generators: Sequence[Any] | None) -> None:
    """ShapeError unless every condition and generator has one row per sample."""
    for name, c in conds.items():
        for key, leaf in c.leaves.items():
            if len(leaf) != len(noise):
                raise ShapeError(f"condition {name!r}, leaf {key!r}: {len(leaf)} rows for {len(noise)} samples")
        if c.pin is not None and c.pin.value.shape != noise.shape:
            raise ShapeError(f"pin of condition {name!r} is {tuple(c.pin.value.shape)}, x is {tuple(noise.shape)}")
    if generators is not None and len(generators) != len(noise):
        raise ShapeError(f"{len(generators)} generators for {len(noise)} samples; give one per sample")


def _scalar(v: float, x: Tensor) -> Tensor:
    return torch.tensor(v, dtype=torch.float64, device=x.device)


# ---------------------------------------------------------------- the samplers
def euler(denoiser: Denoisers, noise: Tensor, grid: Grid, cond: Any = None, chain=(), **options: Unpack[Options]) -> Tensor:
    """First order, deterministic; [edm] algorithm 1 without its correction."""
    return drive(_euler, denoiser, noise, grid, cond, chain, **options)


def ddim(
    denoiser: Denoisers, noise: Tensor, grid: Grid, cond: Any = None, chain=(), *, eta: float = 0.0, **options: Unpack[Options]
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
    chain=(),
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


def heun(denoiser: Denoisers, noise: Tensor, grid: Grid, cond: Any = None, chain=(), **options: Unpack[Options]) -> Tensor:
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


def dpmpp_2m(denoiser: Denoisers, noise: Tensor, grid: Grid, cond: Any = None, chain=(), **options: Unpack[Options]) -> Tensor:
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
    denoiser: Denoisers, x0: Tensor, grid: Grid, cond: Any = None, chain=(), **options: Unpack[Options]
) -> Tensor:
    """Data `[B, ...]` to the noise `x / s` that DDIM turns back into it, along `grid` upwards; two fields are swapped.

    The network is asked at the level that the step ends on, as in the code of [cfgpp]; exact as steps shrink.
    """
    nets, named = networks(denoiser), conditions(cond, options.get("conds"))
    check_rows(x0, named, options.get("generators"))
    check_capabilities(chain, offered(nets, named, x0, options.get("decode")))
    a, s, states, x = grid.a[::-1], grid.s[::-1], None, x0
    with torch.no_grad():
        x = a[0] * x
        for k in range(grid.steps):
            ctx = context(x, a[k + 1], s[k + 1], a[k], s[k], k, grid.steps, named, options.get("decode"), options.get("generators"))
            g, states = denoise(nets, ctx, chain, states, max_rows=options.get("max_rows"), trace=options.get("trace"))
            g = g.swap()  # now x0 carries the noise to take out and anchor the noise to put in
            out = (x - a[k + 1] * g.x0) / s[k + 1]
            put = (x - a[k + 1] * g.anchor) / s[k + 1]
            x = a[k + 1] * (x - s[k] * out) / a[k] + s[k + 1] * put
    return x / s[-1]


def posterior_variance(st: Step) -> float:
    """Variance of x' given x and x0: (s'/s)^2 (s^2 - (a/a')^2 s'^2)."""
    return (st.s2 / st.s) ** 2 * transition_variance(st)


def transition_variance(st: Step) -> float:
    """Variance of x given x', beta of DDPM: s^2 - (a/a')^2 s'^2."""
    return max(st.s**2 - (st.a / st.a2) ** 2 * st.s2**2, 0.0)


def _euler(st: Step) -> Tensor:
    return renoise(st.x, st.guided, st.a, st.s, st.a2, st.s2)


SAMPLERS: dict[str, Callable[..., Tensor]] = {"euler": euler, "ddim": ddim, "ddpm": ddpm, "heun": heun, "dpmpp_2m": dpmpp_2m}
