"""The published score of a density: a self-normalised KL divergence over a set of points [density_corl].

Both densities are divided by their sums over the points, so constant factors cancel, and an estimate is only asked
which of the points is denser. It is no divergence of densities: a perfect model that is carried to the points by
nearest neighbours does not score 0.
"""

import numpy as np
from scipy.spatial import KDTree
from scipy.special import logsumexp, rel_entr

from safeplan.errors import ShapeError
from safeplan.types import Array


def self_normalised_kl(log_p: Array, log_q: Array) -> float:
    """sum P log(P / Q), nats: P and Q are the estimate `log_p [N]` and the truth `log_q [N]`, each made to add up to 1.

    Infinite when the truth has no mass where the estimate has.

    Raises:
        ShapeError: vectors of different lengths, NaN, or no mass at all.
    """
    log_p, log_q = np.asarray(log_p, float), np.asarray(log_q, float)
    if log_p.shape != log_q.shape or log_p.ndim != 1:
        raise ShapeError(f"self_normalised_kl: log_p is {log_p.shape}, log_q {log_q.shape}; expected the same [N]")
    for name, v in (("log_p", log_p), ("log_q", log_q)):
        if not v.size or np.isnan(v).any() or not -np.inf < v.max() < np.inf:
            raise ShapeError(f"self_normalised_kl: {name} has NaN, +inf or no mass at any point")
    return float(rel_entr(*(np.exp(v - logsumexp(v)) for v in (log_p, log_q))).sum())


def carry_over(support: Array, values: Array, x: Array) -> Array:
    """`values [S]` at `support [S, n]`, taken to `x [P, n]` from the nearest of them."""
    return np.asarray(values)[KDTree(support).query(x)[1]]
