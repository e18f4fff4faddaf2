"""Risk that gradients can follow: clearance lost along particles' paths, and the mean of its worst share [cvar].

A count of collisions has no gradient. The violation of a particle is how far it comes inside a margin around the set,
at its worst over time; CVaR at alpha is the mean of the worst share alpha of violations, and 0 where none violates. All
functions work on tensors and pass gradients to starts, parameters and plans.
"""

import torch

from safeplan.dynamics.backends import __getattr__ as backend
from safeplan.dynamics.equations import Equations
from safeplan.errors import ConfigError, ShapeError
from safeplan.reach.sets import Region
from safeplan.reach.tracked import Tracked
from safeplan.types import Reference


def held_states(
    system: Equations, x0: torch.Tensor, theta: torch.Tensor, reference: Reference, stretch_s: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Times `[T]` and states `[T, n, P]` at every RK4 step, the control held over each control step: the particles of
    `particles.rollout`, with gradients.

    Args:
        x0: `[P, n]`; theta: `[P, S, p]`; the reference's arrays may be tensors that require gradients.
    """
    loop, xs = Tracked(system, reference, theta, stretch_s, x0), [x0.T]
    for k in range(len(loop.controls)):
        xs += loop.hold(k, xs[-1])
    return torch.arange(len(xs), dtype=x0.dtype, device=x0.device) * loop.h, torch.stack(xs)


def clearance(region: Region, times: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Levels `[T, P]` of states `[T, n, P]` at `times [T]`.

    Raises:
        ShapeError: the region has an axis that the states lack.
    """
    n = states.shape[1]
    if max(region.axes) >= n:
        raise ShapeError(f"{type(region).__name__}: axes are {region.axes}, but the states have {n} components")
    level = region.level(states.unbind(1), times[:, None], backend("TORCH"))
    return level.expand(len(states), states.shape[2])


def hinge(level: torch.Tensor, margin: float | torch.Tensor = 0.0) -> torch.Tensor:
    """How far a level falls short of a margin, at least 0."""
    return torch.relu(margin - level)


def softmin(x: torch.Tensor, temperature: float, dim: int = 0) -> torch.Tensor:
    """Smooth minimum over one dimension of N entries: at most the minimum, and above it less temperature * log N.

    Temperature 0 is the minimum itself, whose gradient goes to one entry.

    Raises:
        ConfigError: a temperature below 0.
    """
    if temperature < 0:
        raise ConfigError(f"softmin: temperature = {temperature}; give at least 0, in the units of x")
    return x.amin(dim) if temperature == 0 else -temperature * torch.logsumexp(-x / temperature, dim)


def cvar(losses: torch.Tensor, alpha: float) -> torch.Tensor:
    """Mean of the largest share `alpha` of `losses [..., P]`, a boundary loss counted in part: `[...]`.

    alpha = 1 is the mean of all, alpha <= 1 / P (and 0) the maximum; it never rises with alpha. The exact CVaR of equal
    weights, so an upper bound of the quantile at 1 - alpha.

    Raises:
        ConfigError: alpha outside [0, 1]. ShapeError: no losses.
    """
    P = losses.shape[-1] if losses.ndim else 0
    if not 0 <= alpha <= 1:
        raise ConfigError(f"cvar: alpha = {alpha}; give the share of worst losses, from 0 (the worst) to 1 (the mean)")
    if not P:
        raise ShapeError(f"cvar: losses are {tuple(losses.shape)}; expected [..., P] with at least one")
    count = max(alpha * P, 1.0)
    worst = losses.topk(min(int(-(-count // 1)), P), dim=-1).values
    share = torch.clamp(count - torch.arange(worst.shape[-1], dtype=losses.dtype, device=losses.device), max=1.0)
    return (worst * share).sum(-1) / count


def risk_surrogate(
    region: Region,
    times: torch.Tensor,
    states: torch.Tensor,
    *,
    alpha: float,
    margin: float,
    temperature: float = 0.0,
) -> torch.Tensor:
    """CVaR at `alpha` of particles' worst violations of `margin`, a scalar in the units of the region's axes.

    Above 0 for a margin above 0 wherever a particle is inside at a stored time, so 0 says that none is. A particle that
    breaks (NaN, inf) makes it NaN: such a plan has no gradient to follow.

    Args:
        times `[T]`, states `[T, n, P]`: of `held_states` or `characteristics`.
        temperature: of the soft minimum over time; it adds at most temperature * log T to a violation.
    """
    return cvar(hinge(softmin(clearance(region, times, states), temperature), margin), alpha)
