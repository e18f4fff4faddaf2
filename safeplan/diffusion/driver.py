"""What all samplers share: one driver, which owns the loop, pinning and guidance state, and one step.

The step in every frame is `x' = a' x0 + s' (x - a anchor) / s`: DDIM and Euler are the same thing.
Only predictors commit guidance state: a corrector's evaluation sees it and forgets what it did.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from safeplan.diffusion.executor import Denoisers, conditions, denoise, networks, offered
from safeplan.diffusion.guidance import Context, Guidance, Guided, check_capabilities
from safeplan.diffusion.paths import Grid
from safeplan.diffusion.trace import Trace
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
Chain = Sequence[Guidance]


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
    chain: Chain = (),
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
                there = ctx._replace(
                    x=y, a=_scalar(a2, y), s=_scalar(s2, y), sigma=ctx.sigma_next, sigma_begin=ctx.sigma
                )
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


def context(x, a, s, a2, s2, k, steps, conds, decode=None, generators=None, begin=None) -> Context:
    """The context of step k, levels as Python floats; `begin` as `Context.sigma_begin`."""
    sigma, after = (q / p if p > 0 else math.inf for p, q in ((a, s), (a2, s2)))
    return Context(x, _scalar(a, x), _scalar(s, x), sigma, k, conds, decode, generators, after, steps, begin)


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
