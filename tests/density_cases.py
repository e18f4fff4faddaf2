"""What the tests of the density work's systems share: drawn states, finite differences, particles over the horizon."""

import numpy as np
import torch

from safeplan.dynamics.backends import NUMPY, TORCH
from safeplan.dynamics.equations import Equations
from safeplan.dynamics.systems import Case
from safeplan.reach import Flow, rollout, stretches
from safeplan.types import Draw

CLOSED_FORM = 1e-6  # of a divergence against central differences, absolute and relative


def draw(case: Case, n: int, seed: int) -> Draw:
    """Start states `[n, ...]` and parameters for the whole horizon."""
    return case.start.sample(n, stretches(case.horizon_s, case.start.stretch_s), np.random.default_rng(seed))


def particles(case: Case, n: int, seed: int) -> tuple[Draw, Flow]:
    d = draw(case, n, seed)
    return d, rollout(case.loop, d, case.reference, case.start.stretch_s)


def visited(case: Case, n: int, seed: int) -> tuple[np.ndarray, tuple, tuple]:
    """States `[n, P]` at random times of particles' ways, plan controls within their bounds, parameters."""
    d, flow = particles(case, n, seed)
    rng = np.random.default_rng(seed + 1)
    x = flow.states[rng.integers(0, len(flow.times), n), :, np.arange(n)].T
    low, high = case.loop.control_low[:, None], case.loop.control_high[:, None]
    return x, tuple(rng.uniform(low, high, (case.loop.m, n))), tuple(d.theta[:, 0].T)


def by_differences(eq: Equations, x: np.ndarray, u: tuple, theta: tuple, eps: float = 1e-5) -> np.ndarray:
    """Divergence `[P]` by central differences."""
    total = np.zeros(x.shape[1])
    for i in range(eq.n):
        d = np.zeros_like(x)
        d[i] = eps
        plus, minus = (eq.f(0.0, tuple(x + s * d), u, theta, NUMPY)[i] for s in (1, -1))
        total += (plus - minus) / (2 * eps)
    return total


def by_jacobian(eq: Equations, x: np.ndarray, u: tuple, theta: tuple) -> np.ndarray:
    """Divergence `[P]` as the trace of `torch.func.jacrev`, one particle at a time under vmap."""

    def f(z, v, th):
        return torch.stack(
            [torch.as_tensor(c) + 0.0 * z[0] for c in eq.f(0.0, z.unbind(), v.unbind(), th.unbind(), TORCH)]
        )

    def column(parts, like):
        return torch.as_tensor(np.array(parts).reshape(len(parts), like.shape[1]).T)

    jac = torch.func.vmap(torch.func.jacrev(f))(torch.as_tensor(x.T), column(u, x), column(theta, x))
    return torch.einsum("pii->p", jac).numpy()


def stated(eq: Equations, x: np.ndarray, u: tuple, theta: tuple) -> np.ndarray:
    """The divergence that the equations state, `[P]`."""
    assert eq.divergence is not None
    return np.broadcast_to(eq.divergence(0.0, tuple(x), u, theta, NUMPY), x.shape[1])
