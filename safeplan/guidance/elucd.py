"""Guidance by an off-the-shelf classifier on clean estimates, calibrated: EluCD."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from safeplan.diffusion.guidance import Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.diffusion.paths import Grid
from safeplan.errors import ConfigError
from safeplan.guidance.papers import ELUCD
from safeplan.guidance.scale import ALWAYS, Interval, Scale, check_interval, check_scale, gain, scale_at
from safeplan.guidance.vector import rms
from safeplan.schema import each_in_range, in_range


def calibrated_logit(logits: Tensor, label: Tensor, joint: float = 1.0, marginal: float = 0.5) -> Tensor:
    """log[exp(t1 f_y) / sum_i exp(t2 f_i)], `[B]`: t1 = t2 = 1 is log p(y); a lower t2 keeps the gradient alive when
    p(y) nears 1, t2 = 0 is the logit itself [elucd]."""
    return joint * logits.gather(1, label[:, None])[:, 0] - (marginal * logits).logsumexp(1)


def smooth_activations(net: nn.Module, beta: float = 3.0) -> nn.Module:
    """A copy in which every module `nn.ReLU` is a softplus of sharpness `beta`: gradients do not vanish [elucd].

    Functions that a `forward` calls (`F.relu`, `Tensor.relu`) are no modules, and stay.

    Raises:
        ConfigError: beta is not a finite number above 0, or there is no such module.
    """
    each_in_range("smooth_activations: beta", [beta], "positive")
    if isinstance(net, nn.ReLU):
        return nn.Softplus(beta)
    net, found = copy.deepcopy(net), False
    for module in net.modules():
        for name, child in list(module._modules.items()):  # named_children leaves out what is there twice
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Softplus(beta))
                found = True
    if not found:
        raise ConfigError(
            f"smooth_activations: {type(net).__name__} has no module nn.ReLU; put one where its forward calls F.relu, "
            "or take the network as it is"
        )
    return net


def _along(grid: Grid, gains: list[float]) -> Callable[[float], float]:
    """sigma -> the gain of the nearest step of `grid`."""
    by_sigma = dict(zip(grid.sigma[:-1], gains, strict=True))

    def schedule(at: float) -> float:
        return by_sigma[min(by_sigma, key=lambda s: abs(math.atan(s) - math.atan(at)))]

    return schedule


def sine_schedule(grid: Grid, gamma: float = 0.3) -> Callable[[float], float]:
    """The paper's DDPM form on `grid`: the posterior mean moves by (Var_k + gamma max Var sin(pi k / N)) times the
    gradient, in variance-preserving units; as a move of x0 that is divided by a' (1 - rho^2).

    For classifiers whose gradients stay small far from the data, as those of images do; nothing bounds it.
    """
    sigma, n = grid.sigma, grid.steps
    rho2 = [(t / s) ** 2 if s != math.inf else 0.0 for s, t in pairwise(sigma)]
    a = [(1 + t**2) ** -0.5 for t in sigma[1:]]
    var = [(p * t) ** 2 * (1 - r) for p, t, r in zip(a, sigma[1:], rho2, strict=True)]
    moves = [v + gamma * max(var) * math.sin(math.pi * k / n) for k, v in enumerate(var)]
    return _along(grid, [m / (p * (1 - r)) for m, p, r in zip(moves, a, rho2, strict=True)])


def unit_schedule(grid: Grid, strength: float = 0.004, gamma: float = 0.3) -> Callable[[float], float]:
    """The paper's EDM weights, for `EluCD(unit=True)`: strength (1 - k/N + gamma sin(pi k / N)) at step k of N.

    Only the weights are the paper's; `EluCD` says what they move here.
    """
    n = grid.steps
    return _along(grid, [strength * (1 - k / n + gamma * math.sin(math.pi * k / n)) for k in range(n)])


@dataclass(frozen=True, eq=False)
class EluCD(Guidance):
    """x0 + scale grad_{x0} calibrated_logit(classifier(x0)), the network left out of the gradient.

    Args:
        classifier: clean estimates, in physical units, `[B, ...]` -> logits `[B, K]`; see `smooth_activations`.
        scale: number, tensor `[B]` or function of sigma (`sine_schedule`, or `unit_schedule` with `unit`).
        joint, marginal: the temperatures t1 and t2 of `calibrated_logit`.
        unit: scale the gradient of each sample to the RMS of its x0. The paper's EDM form is another: there the
            gradient, scaled to the RMS of the noisy x, is added to x before the network, and the classifier sees
            x / max(1, RMS(x)); here x0 moves after the network, and the classifier sees it as it is.
        label: name of the condition's leaf with the class.
    """

    classifier: Callable[[Tensor], Tensor]
    scale: Scale = 1.0
    joint: float = 1.0
    marginal: float = 0.5
    unit: bool = False
    label: str = "label"
    interval: Interval = ALWAYS

    paper: ClassVar[Paper | None] = ELUCD
    equation: ClassVar[str] = "joint and marginal temperatures, gradient at the clean estimate"

    def __post_init__(self) -> None:
        check_scale("EluCD", scale=self.scale)
        in_range(self, "elucd", {"finite": "joint marginal"})
        check_interval(self.interval)

    @property
    def requires(self) -> frozenset[str]:
        return frozenset({f"leaf:{self.label}"})

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if not in_interval(ctx.sigma, self.interval):
            return guided, state
        y, x0 = ctx.conds["cond"].leaves[self.label], predictions.x0().detach()

        def value(v: Tensor) -> Tensor:
            return calibrated_logit(self.classifier(ctx.physical(v)), y, self.joint, self.marginal).sum()

        g = torch.func.grad(value)(x0)
        if self.unit:
            g = g * (rms(x0) / rms(g).clamp_min(1e-30)).to(g.dtype)
        return guided.shift(gain(scale_at(self.scale, ctx.sigma), g) * g), state
