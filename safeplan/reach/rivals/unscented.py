"""Sigma points: a Gaussian with the moments of a handful of well-chosen trajectories [unscented]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs
from scipy.stats import multivariate_normal, norm

from safeplan.dynamics.systems import Case
from safeplan.errors import ConfigError
from safeplan.reach.particles import draw_particles, stretches
from safeplan.reach.rivals.fitted import ends_of, points
from safeplan.reach.rivals.runs import ends, until
from safeplan.reach.sets import Region
from safeplan.types import Array, Draw

MOMENTS = 1 << 14  # particles of the start from which its mean and covariance are taken


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution of the state: `mean [n]`, `cov [n, n]`."""

    t: float
    mean: Array
    cov: Array

    def probability(self, regions: Sequence[Region]) -> Array:
        ends = [(r.axes, *ends_of(r, len(self.mean), self.t, "sigma_points")) for r in regions]
        return np.array([self._one(np.array(axes), low, high) for axes, low, high in ends])

    def _one(self, axes: Array, low: Array, high: Array) -> float:
        """Marginal on the box's own axes; a product where those are uncorrelated."""
        mean, cov, low, high = self.mean[axes], self.cov[np.ix_(axes, axes)], low[axes], high[axes]
        sd = np.sqrt(np.diag(cov))
        if (np.abs(cov - np.diag(sd**2)) <= 1e-12 * np.outer(sd, sd)).all():
            sd = np.maximum(sd, 1e-300)  # a state that is known is inside or not
            return float(np.prod(norm.cdf(high, mean, sd) - norm.cdf(low, mean, sd)))
        rng = np.random.default_rng(0)  # of quasi-Monte-Carlo from three axes on
        law: Any = multivariate_normal
        p = law.cdf(high, mean, cov, allow_singular=True, lower_limit=low, rng=rng)
        return float(np.clip(p, 0.0, 1.0))

    def log_density(self, x: Array) -> Array:
        x = points(x, len(self.mean), "sigma_points")
        law: Any = multivariate_normal
        return np.atleast_1d(law.logpdf(x, self.mean, self.cov, allow_singular=True))


def _root(z: Array) -> Array:
    """Rows `[d, k]` whose outer products add up to the covariance, of rank d, of samples `z [P, k]`.

    By a pivoted Cholesky factorisation, since a parameter that holds for good is the same column in every stretch.
    """
    sd = z.std(0)
    corr = np.atleast_2d(np.corrcoef(z.T))
    pivoted: Any = get_lapack_funcs("pstrf", (corr,))
    factor, pivot, rank, _ = pivoted(corr, tol=1e-9, lower=1)
    root = np.zeros_like(factor)
    root[pivot - 1] = np.tril(factor)
    return (sd[:, None] * root[:, :rank]).T


def sigma_points(case: Case, steps: int | None = None, kappa: float = 0.0) -> Gaussian:
    """Moves the 2 d + 1 points mean, mean +- sqrt(d + kappa) columns of the root of the covariance [unscented].

    d counts what is uncertain: start states and parameters, those of every stretch by themselves. Weights are
    kappa / (d + kappa) of the centre and 1 / (2 d + 2 kappa) of the others. Exact for linear motion. Else the mean is
    right to third order, and the shape is a Gaussian's whatever the truth is. The points lie sqrt(d + kappa) standard
    deviations out: with many uncertain numbers they look where the system hardly is, and the spread comes out too large
    (by 40 % for the hovercraft with its gusts, d = 27, after 0.75 s).

    Args:
        kappa: at least 0, so that the covariance cannot become negative.

    Raises:
        ConfigError: kappa below 0, or steps beyond the case's horizon.
    """
    if not kappa >= 0:
        raise ConfigError(f"sigma_points: kappa = {kappa}, expected at least 0")
    case = until(case, steps)
    count = stretches(case.horizon_s, case.start.stretch_s)
    start = draw_particles(case.start, MOMENTS, count, seed=0)
    z = np.hstack([start.x, start.theta.reshape(MOMENTS, -1)])
    free = np.ptp(z, axis=0) > 0
    root = _root(z[:, free])
    d = len(root)
    nodes = np.tile(z.mean(0), (2 * d + 1, 1))
    nodes[1 : d + 1, free] += np.sqrt(d + kappa) * root
    nodes[d + 1 :, free] -= np.sqrt(d + kappa) * root
    weights = np.full(2 * d + 1, 0.5 / (d + kappa))
    weights[0] = kappa / (d + kappa)
    n = case.loop.n
    x = ends(case, Draw(nodes[:, :n], nodes[:, n:].reshape(len(nodes), count, case.loop.p)))
    mean = weights @ x
    return Gaussian(case.horizon_s, mean, ((x - mean).T * weights) @ (x - mean))
