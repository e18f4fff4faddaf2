"""Reachable set on a grid by the level-set method: what reachability tools compute instead of a density [hj_reach].

The set starts as the box that holds all starts, and moves along the equations. Uncertain constant parameters are
further axes of the grid, along which nothing moves, and the set of states is the union over them. As bounded
disturbances they could change at any moment, as no constant can: the set would be too large, and the parameters would
have to enter linearly, which a gain e^k does not.

A set holds no density. As for `hull`, a probability is the share of the set's volume, right only where the density is
uniform. Nothing is guaranteed either: the set is right to about a cell. Corners are rounded, thin parts swell, and what
is thinner than a cell may vanish, of which `missed` tells. Angles count full turns, they are not wrapped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import map_coordinates, minimum_filter
from scipy.stats import qmc

from safeplan.dynamics.systems import Case
from safeplan.errors import CapabilityError, ConfigError
from safeplan.reach.rivals.fitted import points, shares
from safeplan.reach.rivals.frames import around, follow, values_of
from safeplan.reach.rivals.level_set import evolve
from safeplan.reach.rivals.runs import corners, simulate, until
from safeplan.reach.sets import Box, Region
from safeplan.types import Array

AXES = 3  # at most
NODES = {1: 1025, 2: 97, 3: 41}  # along each of so many axes, if not said otherwise
MOST = 1 << 22  # nodes in all
FAR = 4.0  # cells: V is no higher, so that thin parts, where it is smeared, swell before they vanish
LOOKS = 64  # times at which the set is looked at on the way
PROBES = 1 << 12  # trajectories that the set is held against
FEWEST = 200  # quasi-random points that must fall into the set
WHO = "grid reachability"


@dataclass(frozen=True)
class GridSet:
    """States that can be reached at `t`, those of level 0 at most, and the uniform density on them.

    Args:
        frames: `[N, n, 1 + n]` of the grid, one for each value of the parameters; see `frames`.
        levels: `[N, N1, ..., Nn]` at its nodes: how far outside the box of all starts a trajectory to there begins, in
            cells of the grid at the start, at most `FAR`; negative inside.
        volume: of the set, in units of every state; inside: quasi-random points `[M, n]` of it.
        missed: share of 4,096 simulated trajectories that end more than a cell outside the set: what was too thin for
            the grid, where V is smeared out and the set vanishes.
    """

    t: float
    frames: Array
    levels: Array
    volume: float
    inside: Array
    missed: float

    def level(self, x: Array) -> Array:
        """Levels `[P]` at states `x [P, n]`, the least over the parameters; linear between nodes, infinite beyond."""
        x = points(x, self.frames.shape[1], "grid")
        least = np.full(len(x), np.inf)
        for frame, levels in zip(self.frames, self.levels, strict=True):
            share = np.linalg.solve(frame[:, 1:], (x - frame[:, 0]).T)
            at = share * (np.array(levels.shape) - 1)[:, None]
            least = np.minimum(least, map_coordinates(levels, at, order=1, cval=np.inf))
        return least

    def probability(self, regions: Sequence[Region]) -> Array:
        """Share of the set's volume, by quasi-Monte-Carlo."""
        return shares(self.inside, regions, self.t)

    def log_density(self, x: Array) -> Array:
        return np.where(self.level(x) <= 0, -np.log(self.volume), -np.inf)


