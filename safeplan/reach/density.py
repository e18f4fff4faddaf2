"""Log-density of reachable states: along characteristics (Liouville) or through the sampled-data step map.

rho(x(t)) = rho0(x0) * G with d log G / dt = -div f along x(t), f the closed loop [liouville, eq. 3].
Particles keep their weight: mass is conserved along the flow.
"""

from typing import NamedTuple

import torch

from safeplan.dynamics.equations import Equations
from safeplan.reach.tracked import Tracked, divergence
from safeplan.types import Reference

__all__ = ["DensityFlow", "characteristics", "divergence", "sampled_data"]


class DensityFlow(NamedTuple):
    """Times `[T]` (s), states `[T, n, P]` and log-gain `[T, P]` (nats): log rho(x(t)) = log rho0(x0) + gain."""

    times: torch.Tensor
    states: torch.Tensor
    gain: torch.Tensor


def characteristics(
    system: Equations,
    x0: torch.Tensor,
    theta: torch.Tensor,
    reference: Reference,
    stretch_s: float,
    *,
    open_loop: bool = False,
) -> DensityFlow:
    """RK4 of state and log-gain with the feedback acting continuously inside f.

    Args:
        x0: `[P, n]`; theta: `[P, S, p]`; both may require gradients, as may the reference when given as tensors.
        open_loop: leave the feedback out; then the system's own divergence formula is used where it has one.
    Returns:
        DensityFlow at every RK4 step.
    """
    loop = Tracked(system, reference, theta, stretch_s, x0)
    x, gain = x0.T, torch.zeros(len(x0), dtype=x0.dtype, device=x0.device)
    xs, gs = [x], [gain]
    for k in range(len(loop.controls)):
        for i in range(system.substeps):
            x, gain = loop.advance(k, k * reference.dt + i * loop.h, x, gain, loop.h, open_loop)
            xs.append(x)
            gs.append(gain)
    return DensityFlow(torch.arange(len(xs), dtype=x0.dtype) * loop.h, torch.stack(xs), torch.stack(gs))


def sampled_data(
    system: Equations, x0: torch.Tensor, theta: torch.Tensor, reference: Reference, stretch_s: float
) -> DensityFlow:
    """State and log-gain at the control times with the control held over each step, as the product flies it.

    The step map has Jacobian J = dx_{k+1}/dx_k including the feedback; log G falls by log |det J|. Same particles as
    `particles.rollout`, which does without the density and is the default for risks.
    """
    loop = Tracked(system, reference, theta, stretch_s, x0)
    x, gain = x0.T, torch.zeros(len(x0), dtype=x0.dtype, device=x0.device)
    xs, gs = [x], [gain]
    for k in range(len(loop.controls)):
        with torch.enable_grad():
            z = x if x.requires_grad else x.detach().requires_grad_(True)
            y = loop.hold(k, z)[-1]
            rows = [torch.autograd.grad(c.sum(), z, retain_graph=True, create_graph=x.requires_grad)[0] for c in y]
        J = torch.stack(rows).permute(2, 0, 1)  # [P, n, n]
        gain = gain - torch.linalg.slogdet(J).logabsdet
        x = y if x.requires_grad else y.detach()
        xs.append(x)
        gs.append(gain)
    return DensityFlow(torch.arange(len(xs), dtype=x0.dtype) * reference.dt, torch.stack(xs), torch.stack(gs))
