"""Probability that a moving vehicle touches a set that moves: per checked time and over the horizon."""

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.distance import box_and_normal, clearance, footprint_centers, inside_box
from safeplan.dynamics.system import System
from safeplan.reach.certificates.binomial import clopper_pearson
from safeplan.reach.particles import Flow
from safeplan.types import CUT, Array, Risk, Scene


def pair_clearance(system: System, flow: Flow, centers: Array, scene: Scene) -> Array:
    """Clearance `[P, T, K+1]` of particle i among the obstacle future i, centres `[P, T, K, 2]`; last entry: bounds."""
    return clearance(system, flow.states.transpose(1, 2, 0), centers, scene)


def between(system: System, flow: Flow, centers: Array, scene: Scene) -> Array:
    """Lower bound `[P, T-1, K+1]` of the clearance between checked times; infinite for obstacles far away.

    A signed distance to a convex set is convex along straight relative motion, so the tangents at both ends of an
    interval bound it from below. What the true path may depart from its chord, accel_bound dt^2 / 8, is taken off.
    """
    h = flow.times[1] - flow.times[0]
    out = np.full((flow.states.shape[2], len(flow.times) - 1, len(scene.obstacles) + 1), np.inf)
    near = _near(system, flow, centers, scene)
    shape = [scene.column(k)[near] for k in ("yaw", "hx", "hy", "r")]
    centers = centers[:, :, near]
    for px, py, r in footprint_centers(system, flow.states.transpose(1, 2, 0), NUMPY):
        sd, nx, ny = box_and_normal(px[..., None], py[..., None], centers[..., 0], centers[..., 1], *shape)
        mx = np.diff(px, axis=1)[..., None] - np.diff(centers[..., 0], axis=1)
        my = np.diff(py, axis=1)[..., None] - np.diff(centers[..., 1], axis=1)
        a, b = sd[:, :-1], sd[:, 1:]
        sa = nx[:, :-1] * mx + ny[:, :-1] * my  # slopes of the tangents over the interval
        sb = nx[:, 1:] * mx + ny[:, 1:] * my
        dip = (sa < 0) & (sb > 0)
        cross = (b - sb - a) / np.where(dip, sa - sb, 1.0)
        low = np.where(dip, a + sa * np.clip(cross, 0.0, 1.0), np.where(sa >= 0, a, b))
        low = np.minimum(low, np.minimum(a, b)) - r
        wall = inside_box(px, py, scene.bounds, NUMPY) - r  # concave along a line: least at an end
        out[..., near] = np.minimum(out[..., near], low)
        out[..., -1] = np.minimum(out[..., -1], np.minimum(wall[:, :-1], wall[:, 1:]))
    kink = _kink(scene, h)
    out[..., :-1] -= kink
    return out - system.accel_bound * h**2 / 8


def _kink(scene: Scene, h: float) -> Array:
    """What an obstacle may depart from its chord when its velocity changes between two checked times, `[K]` m."""
    aligned = abs(scene.stretch_s / h - round(scene.stretch_s / h)) < 1e-6
    return np.zeros(len(scene.obstacles)) if aligned else np.sqrt(2) * 2 * CUT * scene.column("sigma_v") * h / 4


def _near(system: System, flow: Flow, centers: Array, scene: Scene) -> Array:
    """Indices of the obstacles that any particle may come near; the others stay more than a footprint's reach away."""
    if not len(scene.obstacles):
        return np.zeros(0, dtype=int)
    x = flow.states
    px, py = x[:, system.position[0]], x[:, system.position[1]]
    step = np.hypot(np.diff(px, axis=0), np.diff(py, axis=0)).max(initial=0.0) + system.accel_bound * flow.times[1] ** 2
    theirs = np.abs(np.diff(centers, axis=1)).max(axis=(0, 1, 3), initial=0.0) * 2
    reach = max(np.hypot(dx, dy) + r for dx, dy, r in system.footprint)
    hull = np.hypot(scene.column("hx"), scene.column("hy")) + scene.column("r")
    gaps = []
    for p, c in ((px, centers[..., 0]), (py, centers[..., 1])):  # of the intervals that hold all particles, per time
        low, high = p.min(axis=1)[:, None], p.max(axis=1)[:, None]
        gaps.append(np.maximum(np.maximum(c.min(axis=0) - high, low - c.max(axis=0)), 0.0))
    nearest = np.hypot(*gaps).min(axis=0)
    return np.flatnonzero(~(nearest - hull - 2 * reach - step - theirs > 0))  # NaN stays


def collision_risk(c: Array, times: Array, confidence: float = 0.95) -> Risk:
    """Risk from clearances `[P, T, K+1]`: any-time estimate with its two-sided Clopper-Pearson interval, and per time.

    The interval is exact for independent particles and conservative in practice for Sobol ones.
    """
    hit = ~(c.min(axis=-1) >= 0)  # NaN counts as a collision
    k, n = int(hit.any(axis=1).sum()), len(hit)
    low, high = clopper_pearson(k, n, 1 - confidence, two_sided=True)
    return Risk(k / n, low, high, hit.mean(axis=0), times)
