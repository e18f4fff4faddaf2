"""Pseudo-inverse guidance: measurements of the sample, as Gauss-Newton steps through the network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from safeplan.diffusion.guidance import Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.errors import ConfigError, ShapeError
from safeplan.guidance.metric import apply_metric
from safeplan.guidance.papers import PIGDM
from safeplan.guidance.scale import ALWAYS, Interval, check_interval
from safeplan.schema import in_range


@dataclass(frozen=True, eq=False)
class PiGDM(Guidance):
    """x0 + Cov H^T (H M H^T + noise^2 I)^-1 (y - measure(x0)); Cov = (s^2/a) J^T, H the Jacobian of `measure`.

    Args:
        measure: physical `[B, ...]` -> `[B, m]`; m small: one backward pass through it per entry.
        target: y, `[m]` or `[B, m]`, finite. noise: standard deviation of y; above 0 where the measurements depend on
            each other.
        exact: M is the model's own covariance too (m more VJPs): with a Gaussian model and a linear measurement the
            posterior mean is then exact. False: M = r^2 I with r^2 the variance of `sigma_data`, as in the paper.

    Raises:
        ConfigError: numbers out of range; in the run, measurements that depend on each other, or that x says nothing
            about yet, with noise = 0. ShapeError: `measure` or `target` of another shape.
    """

    measure: Callable[[Tensor], Tensor]
    target: Tensor
    noise: float = 1e-3
    exact: bool = False
    sigma_data: float = 1.0
    interval: Interval = ALWAYS

    paper: ClassVar[Paper | None] = PIGDM
    equation: ClassVar[str] = "pseudo-inverse of a noisy measurement, linearised, pulled back through the network"

    def __post_init__(self) -> None:
        check_interval(self.interval)
        in_range(self, "pigdm", {"not negative": "noise", "positive": "sigma_data"})
        if not isinstance(self.target, Tensor) or not self.target.isfinite().all():
            raise ConfigError(f"pigdm: target is {self.target!r}; give a tensor [m] or [B, m] of finite numbers")

    @property
    def grad(self) -> bool:
        return True

    @property
    def requires(self) -> frozenset[str]:
        return frozenset({"gradient"})

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if not in_interval(ctx.sigma, self.interval):
            return guided, state
        x0 = guided.x0.detach()
        y, pull = torch.func.vjp(lambda v: self.measure(ctx.physical(v)), x0)  # pyright: ignore[reportAssignmentType]
        if y.ndim != 2 or len(y) != len(x0):
            raise ShapeError(f"pigdm: measure gives {tuple(y.shape)}, expected [B, m] with B = {len(x0)}")
        if self.target.shape not in (y.shape, y.shape[1:]):
            raise ShapeError(
                f"pigdm: target is {tuple(self.target.shape)}, measure gives {tuple(y.shape)}; give [m] or [B, m]"
            )
        rows = [pull(e.expand_as(y))[0] for e in torch.eye(y.shape[1], dtype=y.dtype, device=y.device)]
        metric = "posterior" if self.exact else "scalar"
        spread = [apply_metric(metric, r, predictions, ctx, self.sigma_data) for r in rows]
        H, MH = (torch.stack(v, 1).flatten(2).double() for v in (rows, spread))  # [B, m, n]
        gram = H @ MH.transpose(1, 2)
        eye = torch.eye(y.shape[1], dtype=H.dtype, device=H.device)
        gram = 0.5 * (gram + gram.transpose(1, 2)) + self.noise**2 * eye
        weight = _solve(gram, (self.target.to(y) - y).double(), ctx.sigma)
        v = (weight[:, :, None] * H).sum(1).reshape(x0.shape).to(x0.dtype)
        return guided.shift(apply_metric("posterior", v, predictions, ctx)), state


def _solve(gram: Tensor, rest: Tensor, sigma: float) -> Tensor:
    """`gram^-1 rest` of each row, `[B, m]`; ConfigError where `gram [B, m, m]` is singular."""
    compiled = torch.compiler.is_compiling()  # a graph cannot look at numbers: there the solver itself complains
    weight, info = torch.linalg.solve_ex(gram, rest[..., None], check_errors=compiled)
    if not compiled and info.any():
        raise ConfigError(
            f"pigdm: at sigma = {sigma:g} the measurements depend on each other, or x says nothing about them, and "
            "noise = 0 tells them exactly; give noise > 0, such as 1e-3"
        )
    return weight[..., 0]
