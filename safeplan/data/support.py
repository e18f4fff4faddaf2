"""Is this state one that the log knows? Distance to the nearest logged states, with a stated rate of false alarms.

A state is outside the support when its mean distance to k logged states exceeds what a share `alpha` of held-out states
exceeds themselves: a conformal p-value [conformal_outliers]. Whole episodes are
held out, since the states within one resemble each other.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from safeplan.data.hdf5 import Log
from safeplan.data.normalizer import Normalizer
from safeplan.errors import DataError, ShapeError

Array = np.ndarray
MOST = 50_000  # logged states that are searched; more add little and cost memory


@dataclass(frozen=True)
class Support:
    """Logged states in units of their spread, and the sorted scores `[n]` of held-out ones."""

    normalizer: Normalizer
    tree: KDTree
    scores: Array
    k: int

    @staticmethod
    def fit(log: Log, rng: np.random.Generator, *, k: int = 5, held_out: float = 0.2) -> "Support":
        """From a log of at least two episodes.

        Raises:
            DataError: fewer than two episodes, fewer than k states to compare with, `held_out` outside (0, 1).
        """
        episodes = log.episodes
        n = max(1, round(held_out * len(episodes)))
        if len(episodes) < 2 or not 0 < held_out < 1 or n >= len(episodes):
            raise DataError(
                f"support: {len(episodes)} episodes, held_out = {held_out}; some must be kept, some held out"
            )
        order = rng.permutation(len(episodes))
        kept, out = (_rows(episodes[part], rng) for part in (order[n:], order[:n]))
        if len(kept) < k:
            raise DataError(f"support: {len(kept)} states to compare with, fewer than k = {k}")
        normalizer = Normalizer.fit(log.observations[kept])
        tree = KDTree(normalizer.encode(log.observations[kept]))
        new = Support(normalizer, tree, np.zeros(0), k)
        return Support(normalizer, tree, np.sort(new.score(log.observations[out])), k)

    def score(self, obs: Array) -> Array:
        """Mean distance of observations `[B, S]` to the k nearest logged ones, `[B]`, in standard deviations."""
        obs = np.asarray(obs, np.float32)
        if obs.ndim != 2 or obs.shape[1] != len(self.normalizer.mean):
            raise ShapeError(f"support: observations are {obs.shape}, expected [B, {len(self.normalizer.mean)}]")
        distance, _ = self.tree.query(self.normalizer.encode(obs), k=self.k)
        return np.asarray(distance).reshape(len(obs), self.k).mean(-1)

    def p_value(self, obs: Array) -> Array:
        """`[B]`: for states like those of the log's episodes P(p <= alpha) <= alpha; the least for NaN."""
        finite = np.asarray(np.isfinite(np.asarray(obs, np.float64)).all(-1))
        p = np.full(len(finite), 1 / (len(self.scores) + 1))
        above = len(self.scores) - np.searchsorted(self.scores, self.score(np.asarray(obs)[finite]), side="left")
        p[finite] = (1 + above) / (len(self.scores) + 1)
        return p

    def outside(self, obs: Array, alpha: float = 0.01) -> Array:
        """`[B]` true where the state is outside the support; of states inside, a share alpha is called so too."""
        return self.p_value(obs) <= alpha


def _rows(episodes: Array, rng: np.random.Generator) -> Array:
    """Row numbers of these episodes, at most MOST of them."""
    rows = np.concatenate([np.arange(a, b) for a, b in episodes])
    return rows if len(rows) <= MOST else np.sort(rng.choice(rows, MOST, replace=False))
