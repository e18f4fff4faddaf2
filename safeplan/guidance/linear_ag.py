"""LinearAG: null predictions worked out from earlier ones by a fitted linear rule instead of the network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from safeplan.diffusion.convert import noise_of
from safeplan.diffusion.guidance import COND, NULL, Branch, Context, Guidance, Guided, Paper, Predictions
from safeplan.errors import ConfigError
from safeplan.guidance.cfg import CFG
from safeplan.guidance.papers import ADAPTIVE
from safeplan.guidance.scale import Scale, check_scale, gain, scale_at

Rule = tuple[tuple[float, ...], tuple[float, ...]]  # for c_t, c_{t-1}, ... and for u_{t-1}, u_{t-2}, ...


@dataclass(frozen=True, eq=False)
class LinearAG(Guidance):
    """CFG in which the null noise of some steps is `sum beta_c c_i + sum beta_u u_i` over this and earlier steps.

    Works on the noise (x - a x0)/s, as the paper does. `fit_linear_ag` makes the rules; they hold for the grid and the
    scale that they were fitted on, and for the first evaluation of a step: correctors (Heun) ask the network.

    Args:
        rules: step -> coefficients; steps without a rule ask the network.
        stop: first step from which on there is no guidance at all; None: never.
        order: earlier steps that are remembered.
        levels: step -> sigma that its rule was fitted at; another one in a run is a ConfigError. Empty: not checked.
    """

    w: Scale = 2.0
    rules: Mapping[int, Rule] = field(default_factory=dict)
    stop: int | None = None
    order: int = 1
    levels: Mapping[int, float] = field(default_factory=dict)

    paper: ClassVar[Paper | None] = ADAPTIVE
    equation: ClassVar[str] = "LinearAG: null noise as a linear rule of earlier ones"

    def __post_init__(self) -> None:
        check_scale("LinearAG", w=self.w)
        for step, (c, u) in self.rules.items():
            if step < 1 or len(c) > min(step, self.order) + 1 or len(u) > min(step, self.order):
                raise ConfigError(
                    f"linear_ag: the rule of step {step} looks {max(len(c) - 1, len(u))} steps back; "
                    f"at most order = {self.order} and no further than step 0"
                )

    @property
    def requires(self) -> frozenset[str]:
        return NULL.requires

    def init(self, ctx: Context) -> Any:
        shape = (self.order, *ctx.x.shape)
        return torch.zeros(shape, dtype=ctx.x.dtype, device=ctx.x.device), torch.zeros_like(ctx.x).expand(shape)

    def _off(self, step: int) -> bool:
        return self.stop is not None and step >= self.stop

    def _rule(self, ctx: Context) -> Rule | None:
        if ctx.step not in self.rules or ctx.sigma_begin is not None:
            return None
        level = self.levels.get(ctx.step, ctx.sigma)
        if abs(ctx.sigma - level) > 1e-6 * level:
            raise ConfigError(
                f"linear_ag: the rule of step {ctx.step} was fitted at sigma = {level:g}, this run is at {ctx.sigma:g} "
                "there; fit on the grid that you sample on"
            )
        return self.rules[ctx.step]

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        return () if self._off(ctx.step) or self._rule(ctx) is not None else (NULL,)

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if self._off(ctx.step):
            return guided, state
        c0 = predictions.x0(COND)
        cs, us = state
        c = noise_of(ctx.x, c0, ctx.a, ctx.s)
        rule = self._rule(ctx)
        if rule is not None:
            beta_c, beta_u = rule
            u = beta_c[0] * c
            for b, old in zip(beta_c[1:], cs, strict=False):
                u = u + b * old
            for b, old in zip(beta_u, us, strict=False):
                u = u + b * old
            d = -(ctx.s / ctx.a).to(c0.dtype) * (c - u)  # the difference of noises, as one of x0
        else:
            u0 = predictions.x0(NULL)
            u, d = noise_of(ctx.x, u0, ctx.a, ctx.s), c0 - u0
        state = torch.cat([c[None], cs[:-1]]), torch.cat([u[None], us[:-1]])
        return guided.shift(gain(scale_at(self.w, ctx.sigma) - 1, d) * d), state


@dataclass
class _Noises:
    """Collects the noises of a CFG run by step, flat `[M]` on the CPU; correctors are not steps."""

    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    levels: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Recorder(CFG):
    """CFG that writes down the noises of both branches; for fitting, not for chains."""

    log: _Noises = field(default_factory=_Noises)

    @property
    def requires(self) -> frozenset[str]:
        return NULL.requires

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        return (NULL,)  # also where w = 1

    def shape(self, d: Tensor, predictions: Predictions, ctx: Context, state: Any) -> tuple[Tensor, Any]:
        if ctx.step not in self.log.kept:
            both = (noise_of(ctx.x, predictions.x0(b), ctx.a, ctx.s) for b in (COND, NULL))
            c, u = (v.flatten().double().cpu() for v in both)
            self.log.kept[ctx.step], self.log.levels[ctx.step] = (c, u), ctx.sigma
        return d, state


def fit_linear_ag(
    sample: Callable[[tuple[Guidance, ...]], Any],
    steps: Sequence[int],
    w: Scale = 2.0,
    *,
    order: int = 1,
    stop: int | None = None,
) -> LinearAG:
    """The LinearAG whose rules for `steps` fit CFG runs of scale `w` best (least squares, no intercept).

    Args:
        sample: `chain -> anything`: runs the sampler once with that chain, on the grid that the rules are for.
        steps: steps, from 1 on, whose null prediction is to be worked out.

    Raises:
        ConfigError: the run has no such step.
    """
    log = _Noises()
    sample((_Recorder(w, log=log),))
    rules: dict[int, Rule] = {}
    for t in steps:
        if t < 1 or t not in log.kept:
            raise ConfigError(
                f"fit_linear_ag: step {t}; the run has {len(log.kept)} steps, give 1 to {len(log.kept) - 1}"
            )
        back = range(t - 1, max(t - 1 - order, -1), -1)
        columns = [log.kept[t][0], *(log.kept[i][0] for i in back), *(log.kept[i][1] for i in back)]
        # minimum norm: the columns are nearly dependent where both fields differ little
        beta = torch.linalg.lstsq(torch.stack(columns, 1), log.kept[t][1][:, None], driver="gelsd").solution[:, 0]
        k = len(back) + 1
        rules[t] = tuple(beta[:k].tolist()), tuple(beta[k:].tolist())
    return LinearAG(w, rules, stop, order, {t: log.levels[t] for t in rules})
