"""The tracked closed loop on packed tensors: what densities, backward densities and gradients integrate."""

import torch

from safeplan.dynamics.backends import __getattr__ as backend
from safeplan.dynamics.equations import Equations
from safeplan.types import Reference


def divergence(f, x: torch.Tensor, *, graph: bool = False) -> torch.Tensor:
    """Divergence `[P]` (1/s) of a vector field `f(x [n, P]) -> [n, P]` that acts on each column by itself: n VJPs.

    Args:
        graph: keep the gradient to what f closes over, also where x has none.
    """
    with torch.enable_grad():
        z = x if x.requires_grad else x.detach().requires_grad_(True)
        y, total = f(z), torch.zeros_like(z[0])
        for i in range(len(y)):
            if y[i].requires_grad:
                (g,) = torch.autograd.grad(
                    y[i].sum(), z, retain_graph=True, create_graph=graph or x.requires_grad, allow_unused=True
                )
                total = total if g is None else total + g[i]
    return total


class Tracked:
    """Right-hand side of step k under a reference, for particles `x [n, P]`, `theta [P, S, p]`; on the type and the
    device of `like`."""

    def __init__(
        self, system: Equations, reference: Reference, theta: torch.Tensor, stretch_s: float, like: torch.Tensor
    ):
        def tensor(a):
            return torch.as_tensor(a, dtype=like.dtype, device=like.device)

        self.system, self.dt, self.stretch_s, self.theta = system, reference.dt, stretch_s, theta
        self.h = reference.dt / system.substeps
        self.states, self.controls, self.gains = (tensor(a) for a in reference[:3])
        self.low, self.high = tensor(system.control_low)[:, None], tensor(system.control_high)[:, None]
        self.angles = torch.as_tensor(system.angles, device=like.device)[:, None]
        self.xp = backend("TORCH")
        self.graph = any(a.requires_grad for a in (theta, self.states, self.controls, self.gains))

    def params(self, k: int) -> tuple:
        return tuple(self.theta[:, min(int(k * self.dt / self.stretch_s + 1e-9), self.theta.shape[1] - 1)].T)

    def control(self, k: int, x: torch.Tensor) -> tuple:
        error = x - self.states[k][:, None]
        error = torch.where(self.angles, torch.atan2(torch.sin(error), torch.cos(error)), error)
        u = self.controls[k][:, None] + self.gains[k] @ error
        return tuple(torch.minimum(torch.maximum(u, self.low), self.high))

    def rate(self, k: int, t: float, x: torch.Tensor, u: tuple) -> torch.Tensor:
        return self.xp.pack(self.system.f(t, self.xp.unpack(x), u, self.params(k), self.xp))

    def closed(self, k: int, x: torch.Tensor) -> torch.Tensor:
        """Rates `[n, P]` with the feedback inside."""
        return self.rate(k, 0.0, x, self.control(k, x))

    def joint(self, k: int, t: float, x: torch.Tensor, open_loop: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Rates of state `[n, P]` and log-gain `[P]`; in the open loop by the system's own divergence, if any."""
        if not open_loop:
            return self.closed(k, x), -divergence(lambda y: self.closed(k, y), x, graph=self.graph)
        u = tuple(self.controls[k][:, None].expand(-1, x.shape[1]))
        if self.system.divergence is None:
            return self.rate(k, t, x, u), -divergence(lambda y: self.rate(k, t, y, u), x, graph=self.graph)
        d = self.system.divergence(t, self.xp.unpack(x), u, self.params(k), self.xp)
        return self.rate(k, t, x, u), -torch.as_tensor(d, dtype=x.dtype).expand(x.shape[1])

    def advance(
        self, k: int, t: float, x: torch.Tensor, gain: torch.Tensor, h: float, open_loop: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One RK4 step of `h` seconds of state and log-gain, the feedback acting continuously; h < 0: backward."""
        k1, g1 = self.joint(k, t, x, open_loop)
        k2, g2 = self.joint(k, t + h / 2, x + h / 2 * k1, open_loop)
        k3, g3 = self.joint(k, t + h / 2, x + h / 2 * k2, open_loop)
        k4, g4 = self.joint(k, t + h, x + h * k3, open_loop)
        return x + h / 6 * (k1 + 2 * (k2 + k3) + k4), gain + h / 6 * (g1 + 2 * (g2 + g3) + g4)

    def hold(self, k: int, x: torch.Tensor) -> list[torch.Tensor]:
        """States after each RK4 step of control step k, the control held at what the feedback gives at its start."""
        u, out, h = self.control(k, x), [], self.h
        for i in range(self.system.substeps):
            t = k * self.dt + i * h
            k1 = self.rate(k, t, x, u)
            k2 = self.rate(k, t + h / 2, x + h / 2 * k1, u)
            k3 = self.rate(k, t + h / 2, x + h / 2 * k2, u)
            k4 = self.rate(k, t + h, x + h * k3, u)
            x = x + h / 6 * (k1 + 2 * (k2 + k3) + k4)
            out.append(x)
        return out
