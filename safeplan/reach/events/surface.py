"""Quadrature on the surface of balls and boxes."""

from functools import reduce
from typing import NamedTuple

import numpy as np

from safeplan.errors import CapabilityError, ConfigError
from safeplan.reach.sets import Ball, Box, Region
from safeplan.types import Array


class Surface(NamedTuple):
    """Nodes `[M, d]`, inward unit normals `[M, d]` and weights `[M]` that add up to the area."""

    points: Array
    normals: Array
    weights: Array


def in_order(region: Ball | Box, values: Array) -> Array:
    """Values `[..., d]` along the region's axes, in the order of the states."""
    out = np.empty_like(values)
    out[..., list(region.axes)] = values
    return out


def surface(region: Region, n: int, nodes: int) -> Surface:
    """Quadrature on the boundary of a ball (up to three dimensions) or a box of n states, at time 0.

    Raises:
        CapabilityError: any other region, or one that leaves out a state, has angles or is infinite.
        ConfigError: fewer than one node.
    """
    ball = isinstance(region, Ball) and n <= 3 and np.isfinite(region.radius)
    box = isinstance(region, Box) and np.isfinite((region.low, region.high)).all()
    if not isinstance(region, Ball | Box) or not (ball or box) or sorted(region.axes) != [*range(n)] or region.angles:
        raise CapabilityError(
            f"surface: {type(region).__name__} over axes {region.axes} of {n} states; flux needs a finite Ball (up to "
            "3 states) or Box over each state once, none of them an angle: use expected_entries"
        )
    if nodes < 1:
        raise ConfigError(f"surface: nodes = {nodes}; give at least 1")
    rim = _sphere(region, nodes) if isinstance(region, Ball) else _faces(region, nodes)
    return rim._replace(points=in_order(region, rim.points), normals=in_order(region, rim.normals))


def _gauss(nodes: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return (x + 1) / 2, w / 2


def _faces(region: Box, nodes: int) -> Surface:
    low, high, d = region.low, region.high, len(region.low)
    x, w = _gauss(nodes)
    grid = np.stack(np.meshgrid(*[x] * (d - 1), indexing="ij"), -1).reshape(-1, d - 1) if d > 1 else np.zeros((1, 0))
    weights = reduce(np.multiply.outer, [w] * (d - 1), np.ones(())).ravel()
    points, normals, areas = [], [], []
    for a in range(d):
        rest = np.delete(np.arange(d), a)
        side = np.empty((len(grid), d))
        side[:, rest] = low[rest] + (high - low)[rest] * grid
        for end, inward in ((low[a], 1.0), (high[a], -1.0)):
            side[:, a] = end
            points.append(side.copy())
            normals.append(np.tile(inward * np.eye(d)[a], (len(grid), 1)))
            areas.append(weights * (high - low)[rest].prod())
    return Surface(np.concatenate(points), np.concatenate(normals), np.concatenate(areas))


def _sphere(region: Ball, nodes: int) -> Surface:
    d, r = len(region.center), region.radius
    angle = 2 * np.pi * (np.arange(nodes) + 0.5) / nodes
    if d == 1:
        out, area = np.array([[-1.0], [1.0]]), np.ones(2)
    elif d == 2:
        out, area = np.stack([np.cos(angle), np.sin(angle)], 1), np.full(nodes, 2 * np.pi * r / nodes)
    else:
        z, w = _gauss(nodes)
        up = np.repeat(2 * z - 1, nodes)
        flat, turn = np.sqrt(1 - up**2), np.tile(angle, nodes)
        out = np.stack([flat * np.cos(turn), flat * np.sin(turn), up], 1)
        area = np.repeat(w, nodes) * 4 * np.pi * r**2 / nodes
    return Surface(region.center + r * out, -out, area)
