"""Kernel density estimate with the Epanechnikov kernel, max(0, 1 - |d|^2 / h^2) in a scaled Euclidean norm."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import gamma
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
    """Every state smeared over a ball of radius `bandwidth` after division by `scale`.

    Args:
        model: scikit-learn's `KernelDensity`, for densities of divided states.
        x: states `[N, n]`; scale: `[n]`; shots: points drawn from the kernel per state, for probabilities.
    """

    t: float
    model: Any
    x: Array
    scale: Array
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
        offsets = self.bandwidth * self.scale * np.sqrt(beta.ppf(u[:, :1], n / 2, 2)) * way
        return np.tile(self.x, (self.shots, 1)) + offsets

    def probability(self, regions: Sequence[Region]) -> Array:
        return shares(self._cloud, regions, self.t)

    def log_density(self, x: Array) -> Array:
        z = points(x, self.x.shape[1], "kde") / self.scale
        return self.model.score_samples(z) - np.log(self.scale).sum()


def normal_reference(N: int, n: int) -> float:
    """Bandwidth that is best for N draws of a standard normal in n dimensions [silverman, table 4.1]."""
    ball = np.pi ** (n / 2) / gamma(n / 2 + 1)
    return float((8 / ball * (n + 4) * (2 * np.sqrt(np.pi)) ** n / N) ** (1 / (n + 4)))


def kde(runs: Runs, bandwidth: float | None = 0.1, shots: int = 16, seed: int = 0) -> Kde:
    """Epanechnikov kernels of radius 0.1 in the units of the states, the published comparison's [density_corl].

    Densities are exact. Probabilities count `shots` quasi-random points per state, drawn from its kernel: that fits
    every kind of region and adds far less error than the states themselves have.

    Args:
        bandwidth: radius; None: every state is divided by its standard deviation, radius by `normal_reference`.

    Raises:
        ConfigError: bandwidth or shots out of range. CapabilityError: scikit-learn is missing.
    """
    if (bandwidth is not None and not bandwidth > 0) or shots < 1:
        raise ConfigError(f"kde: bandwidth = {bandwidth}, shots = {shots}; need a bandwidth above 0 and 1 shot or more")
    N, n = runs.x.shape
    h, scale = bandwidth, np.ones(n)
    if h is None:
        h, scale = normal_reference(N, n), np.maximum(runs.x.std(0), 1e-12)
    model = sklearn_of("kde", "neighbors").KernelDensity(kernel="epanechnikov", bandwidth=h).fit(runs.x / scale)
    return Kde(runs.t, model, runs.x, scale, h, shots, seed)
