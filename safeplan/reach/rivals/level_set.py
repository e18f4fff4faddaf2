"""The level-set equation V_t + f . grad V = 0 on a grid that goes along with the set, by hj_reachability [hj_reach].

V is carried along trajectories, V(x, t) = V(start of the trajectory through x, 0), so {V <= 0} is what can be reached
from {V <= 0} at the start. Derivatives by WENO of order 5 [weno], RK3 in time, both the library's; its dissipation is
|f| at each node, which makes the scheme upwind. The grid moves: a node keeps its index z, its place is
origin(t) + edges(t) z / (N - 1), and the equation is solved in z.
"""

from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from safeplan.dynamics.backends import Namespace
from safeplan.dynamics.systems import Case
from safeplan.errors import CapabilityError
from safeplan.types import Array


def evolve(case: Case, times: Array, frames: Array, theta: Array, values: Array, looks: Array) -> Iterator[Array]:
    """V at `looks[1:]`, one after the other; `values [N, N1, ..., Nn]` are those at `looks[0]`.

    Args:
        times: `[T]`, equally far apart; frames: `[T, N, n, 1 + n]` of the grid then, see `frames`.
        theta: parameters `[N, p]`, constant: each row has a frame and a set of its own.

    Raises:
        CapabilityError: hj_reachability is not installed.
    """
    hj, jax, jnp = (_module(m) for m in ("hj_reachability", "jax", "jax.numpy"))
    xp, last = jax_namespace(jnp), np.array(values.shape[1:]) - 1.0
    step, count, top = times[1] - times[0], len(times) - 1, float(values.max())

    class Along(hj.Dynamics):
        """The motion as the grid's indices see it; nobody chooses anything."""

        def __init__(self, pieces, theta):
            super().__init__("max", "min", None, None)
            self.pieces, self.theta = pieces, tuple(theta)

        def optimal_control_and_disturbance(self, state, time, grad_value):
            return None, None

        def __call__(self, state, control, disturbance, time):
            k = jnp.clip((time / step).astype(int), 0, count - 1)
            s, (a, b, c, d) = time - k * step, self.pieces[:, k]
            frame, moving = ((a * s + b) * s + c) * s + d, (3 * a * s + 2 * b) * s + c
            share = jnp.concatenate([jnp.ones(1), state / last])
            rate = case.loop.f(0.0, tuple(frame @ share), case.command, self.theta, xp)
            gap, out = xp.pack(rate) - moving @ share, []
            for g, edges in zip(gap, frame[:, 1:], strict=True):  # lower triangular
                out.append((g - sum(e * v for e, v in zip(edges, out, strict=False))) / edges[len(out)])
            return jnp.stack(out) * last

        def partial_max_magnitudes(self, state, time, value, grad_value_box):
            return jnp.abs(self(state, None, None, time))

    def beyond(line, width):  # extrapolated, V would grow without limit where the flow comes in
        return jnp.pad(line, width, constant_values=top)

    def one(pieces, theta, values, now, then):
        return hj.step(settings, Along(pieces, theta), grid, now, values, then, progress_bar=False)

    with jax.enable_x64(True):  # sets may be much thinner than their states are large
        domain = hj.sets.Box(0 * last, last)
        grid = hj.Grid.from_lattice_parameters_and_boundary_conditions(domain, values.shape[1:], (beyond,) * len(last))
        settings, each = hj.SolverSettings.with_accuracy("very_high"), jax.jit(jax.vmap(one, (2, 0, 0, None, None)))
        pieces = jnp.asarray(PchipInterpolator(times, frames).c)  # cubics: the rate is continuous
    for now, then in pairwise(looks):
        with jax.enable_x64(True):
            values = each(pieces, theta, values, now, then)
        yield np.asarray(values)


def _module(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as e:
        raise CapabilityError(
            "grid reachability needs hj_reachability: pip install 'safeplan[grid]' (with JAX, half a GB)"
        ) from e


def jax_namespace(jnp: Any) -> Namespace:
    """The backend of `safeplan.dynamics.backends` for jax.numpy."""
    plain = ("sin", "cos", "tan", "tanh", "exp", "log", "sqrt", "square", "arctan2", "maximum", "minimum", "where")
    return SimpleNamespace(
        name="jax",
        pi=np.pi,
        **{n: getattr(jnp, n) for n in plain},
        abs=jnp.abs,
        clip=lambda x, lo, hi: jnp.minimum(jnp.maximum(x, lo), hi),
        wrap=lambda a: jnp.arctan2(jnp.sin(a), jnp.cos(a)),
        dense=lambda W, b, h: h @ jnp.asarray(W.T, h.dtype) + jnp.asarray(b, h.dtype),
        stack=lambda xs: jnp.stack(jnp.broadcast_arrays(*xs), axis=-1),
        unstack=lambda x: tuple(jnp.moveaxis(x, -1, 0)),
        pack=lambda xs: jnp.stack(jnp.broadcast_arrays(*xs)),
        unpack=tuple,
        asarray=jnp.asarray,
    )
