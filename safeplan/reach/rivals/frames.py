"""Where a grid has to be: boxes that move, stretch and tilt as trajectories do.

A frame `[n, 1 + n]` is an origin and the edges of a box: x = frame[:, 0] + frame[:, 1:] @ share, shares in [0, 1].
Edges are lower triangular, along the Cholesky factor of the states' covariance: a box along the axes would be mostly
empty where a set is thin and oblique.
"""

from itertools import product

import numpy as np
from scipy.stats import qmc

from safeplan.dynamics.systems import Case
from safeplan.errors import CapabilityError
from safeplan.reach.particles import rollout
from safeplan.types import Array, Draw

PATHS = 1024  # trajectories of one value of the parameters


def around(x: Array, margin: float) -> Array:
    """The frame `[n, 1 + n]` around states `x [P, n]`, with `margin` on every side as a share of their extent.

    Raises:
        CapabilityError: the states span no volume.
    """
    try:
        edges = np.linalg.cholesky(np.cov(x.T).reshape(x.shape[1], -1))
    except np.linalg.LinAlgError as e:
        raise CapabilityError(
            f"grid reachability: states with extents {np.ptp(x, axis=0).tolist()} span no volume"
        ) from e
    z = np.linalg.solve(edges, (x - x.mean(0)).T)
    low, width = z.min(1), np.ptp(z, axis=1)
    origin = x.mean(0) + edges @ (low - margin * width)
    return np.column_stack([origin, edges * width * (1 + 2 * margin)])


def follow(case: Case, box: Array, theta: Array, margin: float, seed: int) -> tuple[Array, Array]:
    """Times `[T]` of the RK4 steps, and frames `[T, N, n, 1 + n]` around trajectories for each of `theta [N, p]`.

    Args:
        box: ends `[2, n]` of the start states; trajectories begin on its sides, which become those of the set.

    Raises:
        CapabilityError: trajectories that escape to infinity or span no volume.
    """
    n = case.loop.n
    share, face = qmc.Sobol(n, rng=np.random.default_rng(seed)).random(PATHS), np.arange(PATHS) * 2 * n // PATHS
    share[np.arange(PATHS), face // 2] = face % 2
    x = np.vstack([box[0] + np.ptp(box, axis=0) * share, list(product(*box.T))])
    times, frames = np.zeros(1), []
    for value in theta:
        states = x.T[None]
        if case.steps:
            start = Draw(x, np.broadcast_to(value, (len(x), 1, len(value))))
            with np.errstate(over="ignore", invalid="ignore"):
                times, states = rollout(case.loop, start, case.reference, case.start.stretch_s)
        if not np.isfinite(states).all():
            raise CapabilityError(f"grid reachability: {case.name} escapes to infinity before t = {case.horizon_s:g} s")
        frames.append([around(s.T, margin) for s in states])
    return times, np.swapaxes(frames, 0, 1)


def values_of(low: Array, high: Array, nodes: int) -> Array:
    """Parameters `[N, p]` at the nodes of a grid between `low` and `high` `[p]`; one that is known has one node."""
    lines = (np.linspace(a, b, nodes if b > a else 1) for a, b in zip(low, high, strict=True))
    return np.array(list(product(*lines)))
