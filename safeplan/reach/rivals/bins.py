"""Histogram of the states, on equal bins between the extremes of every axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safeplan.errors import ConfigError
from safeplan.reach.rivals.fitted import ends_of, points
from safeplan.reach.rivals.runs import Runs
from safeplan.reach.sets import Region
from safeplan.types import Array

MOST_CELLS = 2**62  # cells are numbered by 64-bit integers


@dataclass(frozen=True)
class Histogram:
    """Density that is constant on cells. Only the occupied ones are kept, so that many axes fit into memory.

    Args:
        edges: per axis `[bins + 1]`.
        cells: numbers `[M]` of the occupied cells, ascending; index: their bins `[M, n]`; mass: `[M]`, adds up to 1.
        extend: states beyond the outer edges get the density of the nearest bin.
    """

    t: float
    edges: tuple[Array, ...]
    cells: Array
    index: Array
    mass: Array
    extend: bool

    def probability(self, regions: Sequence[Region]) -> Array:
        return np.array([self._one(*ends_of(r, len(self.edges), self.t, "histogram")) for r in regions])

    def _one(self, low: Array, high: Array) -> float:
        part = self.mass
        for edge, index, lo, hi in zip(self.edges, self.index.T, low, high, strict=True):
            inside = np.clip(np.minimum(edge[1:], hi) - np.maximum(edge[:-1], lo), 0.0, None) / np.diff(edge)
            part = part * inside[index]
        return float(min(part.sum(), 1.0))

    def log_density(self, x: Array) -> Array:
        x = points(x, len(self.edges), "histogram")
        index, beyond = _bins(x, self.edges)
        cells = _number(index, self.edges)
        at = np.minimum(np.searchsorted(self.cells, cells), len(self.cells) - 1)
        seen = self.cells[at] == cells
        seen &= self.extend | ~beyond
        volume = np.prod([np.diff(e)[i] for e, i in zip(self.edges, index.T, strict=True)], axis=0)
        with np.errstate(divide="ignore"):
            return np.log(np.where(seen, self.mass[at], 0.0) / volume)


def _bins(x: Array, edges: tuple[Array, ...]) -> tuple[Array, Array]:
    """Bins `[P, n]`, the outer ones beyond the edges, and which points `[P]` lie beyond."""
    index = np.stack([np.searchsorted(e, c, side="right") - 1 for e, c in zip(edges, x.T, strict=True)], axis=1)
    last = np.array([len(e) - 2 for e in edges])
    beyond = (x < [e[0] for e in edges]) | (x > [e[-1] for e in edges])
    return np.clip(index, 0, last), np.any(beyond, axis=1)


def _number(index: Array, edges: tuple[Array, ...]) -> Array:
    return np.asarray(np.ravel_multi_index(tuple(index.T), tuple(len(e) - 1 for e in edges)))


def histogram(runs: Runs, bins: int = 25, extend: bool = False) -> Histogram:
    """Equal bins per axis between the smallest and the largest value seen [density_corl].

    The published comparison takes 25 (quadrotor 16) and lets the outer bins go on for ever: `extend`.

    Raises:
        ConfigError: bins below 1, or more cells than can be numbered.
    """
    n = runs.x.shape[1]
    if bins < 1 or bins**n > MOST_CELLS:
        raise ConfigError(f"histogram: bins = {bins} along {n} axes; give at least 1 and at most 2^62 cells in all")
    edges = tuple(np.histogram_bin_edges(c, bins) for c in runs.x.T)
    index, _ = _bins(runs.x, edges)
    cells, first, hits = np.unique(_number(index, edges), return_index=True, return_counts=True)
    return Histogram(runs.t, edges, cells, index[first], hits / len(runs.x), extend)
