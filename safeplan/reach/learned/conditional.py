"""Where a system will be, known from recordings alone: a conditional density with no equations behind it.

`linear_gaussian` is the model to beat; `ConditionalFlow` is a neural spline flow [spline_flow] around it: the flow sees
the residuals of the linear mean, whitened, so an untrained one is about the linear model.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from safeplan.errors import CapabilityError, SafeplanError, ShapeError
from safeplan.rng import fold, torch_rng

MOST_JUDGED = 2000  # rows that say when to stop: more cost time and tell no more


def _pairs(context: Tensor, target: Tensor) -> None:
    if context.ndim != 2 or target.ndim != 2 or len(context) != len(target) or not len(target):
        raise ShapeError(f"context {tuple(context.shape)}, target {tuple(target.shape)}; expected [N, c] and [N, d]")
    bad = int((~torch.isfinite(context)).sum() + (~torch.isfinite(target)).sum())
    if bad:
        raise ShapeError(f"{bad} values of context or target are not finite; drop those rows")


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """`target = (context, 1) @ weight + N(0, covariance)`: weight `[c + 1, d]`, factor `[d, d]` of the covariance."""

    weight: Tensor
    factor: Tensor

    def mean(self, context: Tensor) -> Tensor:
        """`[N, d]`"""
        return torch.cat([context, torch.ones_like(context[:, :1])], 1) @ self.weight

    def whiten(self, context: Tensor, target: Tensor) -> Tensor:
        """Residuals `[N, d]` in standard units."""
        return torch.linalg.solve_triangular(self.factor, (target - self.mean(context)).T, upper=False).T

    def log_prob(self, context: Tensor, target: Tensor) -> Tensor:
        """`[N]` nats."""
        base = torch.distributions.Normal(0.0, 1.0)
        return base.log_prob(self.whiten(context, target)).sum(1) - self.factor.diagonal().log().sum()

    def sample(self, context: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """`[n, N, d]`"""
        z = torch.randn(n, len(context), len(self.factor), generator=generator)
        return self.mean(context) + z @ self.factor.T


def linear_gaussian(context: Tensor, target: Tensor, ridge: float = 1e-6) -> LinearGaussian:
    """Least squares with a little ridge, and the covariance of the residuals.

    Raises:
        ShapeError: shapes other than `[N, c]` and `[N, d]`, or values that are not finite.
    """
    _pairs(context, target)
    wide, out = context.double(), target.double()
    center, spread = wide.mean(0), wide.std(0, correction=0)
    spread = torch.where(spread > 0, spread, 1.0)
    z = (wide - center) / spread  # in standard units the ridge does not depend on those of the context
    slope = torch.linalg.solve(
        z.T @ z / len(z) + ridge * torch.eye(z.shape[1]).double(), z.T @ (out - out.mean(0)) / len(z)
    )
    e = out - out.mean(0) - z @ slope
    jitter = 1e-9 * e.square().mean() * torch.eye(e.shape[1]).double()
    weight = torch.cat([slope / spread[:, None], (out.mean(0) - (center / spread) @ slope)[None]])
    return LinearGaussian(weight.to(target), torch.linalg.cholesky(e.T @ e / len(e) + jitter).to(target))


class ConditionalFlow(nn.Module):
    """Density of `target [N, d]` given `context [N, c]`: `fit`, then `log_prob` and `sample`.

    Args:
        base: the linear model around which it is built.
        c, d: sizes. transforms, hidden: of the spline flow.
    """

    def __init__(self, base: LinearGaussian, c: int, d: int, transforms: int = 3, hidden: tuple[int, ...] = (64, 64)):
        super().__init__()
        try:
            from zuko.flows import NSF
        except ImportError as e:
            raise CapabilityError("ConditionalFlow needs zuko: pip install 'safeplan[density]'") from e
        self.register_buffer("weight", base.weight)
        self.register_buffer("factor", base.factor)
        self.flow: Any = NSF(d, c, transforms=transforms, hidden_features=hidden)
        self.register_buffer("center", torch.zeros(c))
        self.register_buffer("spread", torch.ones(c))

    @property
    def base(self) -> LinearGaussian:
        """The linear model inside, on the device and of the type of everything else."""
        return LinearGaussian(self.weight, self.factor)  # type: ignore[arg-type]

    def _context(self, context: Tensor) -> Tensor:
        return ((context - self.center) / self.spread).clamp(-4.0, 4.0)  # type: ignore[operator]

    def log_prob(self, context: Tensor, target: Tensor) -> Tensor:
        """`[N]` nats."""
        inside = self.flow(self._context(context)).log_prob(self.base.whiten(context, target))
        return inside - self.base.factor.diagonal().log().sum()

    @torch.no_grad()
    def sample(self, context: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """`[n, N, d]`"""
        z = torch.randn(n, len(context), len(self.base.factor), generator=generator)
        flow = self.flow(self._context(context))
        return self.base.mean(context) + flow.transform.inv(z) @ self.base.factor.T

    @classmethod
    def fit(
        cls,
        context: Tensor,
        target: Tensor,
        held: Tensor,
        *,
        updates: int = 3000,
        batch: int = 512,
        lr: float = 1e-3,
        seed: int = 0,
        **shape: Any,
    ) -> Self:
        """Maximum likelihood on the rows where `held [N]` is false; kept is what is best on the rows where it is true.

        Raises:
            ShapeError: see `linear_gaussian`; no row on one of the two sides.
            CapabilityError: zuko is not installed. SafeplanError: the loss is no longer finite.
        """
        _pairs(context, target)
        if held.shape != (len(target),) or held.dtype != torch.bool or not held.any() or held.all():
            raise ShapeError(
                f"held is {tuple(held.shape)} {held.dtype}, expected bools [N], some of them true, not all"
            )
        order = torch.randperm(int(held.sum()), generator=torch_rng(seed, "conditional_flow", "judge"))[:MOST_JUDGED]
        c, y, judge = context[~held], target[~held], (context[held][order], target[held][order])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold(seed, "conditional_flow") % 2**63)
            model = cls(linear_gaussian(c, y), c.shape[1], y.shape[1], **shape)
        model.center.copy_(c.mean(0))  # type: ignore[operator]
        model.spread.copy_(c.std(0).clamp_min(1e-9))  # type: ignore[operator]
        optimiser = torch.optim.Adam(model.parameters(), lr=lr)
        best, kept = -float("inf"), {k: v.clone() for k, v in model.state_dict().items()}
        for i in range(updates):
            rows = torch.randint(len(y), (batch,), generator=torch_rng(seed, "conditional_flow", i))
            loss = -model.log_prob(c[rows], y[rows]).mean()
            if not torch.isfinite(loss):
                raise SafeplanError(f"ConditionalFlow.fit: the loss is not finite at update {i}. Lower lr = {lr:g}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.param_groups[0]["lr"] = lr * (1 - i / updates)
            optimiser.step()
            if (i + 1) % 100 == 0 or i + 1 == updates:
                with torch.no_grad():
                    now = float(model.log_prob(*judge).mean())
                if now > best:
                    best, kept = now, {k: v.clone() for k, v in model.state_dict().items()}
        model.load_state_dict(kept)
        return model.eval().requires_grad_(False)


def inside_region(
    model: ConditionalFlow | LinearGaussian, context: Tensor, target: Tensor, mass: float, generator: torch.Generator
) -> Tensor:
    """`[N]` whether `target` lies in the model's own highest-density region of mass `mass`, by 200 samples."""
    drawn = model.sample(context, 200, generator)
    score = torch.stack([model.log_prob(context, s) for s in drawn])
    return model.log_prob(context, target) >= torch.quantile(score, 1 - mass, dim=0)