def grid_reach(
    case: Case, steps: int | None = None, nodes: int | None = None, margin: float = 0.2, seed: int = 0
) -> GridSet:
    """Carry the box of all starts along for `steps` steps; None: to the horizon.

    Args:
        nodes: along each axis; None: 97 where there are two axes, 41 where there are three (one: 1,025).
        margin: room on every side of the trajectories that place the grid, as a share of their extent.

    Raises:
        ConfigError: nodes or margin out of range, steps beyond the horizon.
        CapabilityError: more than three axes; a belief without ends, or parameters that are drawn anew on the way; a
            start or a set without volume; a set that leaves its grid; hj_reachability is not installed.
    """
    case = until(case, steps)
    box = corners(case, WHO)
    known = [q.name for q, w in zip(case.loop.states, np.ptp(box.x, axis=0), strict=True) if w == 0]
    if known:
        raise CapabilityError(f"{WHO}: {case.name} starts at one value of {', '.join(known)}, which spans no volume")
    low, high = box.theta[:, 0]
    size = _nodes(case, int((high > low).sum()), nodes, margin)
    theta = values_of(low, high, size)
    times, frames = follow(case, box.x, theta, margin, seed)
    start = levels = _start(box.x, frames[0], size)
    if case.steps:
        looks = np.linspace(0.0, times[-1], LOOKS + 1)
        for t, levels in zip(looks[1:], evolve(case, times, frames, theta, start, looks), strict=True):
            if not _rim(levels) > 0:
                raise CapabilityError(f"{WHO}: the set of {case.name} leaves its grid at t = {t:g} s; give more margin")
    return _seen(case, frames[-1], levels, margin, seed)


def _nodes(case: Case, parameters: int, nodes: int | None, margin: float) -> int:
    """Nodes along each axis."""
    d = case.loop.n + parameters
    size = NODES[min(d, AXES)] if nodes is None else nodes
    if d > AXES:
        raise CapabilityError(
            f"{WHO}: {case.name} has {d} axes ({case.loop.n} states, {parameters} uncertain parameters), which is "
            f"{size}^{d} = {float(size) ** d:.2g} cells; at most {AXES} axes. Use `hull` or `interval_reach`"
        )
    if size < 9 or size**d > MOST or not 0 < margin < np.inf:
        raise ConfigError(
            f"{WHO}: nodes = {size}, margin = {margin}; give 9 nodes or more along each axis, at most {MOST} in all, "
            "and a margin above 0"
        )
    return size


def _start(box: Array, frames: Array, size: int) -> Array:
    """Levels `[N, N1, ..., Nn]` at the start: distances to `box [2, n]`, those far away cut off."""
    n = box.shape[1]
    share = np.stack(np.meshgrid(*[np.linspace(0.0, 1.0, size)] * n, indexing="ij"))
    cell = np.diag(frames[0, :, 1:]) / (size - 1)
    x = np.tensordot(frames[0, :, 1:], share, 1) + frames[0, :, 0].reshape(n, *[1] * n)
    levels = Box(box[0] / cell, box[1] / cell).level(x / cell.reshape(n, *[1] * n))
    return np.tile(np.minimum(levels, min(FAR, _rim(levels[None]))), (len(frames), *[1] * n))


def _rim(levels: Array) -> float:
    """The least level on the rim of the grid."""
    return min(np.take(levels, [0, -1], axis=i).min() for i in range(1, levels.ndim))


def _seen(case: Case, frames: Array, levels: Array, margin: float, seed: int) -> GridSet:
    """The set, measured by points of a box around it."""
    x = simulate(case, PROBES, seed=seed).x
    place = around(x, margin)  # one box for all parameters
    cloud = place[:, 0] + qmc.Sobol(x.shape[1], rng=np.random.default_rng(seed)).random_base2(15) @ place[:, 1:].T
    found = GridSet(case.horizon_s, frames, levels, 0.0, cloud, 0.0)
    inside = cloud[found.level(cloud) <= 0]
    if len(inside) < FEWEST:
        raise CapabilityError(
            f"{WHO}: {len(inside)} of {len(cloud)} points fall inside, fewer than {FEWEST}: the set is thinner than "
            "the cells; more nodes, or an earlier time"
        )
    volume = float(np.prod(np.diag(place[:, 1:]))) * len(inside) / len(cloud)
    near = replace(found, levels=minimum_filter(levels, (1, *[3] * x.shape[1])))
    return replace(found, volume=volume, inside=inside, missed=float(np.mean(near.level(x) > 0)))
