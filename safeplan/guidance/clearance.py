"""Clearance and goal as observations tell them: energies and constraints on whole trajectories, in physical units."""

from collections.abc import Callable

import torch
from torch import Tensor

from safeplan.dynamics.backends import TORCH
from safeplan.dynamics.distance import footprint_centers, inside_box, rounded_box
from safeplan.dynamics.observe import OBSTACLE
from safeplan.dynamics.system import System

FAR = 1e3  # m, gap of an empty obstacle slot


def gaps(system: System, obs: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Gaps (m) of trajectories `[B, H+1, n + m]` seen from observations `[B, O]`, for the D discs of the footprint:
    to the K obstacles `[B, H+1, D, K]` and to the walls `[B, H+1, D]`.

    Obstacles go on with the velocity seen. An observation does not tell how a box is turned: it counts as upright.
    """
    n, (ix, iy) = system.n, system.position
    start = obs[:, None, [ix, iy]]
    left, below, right, above = (obs[:, n + 2 + i, None] for i in range(4))
    walls = (start[..., 0] - left, start[..., 1] - below, start[..., 0] + right, start[..., 1] + above)
    dx, dy, vx, vy, r, hx, hy, _ = obs[:, None, n + 6 :].reshape(len(obs), 1, -1, OBSTACLE).unbind(-1)
    there = (r + hx + hy) > 0  # empty slots have no size

    def measure(x: Tensor) -> tuple[Tensor, Tensor]:
        t = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)[None, :, None] * system.dt
        cx, cy = start[..., :1] + dx + t * vx, start[..., 1:] + dy + t * vy
        near, wall = [], []
        for px, py, radius in footprint_centers(system, x[..., :n].unbind(-1), TORCH):
            gap = rounded_box(px[..., None], py[..., None], cx, cy, torch.zeros_like(cx), hx, hy, r, TORCH) - radius
            near.append(torch.where(there, gap, FAR))
            wall.append(inside_box(px, py, walls, TORCH) - radius)
        return torch.stack(near, 2), torch.stack(wall, 2)

    return measure


def clearance_energy(system: System, obs: Tensor, margin: float) -> Callable[[Tensor], Tensor]:
    """Energy `[B]`: sum over steps, obstacles and walls of `(1 - gap / margin)^2` where a gap (m) is below it."""
    measure = gaps(system, obs)

    def energy(x: Tensor) -> Tensor:
        near, wall = ((margin - g).clamp_min(0).square() for g in measure(x))
        return (near.sum((1, 2, 3)) + wall.sum((1, 2))) / margin**2

    return energy


def clearance_barrier(system: System, obs: Tensor, margin: float) -> Callable[[Tensor], Tensor]:
    """Constraint `[B, H]`: the least gap at every step after the first, less `margin` (m)."""
    measure = gaps(system, obs)

    def h(x: Tensor) -> Tensor:
        near, wall = measure(x)
        return torch.minimum(near.amin((2, 3)), wall.amin(2))[:, 1:] - margin

    return h


def goal_energy(system: System, obs: Tensor) -> Callable[[Tensor], Tensor]:
    """Half the squared distance `[B]` (m^2) from the last state of trajectories `[B, H+1, n + m]` to the goal."""
    n, (ix, iy) = system.n, system.position
    goal = obs[:, [ix, iy]] + obs[:, n : n + 2]

    def energy(x: Tensor) -> Tensor:
        return 0.5 * (x[:, -1, [ix, iy]] - goal).square().sum(1)

    return energy
