"""A learned flow: short flow maps put one behind the other, so that few trajectories teach the whole horizon.

The equations do not depend on time, so Phi_{s+t} = Phi_t o Phi_s (the flow is a semigroup): a network that knows
Phi_tau for tau up to a short `segment_s` knows every time, and every stored point of a trajectory is a start to learn
from. One network for the whole horizon [density_corl] sees one start a trajectory.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeplan.errors import ShapeError
from safeplan.nets.flow_net import FlowNet
from safeplan.nets.following_flow_net import FollowingFlowNet
from safeplan.reach.density import DensityFlow


@dataclass(frozen=True, eq=False)
class LearnedFlow:
    """State and log-gain at any time, from a `FlowNet`.

    Args:
        net: of one segment; a `FollowingFlowNet` also knows when the segment begins.
        stretch_s: seconds for which a slice of the parameters holds; segments do not reach across.
        jacobian: take the log-gain from the network's own Jacobian, -log |det dPhi/dx|, instead of from its output:
            for a net that was taught by a simulator whose divergence nobody knows.
        facts: what it was taught with.
    """

    net: FlowNet | FollowingFlowNet
    stretch_s: float = float("inf")
    jacobian: bool = False
    facts: dict[str, Any] | None = None

    def push(self, x: Tensor, theta: Tensor, times: Any) -> DensityFlow:
        """Particles `x [P, n]` with parameters `theta [P, S, p]` at ascending `times [T]` (s), differentiable in both.

        Raises:
            ShapeError: particles or parameters that are not those of the net; times that descend, are negative, or
                are beyond what a net that follows the spread was taught.
        """
        net = self.net
        if x.ndim != 2 or x.shape[1] != net.n or theta.ndim != 3 or theta.shape[::2] != (len(x), net.p):
            raise ShapeError(
                f"learned flow: x {tuple(x.shape)} and theta {tuple(theta.shape)}; expected [P, {net.n}] and "
                f"[P, S, {net.p}]"
            )
        slices = theta.shape[1]
        if slices < 1 or (slices > 1 and not np.isfinite(self.stretch_s)):
            raise ShapeError(
                f"learned flow: theta has {slices} slices, but the flow was taught with parameters that hold"
            )
        times = np.asarray(times, float)
        ascends = times.ndim == 1 and len(times) and (np.diff(times, prepend=0.0) >= 0).all()
        if not (ascends and np.isfinite(times[-1])):
            raise ShapeError(f"learned flow: times are {times.tolist()}, expected ascending seconds from 0 on")
        if times[-1] > net.horizon_s + 1e-6:
            raise ShapeError(
                f"learned flow: times up to {times[-1]:g} s, but the spread of the states is known up to "
                f"{net.horizon_s:g} s only; teach it on longer trajectories"
            )
        like = net.scale
        x, theta = x.to(like), theta.to(like)
        anchor, gain = x, torch.zeros_like(x[:, 0])
        states, gains = [], []
        for begin, end, s in self._segments(times[-1], slices):
            here = times[(times >= begin - 1e-9) & (times < end - 1e-9)] - begin
            since = torch.full_like(gain[:1], begin)
            for part in self._ahead(anchor, theta[:, s], here, since):
                states.append(part[0])
                gains.append(gain + part[1])
            anchor, added = self._map(anchor, theta[:, s], torch.full_like(gain, end - begin), since)
            gain = gain + added
        for _ in range(len(times) - len(states)):  # the last anchor itself
            states.append(anchor)
            gains.append(gain)
        return DensityFlow(torch.as_tensor(times), torch.stack([s.T for s in states]), torch.stack(gains))

    def _segments(self, end: float, slices: int) -> list[tuple[float, float, int]]:
        """`(begin, end, slice of the parameters)` from 0 to `end`, each no longer than the net reaches."""
        out, begin = [], 0.0
        while begin < end - 1e-9:
            s = 0 if slices == 1 else min(int(begin / self.stretch_s + 1e-9), slices - 1)
            wall = end if slices == 1 or s == slices - 1 else (s + 1) * self.stretch_s
            stop = min(begin + self.net.segment_s, wall, end)
            out.append((begin, stop, s))
            begin = stop
        return out

    def _ahead(self, x: Tensor, theta: Tensor, taus: np.ndarray, begin: Tensor) -> list[tuple[Tensor, Tensor]]:
        """All requested times of one segment in one call of the net."""
        if not len(taus):
            return []
        k, P = len(taus), len(x)
        tau = torch.as_tensor(taus).to(x).repeat_interleave(P)
        state, gain = self._map(x.repeat(k, 1), theta.repeat(k, 1), tau, begin)
        return [(state[i * P : (i + 1) * P], gain[i * P : (i + 1) * P]) for i in range(k)]

    def _map(self, x: Tensor, theta: Tensor, tau: Tensor, begin: Tensor) -> tuple[Tensor, Tensor]:
        if not self.jacobian:
            return self.net(x, theta, tau, begin)
        keep = torch.is_grad_enabled() and (x.requires_grad or theta.requires_grad)
        with torch.enable_grad():
            z = x if x.requires_grad else x.detach().requires_grad_(True)
            y, _ = self.net(z, theta, tau, begin)
            rows = [torch.autograd.grad(c.sum(), z, retain_graph=True, create_graph=keep)[0] for c in y.unbind(1)]
        return (y if keep else y.detach()), -torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet
