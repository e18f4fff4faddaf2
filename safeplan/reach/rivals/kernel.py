"""Kernel density estimate with the Epanechnikov kernel, max(0, 1 - |d|^2 / h^2) in the Euclidean norm."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import beta, norm, qmc

from safeplan.errors import CapabilityError, ConfigError
from safeplan.reach.rivals.fitted import points, shares
from safeplan.reach.rivals.runs import Runs
from safeplan.reach.sets import Region
from safeplan.types import Array


def sklearn_of(who: str, module: str) -> Any:
    """A module of scikit-learn.

    Raises:
        CapabilityError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(f"sklearn.{module}")
    except ImportError as e:
        raise CapabilityError(f"{who} needs scikit-learn: pip install 'safeplan[density]'") from e


@dataclass(frozen=True)
class Kde:
    """Every state smeared over a ball of radius `bandwidth`; units of the axes are mixed as they are.

    Args:
        model: scikit-learn's `KernelDensity`, for densities.
        x: states `[N, n]`; shots: points drawn from the kernel per state, for probabilities.
    """

    t: float
    model: Any
    x: Array
    bandwidth: float
    shots: int
    seed: int

    @cached_property
    def _cloud(self) -> Array:
        """`[N * shots, n]`, `shots` rounded up to a power of two in all: |d|^2 / h^2 is Beta(n / 2, 2) distributed."""
        n, many = self.x.shape[1], len(self.x) * self.shots
        sobol = qmc.Sobol(n + 1, rng=np.random.default_rng(self.seed))
        u = np.clip(sobol.random_base2(int(np.ceil(np.log2(many))))[:many], 1e-12, 1 - 1e-12)
        way = norm.ppf(u[:, 1:])
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        offsets = self.bandwidth * np.sqrt(beta.ppf(u[:, :1], n / 2, 2)) * way
        return np.tile(self.x, (self.shots, 1)) + offsets

    def probability(self, regions: Sequence[Region]) -> Array:
        return shares(self._cloud, regions, self.t)

    def log_density(self, x: Array) -> Array:
        return self.model.score_samples(points(x, self.x.shape[1], "kde"))


def kde(runs: Runs, bandwidth: float = 0.1, shots: int = 16, seed: int = 0) -> Kde:
    """Epanechnikov kernels of radius 0.1, the setting of the published comparison [density_corl].

    Densities are exact. Probabilities count `shots` quasi-random points per state, drawn from its kernel: that fits
    every kind of region and adds far less error than the states themselves have.

    Raises:
        ConfigError: bandwidth or shots out of range. CapabilityError: scikit-learn is missing.
    """
    if not bandwidth > 0 or shots < 1:
        raise ConfigError(f"kde: bandwidth = {bandwidth}, shots = {shots}; need a bandwidth above 0 and 1 shot or more")
    model = sklearn_of("kde", "neighbors").KernelDensity(kernel="epanechnikov", bandwidth=bandwidth).fit(runs.x)
    return Kde(runs.t, model, runs.x, bandwidth, shots, seed)
