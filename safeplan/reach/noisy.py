"""Particles under white process noise: dx = f dt + sigma dW with constant sigma. An extension, and what it gives up.

Elsewhere in `reach` disturbances are parameters that hold for a stretch of time; mass is then conserved along
characteristics. White noise has none: particles keep their equal weights, so probabilities and certificates hold as
they are, but log-gain, backward densities and the flux bound do not apply, and between stored times a path is rough,
so that any-time probabilities are those of the stored times.
"""

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.equations import Equations
from safeplan.dynamics.system import rk4
from safeplan.errors import ShapeError
from safeplan.reach.particles import Flow, feedback
from safeplan.types import Array, Draw, Reference


def noisy_rollout(
    system: Equations,
    draw: Draw,
    reference: Reference,
    stretch_s: float,
    sigma: Array,
    rng: np.random.Generator,
) -> Flow:
    """As `particles.rollout`, with noise of intensity `sigma [n]` (unit of the state per square root of a second).

    Each RK4 step lies between two half steps of noise (Strang splitting [strang]): distributions are exact to second
    order in the step, and without noise it is RK4.

    Raises:
        ShapeError: sigma of another shape, negative or not finite.
    """
    sigma = np.asarray(sigma, float)
    if sigma.shape != (system.n,) or not (np.isfinite(sigma) & (sigma >= 0)).all():
        raise ShapeError(f"noisy_rollout: sigma is {sigma.tolist()}, expected {system.n} finite numbers of at least 0")
    h, steps = reference.dt / system.substeps, len(reference.controls)
    theta, half = np.moveaxis(draw.theta, 0, -1), np.sqrt(h / 2) * sigma[:, None]
    x = np.array(draw.x.T, float)
    out = np.empty((steps * system.substeps + 1, *x.shape))
    out[0] = x
    for k in range(steps):
        u = feedback(system, reference, k, x, None)
        th = tuple(theta[min(int(k * reference.dt / stretch_s + 1e-9), len(theta) - 1)])
        for i in range(system.substeps):
            x = x + half * rng.standard_normal(x.shape)
            x = rk4(system, 0.0, x, u, th, h, NUMPY) + half * rng.standard_normal(x.shape)
            out[k * system.substeps + i + 1] = x
    return Flow(np.arange(len(out)) * h, out)
