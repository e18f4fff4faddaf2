"""Metrics that corrections of x0 are measured in (what the sample may still become), and the fields they move."""

import math

from torch import Tensor

from safeplan.diffusion.convert import over
from safeplan.diffusion.guidance import Context, Guided, Predictions
from safeplan.errors import ConfigError

METRICS = ("identity", "scalar", "posterior", "step")


def check_metric(owner: str, metric: str) -> None:
    """ConfigError unless `metric` is known."""
    if metric not in METRICS:
        raise ConfigError(f"{owner}: metric {metric!r}; use one of {', '.join(METRICS)}")


def apply_metric(metric: str, v: Tensor, predictions: Predictions, ctx: Context, sigma_data: float = 1.0) -> Tensor:
    """M v, `[B, ...]`.

    "identity": v. "scalar": the posterior variance sigma^2 d^2 / (sigma^2 + d^2) of data with standard deviation
    d = `sigma_data`. "posterior": the model's own Cov[x0|x] = (s^2/a) J^T, one VJP; 0 where a = 0, since x then says
    nothing. "step": the noise that the whole step takes out, sigma^2 - sigma'^2 (see `direct`), in its correctors too;
    0 from sigma = inf.
    """
    if metric == "identity":
        return v
    if metric == "scalar":
        s2, d2 = ctx.s**2, sigma_data**2
        return (s2 * d2 / (s2 + ctx.a**2 * d2)).to(v.dtype) * v
    if metric == "step":
        return (ctx.taken if ctx.taken != math.inf else 0.0) * v
    j = predictions.vjp(v.to(predictions.x0().dtype))
    return (over(ctx.s**2, ctx.a) * j).to(v.dtype)


def check_fields(owner: str, fields: str) -> None:
    """ConfigError unless `fields` is "both" (the score changes) or "aim" (the noise direction stays)."""
    if fields not in ("both", "aim"):
        raise ConfigError(f"{owner}: fields {fields!r}; use 'both' or 'aim'")


def move(guided: Guided, d: Tensor, fields: str) -> Guided:
    """`guided` moved by d `[B, ...]`, both fields or the aim alone."""
    return guided.shift(d) if fields == "both" else guided.aim(d)
