"""An energy that grows where a trajectory comes closer to what it has observed than a margin."""

from collections.abc import Callable

import torch
from torch import Tensor

from safeplan.dynamics.backends import TORCH
from safeplan.dynamics.distance import footprint_centers, inside_box, rounded_box
from safeplan.dynamics.observe import OBSTACLE
from safeplan.dynamics.system import System


def clearance_energy(system: System, obs: Tensor, margin: float) -> Callable[[Tensor], Tensor]:
    """Energy `[B]` of trajectories `[B, H+1, n + m]` (physical states, then controls) seen from observations `[B, O]`.

    Sum over steps, obstacles and walls of `(margin - gap)^2 / margin^2` where the gap (m) is below the margin.
    Obstacles go on with the velocity seen. An observation does not tell how a box is turned: it counts as upright.
    """
    n, (ix, iy) = system.n, system.position
    start = obs[:, None, [ix, iy]]
    left, below, right, above = (obs[:, n + 2 + i, None] for i in range(4))
    walls = (start[..., 0] - left, start[..., 1] - below, start[..., 0] + right, start[..., 1] + above)
    dx, dy, vx, vy, r, hx, hy, _ = obs[:, None, n + 6 :].reshape(len(obs), 1, -1, OBSTACLE).unbind(-1)
    there = (r + hx + hy) > 0  # empty slots have no size

    def energy(x: Tensor) -> Tensor:
        t = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)[None, :, None] * system.dt
        cx, cy = start[..., :1] + dx + t * vx, start[..., 1:] + dy + t * vy
        total = x.new_zeros(len(x))
        for px, py, radius in footprint_centers(system, x[..., :n].unbind(-1), TORCH):
            gap = rounded_box(px[..., None], py[..., None], cx, cy, torch.zeros_like(cx), hx, hy, r, TORCH) - radius
            short = torch.where(there, (margin - gap).clamp_min(0), 0.0)
            wall = (margin - (inside_box(px, py, walls, TORCH) - radius)).clamp_min(0)
            total = total + (short.square().sum((1, 2)) + wall.square().sum(1)) / margin**2
        return total

    return energy
