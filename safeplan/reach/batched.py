"""Many plans at once: their particles in one torch batch, on any device, differentiable, compiled when asked.

`particles.rollout` is the same motion in NumPy for one plan, in double precision, and what certificates rest on.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeplan.dynamics.backends import __getattr__ as backend
from safeplan.dynamics.equations import Equations
from safeplan.dynamics.system import rk4
from safeplan.errors import ShapeError
from safeplan.reach.sets import Region
from safeplan.types import Draw, Reference


class Plans(NamedTuple):
    """B references of one length: states `[N+1, n, B, 1]`, controls `[N, m, B, 1]`, gains `[N, m, n, B, 1]`, dt (s)."""

    states: Tensor
    controls: Tensor
    gains: Tensor
    dt: float


def stack_plans(references: Sequence[Reference], like: Tensor) -> Plans:
    """References as one batch, of the type and on the device of `like`.

    Raises:
        ShapeError: none, or references of different shapes or steps.
    """
    shapes = {(r.states.shape, r.controls.shape, r.gains.shape, r.dt) for r in references}
    if len(shapes) != 1:
        raise ShapeError(f"stack_plans: {len(references)} references of {len(shapes)} shapes; give at least one, alike")

    def tensor(arrays: list[Any]) -> Tensor:
        stacked = torch.stack([torch.as_tensor(a, dtype=like.dtype, device=like.device) for a in arrays], -1)
        return stacked[..., None].contiguous()

    states, controls, gains = (tensor([r[i] for r in references]) for i in range(3))
    return Plans(states, controls, gains, references[0].dt)


def stack_particles(draw: Draw, like: Tensor) -> tuple[Tensor, Tensor]:
    """x `[n, 1, P]` and parameters `[S, p, 1, P]`: the same particles for every plan."""
    x, theta = (torch.as_tensor(a, dtype=like.dtype, device=like.device) for a in draw)
    return x.T[:, None].contiguous(), theta.permute(1, 2, 0)[:, :, None].contiguous()


Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def control_step(system: Equations, region: Region | None, dt: float) -> Step:
    """One control step of all particles: `(x, worst, t, theta, xr, ur, K) -> (x, worst, states)`.

    `worst [B, P]` is the least level so far, looked at after every RK4 step; states `[substeps, n, B, P]`.
    """
    xp, h = backend("TORCH"), dt / system.substeps
    low, high = (torch.as_tensor(v) for v in (system.control_low, system.control_high))
    angles = [i for i, angle in enumerate(system.angles) if angle]

    def step(x, worst, t, theta, xr, ur, K):
        error = x - xr
        if angles:
            parts = list(error.unbind(0))
            for i in angles:
                parts[i] = xp.wrap(parts[i])
            error = torch.stack(parts)
        u = ur + (K * error).sum(1)
        u = tuple(torch.clamp(c, float(a), float(b)) for c, a, b in zip(u.unbind(0), low, high, strict=True))
        seen = []
        for i in range(system.substeps):
            x = rk4(system, 0.0, x, u, theta.unbind(0), h, xp)
            seen.append(x)
            if region is not None:
                worst = torch.minimum(worst, region.level(x, t + (i + 1) * h, xp))
        return x, worst, torch.stack(seen)

    return step


@lru_cache(maxsize=16)
def _compiled(system: Equations, region: Region | None, dt: float) -> Step:
    """A user asks for many plans of one system among the same sets: compiled once."""
    return torch.compile(control_step(system, region, dt), fullgraph=True, dynamic=False)


class Pushed(NamedTuple):
    """Least level `[B, P]` over the RK4 steps (infinite without a region) and, if kept, states `[T, n, B, P]`."""

    worst: Tensor
    states: Tensor | None


def push_plans(
    system: Equations,
    draw: Draw,
    references: Sequence[Reference],
    stretch_s: float,
    region: Region | None = None,
    *,
    like: Tensor | None = None,
    keep: bool = False,
    compiled: bool = False,
) -> Pushed:
    """Fly B references with the same P particles of `draw`, control held over each step, as `particles.rollout` does.

    Args:
        region: a moving set; NaN levels count as inside it: they make `worst` NaN.
        like: a tensor whose type and device are used; default single precision on the CPU.
        keep: also return all states, at every RK4 step from 0.
        compiled: `torch.compile` the step, worth its half minute from some hundred calls on (kept for a region by
            identity: keep yours).
    """
    if region is not None and max(region.axes) >= system.n:
        raise ShapeError(f"push_plans: the region has axes {region.axes}, but the states have {system.n} components")
    like = torch.zeros(()) if like is None else like
    plans = stack_plans(references, like)
    x, theta = stack_particles(draw, like)
    step = (_compiled if compiled else control_step)(system, region, plans.dt)
    B, P = plans.states.shape[2], x.shape[-1]
    x = x.expand(-1, B, -1).contiguous()
    t = torch.zeros((), dtype=x.dtype, device=x.device)
    worst = torch.full((B, P), float("inf"), dtype=x.dtype, device=x.device)
    if region is not None:
        worst = region.level(x, t, backend("TORCH"))
    states = [x[None]]
    for k in range(len(plans.controls)):
        s = min(int(k * plans.dt / stretch_s + 1e-9), len(theta) - 1)
        x, worst, seen = step(x, worst, t, theta[s], plans.states[k], plans.controls[k], plans.gains[k])
        t = t + plans.dt
        if keep:
            states.append(seen)
    return Pushed(worst, torch.cat(states) if keep else None)


def risks(pushed: Pushed) -> Tensor:
    """`[B]` share of the particles that were inside at any RK4 step; NaN counts as inside. What lies between the steps
    is looked at by `events.probability`."""
    return (~(pushed.worst > 0)).to(pushed.worst.dtype).mean(-1)
