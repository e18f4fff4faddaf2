"""Log-density of reachable states: along characteristics (Liouville) or through the sampled-data step map.

rho(x(t)) = rho0(x0) * G with d log G / dt = -div f along x(t), f the closed loop (Ehrendorfer 1994, eq. 3).
Particles keep their weight: mass is conserved along the flow.
"""

from typing import NamedTuple

import torch

from safeplan.dynamics.backends import __getattr__ as backend
from safeplan.dynamics.equations import Equations
from safeplan.types import Reference


class DensityFlow(NamedTuple):
    """Times `[T]` (s), states `[T, n, P]` and log-gain `[T, P]` (nats): log rho(x(t)) = log rho0(x0) + gain."""

    times: torch.Tensor
    states: torch.Tensor
    gain: torch.Tensor


def divergence(f, x: torch.Tensor) -> torch.Tensor:
    """Divergence `[P]` (1/s) of a vector field `f(x [n, P]) -> [n, P]` that acts on each column by itself: n VJPs."""
    with torch.enable_grad():
        z = x if x.requires_grad else x.detach().requires_grad_(True)
        y, total = f(z), torch.zeros_like(z[0])
        for i in range(len(y)):
            if y[i].requires_grad:
                (g,) = torch.autograd.grad(
                    y[i].sum(), z, retain_graph=True, create_graph=x.requires_grad, allow_unused=True
                )
                total = total if g is None else total + g[i]
    return total


class _Tracked:
    """Closed-loop right-hand side of step k, on packed tensors."""

    def __init__(
        self, system: Equations, reference: Reference, theta: torch.Tensor, stretch_s: float, like: torch.Tensor
    ):
        def tensor(a):
            return torch.as_tensor(a, dtype=like.dtype, device=like.device)

        self.system, self.dt, self.stretch_s, self.theta = system, reference.dt, stretch_s, theta
        self.states, self.controls, self.gains = (tensor(a) for a in reference[:3])
        self.low, self.high = tensor(system.control_low)[:, None], tensor(system.control_high)[:, None]
        self.angles = torch.as_tensor(system.angles, device=like.device)[:, None]
        self.xp = backend("TORCH")

    def control(self, k: int, x: torch.Tensor) -> tuple:
        error = x - self.states[k][:, None]
        error = torch.where(self.angles, torch.atan2(torch.sin(error), torch.cos(error)), error)
        u = self.controls[k][:, None] + self.gains[k] @ error
        return tuple(torch.minimum(torch.maximum(u, self.low), self.high))

    def rate(self, k: int, t: float, x: torch.Tensor, u: tuple) -> torch.Tensor:
        s = min(int(k * self.dt / self.stretch_s + 1e-9), self.theta.shape[1] - 1)
        return self.xp.pack(self.system.f(t, self.xp.unpack(x), u, tuple(self.theta[:, s].T), self.xp))


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
    loop, h = _Tracked(system, reference, theta, stretch_s, x0), reference.dt / system.substeps
    x, gain = x0.T, torch.zeros(len(x0), dtype=x0.dtype, device=x0.device)
    xs, gs = [x], [gain]

    def joint(k, t, z):
        th = tuple(theta[:, min(int(k * reference.dt / stretch_s + 1e-9), theta.shape[1] - 1)].T)
        if open_loop:
            u = tuple(loop.controls[k][:, None].expand(-1, z.shape[1]))
            if system.divergence is not None:
                d = system.divergence(t, loop.xp.unpack(z), u, th, loop.xp)
                return loop.rate(k, t, z, u), -torch.as_tensor(d, dtype=z.dtype).expand(z.shape[1])
            return loop.rate(k, t, z, u), -divergence(lambda y: loop.rate(k, t, y, u), z)
        return loop.rate(k, t, z, loop.control(k, z)), -divergence(lambda y: loop.rate(k, t, y, loop.control(k, y)), z)

    for k in range(len(loop.controls)):
        for i in range(system.substeps):
            t = k * reference.dt + i * h
            k1, g1 = joint(k, t, x)
            k2, g2 = joint(k, t + h / 2, x + h / 2 * k1)
            k3, g3 = joint(k, t + h / 2, x + h / 2 * k2)
            k4, g4 = joint(k, t + h, x + h * k3)
            x, gain = x + h / 6 * (k1 + 2 * (k2 + k3) + k4), gain + h / 6 * (g1 + 2 * (g2 + g3) + g4)
            xs.append(x)
            gs.append(gain)
    return DensityFlow(torch.arange(len(xs), dtype=x0.dtype) * h, torch.stack(xs), torch.stack(gs))


def sampled_data(
    system: Equations, x0: torch.Tensor, theta: torch.Tensor, reference: Reference, stretch_s: float
) -> DensityFlow:
    """State and log-gain at the control times with the control held over each step, as the product flies it.

    The step map has Jacobian J = dx_{k+1}/dx_k including the feedback; log G falls by log |det J|. Same particles as
    `particles.rollout`, which does without the density and is the default for risks.
    """
    loop, h = _Tracked(system, reference, theta, stretch_s, x0), reference.dt / system.substeps
    x, gain = x0.T, torch.zeros(len(x0), dtype=x0.dtype, device=x0.device)
    xs, gs = [x], [gain]

    def advance(k: int, z: torch.Tensor) -> torch.Tensor:
        u = loop.control(k, z)
        for i in range(system.substeps):
            t = k * reference.dt + i * h
            k1 = loop.rate(k, t, z, u)
            k2 = loop.rate(k, t + h / 2, z + h / 2 * k1, u)
            k3 = loop.rate(k, t + h / 2, z + h / 2 * k2, u)
            k4 = loop.rate(k, t + h, z + h * k3, u)
            z = z + h / 6 * (k1 + 2 * (k2 + k3) + k4)
        return z

    for k in range(len(loop.controls)):
        with torch.enable_grad():
            z = x if x.requires_grad else x.detach().requires_grad_(True)
            y = advance(k, z)
            rows = [torch.autograd.grad(c.sum(), z, retain_graph=True, create_graph=x.requires_grad)[0] for c in y]
        J = torch.stack(rows).permute(2, 0, 1)  # [P, n, n]
        gain = gain - torch.linalg.slogdet(J).logabsdet
        x = y if x.requires_grad else y.detach()
        xs.append(x)
        gs.append(gain)
    return DensityFlow(torch.arange(len(xs), dtype=x0.dtype) * reference.dt, torch.stack(xs), torch.stack(gs))
