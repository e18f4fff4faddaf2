"""Guidance by a differentiable energy of the denoised estimate, in physical units."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from safeplan.diffusion.convert import over
from safeplan.diffusion.guidance import Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.errors import ConfigError
from safeplan.guidance.metric import apply_metric, check_fields, check_metric, move
from safeplan.guidance.papers import DPS
from safeplan.guidance.scale import ALWAYS, Interval, Scale, check_interval, check_scale, equals, gain, scale_at
from safeplan.schema import in_range


@dataclass(frozen=True, eq=False)
class Energy(Guidance):
    """Moves x0 down E(decode(x0)), `energy: physical [B, ...] -> [B]`, as sampling from p(x0) exp(-scale E) asks.

    With g the gradient at x0 (through `ctx.decode`) and M the metric: an explicit step is `-scale M g`; a proximal one
    minimises `scale E(v) + (v - x0)^T M^-1 (v - x0) / 2` by Newton's method with conjugate gradients.

    Args:
        scale: number, function of sigma, or tensor `[B]`.
        metric: see `metric.apply_metric`; "posterior" is the model's own Cov[x0|x], one VJP per iteration.
        proximal: implicit step. With a Gaussian prior, a quadratic energy of rank r, the posterior metric and r
            iterations it samples the tilted distribution exactly; the explicit step overshoots by 1 + curvature M.
        iterations: conjugate-gradient iterations of the proximal step.
        fields: "both" changes the score; "aim" keeps the noise direction (its strength grows with the steps).
        interval: (low, high) in sigma, both inclusive.
    """

    energy: Callable[[Tensor], Tensor]
    scale: Scale = 1.0
    metric: str = "posterior"
    proximal: bool = True
    iterations: int = 1
    sigma_data: float = 1.0
    fields: str = "both"
    interval: Interval = ALWAYS

    paper: ClassVar[Paper | None] = DPS
    equation: ClassVar[str] = "gradient through the clean estimate (explicit, posterior metric); proximal: safeplan"

    def __post_init__(self) -> None:
        check_scale("Energy", scale=self.scale)
        check_interval(self.interval)
        in_range(self, "energy", {"positive": "sigma_data"})
        check_metric("energy", self.metric)
        check_fields("energy", self.fields)
        if self.iterations < 1:
            raise ConfigError(f"energy: {self.iterations} iterations; give at least 1")

    @property
    def grad(self) -> bool:
        return self.metric == "posterior"

    @property
    def requires(self) -> frozenset[str]:
        return frozenset({"gradient"} if self.grad else ())

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        scale = scale_at(self.scale, ctx.sigma)
        if not in_interval(ctx.sigma, self.interval) or equals(scale, 0):
            return guided, state
        strength = gain(scale, guided.x0)

        def slope(v: Tensor) -> Tensor:
            return strength * torch.func.grad(lambda z: self.energy(ctx.physical(z)).sum())(v)

        def spread(v: Tensor) -> Tensor:
            return apply_metric(self.metric, v, predictions, ctx, self.sigma_data)

        x0 = guided.x0.detach()
        if self.proximal:
            g, hessian = torch.func.vjp(slope, x0)  # pyright: ignore[reportAssignmentType]
            d = newton(g, spread, lambda p: hessian(p)[0], self.iterations)
        else:
            d = -spread(slope(x0))
        return move(guided, d, self.fields), state


def newton(
    g: Tensor, spread: Callable[[Tensor], Tensor], hessian: Callable[[Tensor], Tensor], iterations: int
) -> Tensor:
    """Minimiser d of `g^T d + d^T (M^-1 + H) d / 2` by conjugate gradients preconditioned with M.

    `M^-1 p` is carried along, never computed; negative curvature of the energy counts as none. All `[B, ...]`.
    """
    d, r = torch.zeros_like(g), -g
    z = spread(r)
    p, q, rz = z, r, _dot(r, z)
    for k in range(iterations):
        hp = hessian(p)
        alpha = over(rz.clamp_min(0), _dot(p, q) + _dot(p, hp).clamp_min(0), tiny=1e-30)
        d = d + alpha * p
        if k + 1 == iterations:
            break
        r = r - alpha * (q + hp)
        z = spread(r)
        new = _dot(r, z)
        beta = over(new.clamp_min(0), rz, tiny=1e-30)
        p, q, rz = z + beta * p, r + beta * q, new
    return d


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).flatten(1).sum(1).reshape(-1, *[1] * (u.ndim - 1))
