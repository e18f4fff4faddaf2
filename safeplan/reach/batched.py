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
from safeplan.dynamics.system import runge_kutta
from safeplan.errors import ShapeError
from safeplan.reach.sets import Region
from safeplan.types import Draw, Reference

FUSED = 5  # RK4 steps that are compiled as one: more take longer to compile and save little


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


Parts = tuple[Tensor, ...]
Block = Callable[[Parts, Tensor, Any, Sequence[Tensor], Tensor, Tensor, Tensor], tuple[Parts, Tensor, list[Parts]]]


def control_steps(system: Equations, region: Region | None, dt: float, keep: bool) -> Block:
    """Control steps of all particles, as many as `theta` has entries: `(x, worst, t, theta, xr, ur, K) -> (x, worst,
    seen)`.

    Components `n` times `[B, P]`, never packed, so that a compiler makes one loop over the particles of it all;
    `worst [B, P]` is the least level so far, looked at after every RK4 step; `seen` are the states there, if kept.
    """
    xp, h = backend("TORCH"), dt / system.substeps
    bounds = [(float(a), float(b)) for a, b in zip(system.control_low, system.control_high, strict=True)]
    angles = [bool(angle) for angle in system.angles]

    def control(x, xr, ur, K):
        error = [a - b for a, b in zip(x, xr, strict=True)]
        error = [xp.wrap(e) if angle else e for e, angle in zip(error, angles, strict=True)]
        u = []
        for c, gains, (low, high) in zip(ur, K, bounds, strict=True):
            for gain, e in zip(gains, error, strict=True):
                c = torch.addcmul(c, gain, e)
            u.append(torch.clamp(c, low, high))
        return tuple(u)

    def rates(u, params):
        return lambda time, x: system.f(time, x, u, params, xp)

    def block(x, worst, t, theta, xr, ur, K):
        seen = []
        for k, params in enumerate(theta):
            u, params = control(x, xr[k], ur[k], K[k]), params.unbind(0)
            for i in range(system.substeps):
                x = runge_kutta(rates(u, params), 0.0, x, h, xp)
                if region is not None:
                    worst = torch.minimum(worst, region.level(x, t + (k * dt + (i + 1) * h), xp))
                if keep:
                    seen.append(x)
        return x, worst, seen

    return block


@lru_cache(maxsize=16)
def _compiled(system: Equations, region: Region | None, dt: float, keep: bool) -> Block:
    """A user asks for many plans of one system among the same sets: compiled once."""
    return torch.compile(control_steps(system, region, dt, keep), fullgraph=True, dynamic=False)


def _together(steps: int, substeps: int) -> int:
    """How many control steps to compile as one: an even share of all, at most `FUSED` RK4 steps."""
    return max(d for d in range(1, max(1, FUSED // substeps) + 1) if steps % d == 0)


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
        compiled: `torch.compile` some steps at once, worth its half minute from some hundred calls on (kept for a
            region by identity: keep yours).
    """
    like = torch.zeros(()) if like is None else like
    plans, particles = stack_plans(references, like), stack_particles(draw, like)
    return push_stacked(system, *particles, plans, stretch_s, region, keep=keep, compiled=compiled)


def push_stacked(
    system: Equations,
    x: Tensor,
    theta: Tensor,
    plans: Plans,
    stretch_s: float,
    region: Region | None = None,
    *,
    keep: bool = False,
    compiled: bool = False,
) -> Pushed:
    """The same for tensors that are on their device already, as `stack_particles` and `stack_plans` make them.

    Raises:
        ShapeError: the region has an axis that the states lack.
    """
    if region is not None and max(region.axes) >= system.n:
        raise ShapeError(f"push_plans: the region has axes {region.axes}, but the states have {system.n} components")
    steps, B, P = len(plans.controls), plans.states.shape[2], x.shape[-1]
    block = (_compiled if compiled else control_steps)(system, region, plans.dt, keep)
    size = _together(steps, system.substeps) if compiled else 1
    t = torch.zeros((), dtype=x.dtype, device=x.device) if compiled else 0.0  # a new number would be compiled anew
    now: Parts = tuple(c.expand(B, P).contiguous() for c in x.unbind(0))
    worst = torch.full((B, P), float("inf"), dtype=x.dtype, device=x.device)
    if region is not None:
        worst = region.level(now, t, backend("TORCH"))
    states = [now]
    for k in range(0, steps, size):
        at = [min(int(i * plans.dt / stretch_s + 1e-9), len(theta) - 1) for i in range(k, k + size)]
        held = [theta[s] for s in at]
        span = slice(k, k + size)
        now, worst, seen = block(now, worst, t, held, plans.states[span], plans.controls[span], plans.gains[span])
        t = t + size * plans.dt
        states += seen
    return Pushed(worst, torch.stack([torch.stack(s) for s in states]) if keep else None)


def risks(pushed: Pushed) -> Tensor:
    """`[B]` share of the particles that were inside at any RK4 step; NaN counts as inside. What lies between the steps
    is looked at by `events.probability`."""
    return (~(pushed.worst > 0)).to(pushed.worst.dtype).mean(-1)
