"""Probability that a moving vehicle touches a set that moves: per checked time and over the horizon."""

import numpy as np

from safeplan.dynamics.distance import clearance
from safeplan.dynamics.system import System
from safeplan.reach.certificate import clopper_pearson
from safeplan.reach.particles import Flow
from safeplan.types import Array, Risk, Scene


def pair_clearance(system: System, flow: Flow, centers: Array, scene: Scene) -> Array:
    """Clearance `[P, T, K+1]` of particle i among the obstacle future i, centres `[P, T, K, 2]`; last entry: bounds."""
    return clearance(system, flow.states.transpose(1, 2, 0), centers, scene)


def between(system: System, flow: Flow, centers: Array, c: Array) -> Array:
    """Lower bound `[P, T-1, K+1]` of the clearance between checked times.

    Clearance changes no faster than the relative motion, so its minimum over an interval is at least
    (c_k + c_{k+1} - L) / 2 with L the path length travelled, here chord plus what the acceleration bound allows.
    """
    x = flow.states
    ix, iy = system.position
    dt = flow.times[1] - flow.times[0]
    own = np.hypot(np.diff(x[:, ix], axis=0), np.diff(x[:, iy], axis=0)).T + system.accel_bound * dt**2 / 4
    if system.yaw is not None:
        reach = max(np.hypot(dx, dy) for dx, dy, _ in system.footprint)
        if reach:
            own = own + reach * np.abs(np.diff(x[:, system.yaw], axis=0)).T
    theirs = np.diff(centers, axis=1)
    length = np.empty((*own.shape, c.shape[-1]))
    length[..., :-1] = own[..., None] + np.sqrt(theirs[..., 0] ** 2 + theirs[..., 1] ** 2)
    length[..., -1] = own
    return (c[:, :-1] + c[:, 1:] - length) / 2


def collision_risk(c: Array, times: Array, confidence: float = 0.95) -> Risk:
    """Risk from clearances `[P, T, K+1]`: any-time estimate with its two-sided Clopper-Pearson interval, and per time.

    The interval is exact for independent particles and conservative in practice for Sobol ones.
    """
    hit = c.min(axis=-1) < 0
    k, n = int(hit.any(axis=1).sum()), len(hit)
    low, high = clopper_pearson(k, n, 1 - confidence, two_sided=True)
    return Risk(k / n, low, high, hit.mean(axis=0), times)
