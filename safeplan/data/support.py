"""Is this state one that the log knows? Distance to the nearest logged states, with a stated rate of false alarms.

A state is outside the support when its mean distance to k logged states exceeds what a share `alpha` of held-out states
exceeds themselves: a conformal p-value [conformal_outliers]. States of one episode resemble each other, so they are
held out together, and an episode counts once, however many of its states are compared [hierarchical_conformal].
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from safeplan.data.hdf5 import Log
from safeplan.data.normalizer import Normalizer
from safeplan.errors import DataError, ShapeError

Array = np.ndarray
MOST = 50_000  # logged states that are searched; more add little and cost memory
SCORED = 20_000  # held-out states that are compared, but one of each episode
FOLDS = 5


def folds(log: Log, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """Numbers of the episodes kept and of those held out, FOLDS times, so that each is held out once.

    Raises:
        DataError: fewer than two episodes.
    """
    count = len(log.episodes)
    if count < 2:
        raise DataError(f"support: {count} episodes in the log, expected at least 2: some are kept, some held out")
    order = rng.permutation(count)
    for out in np.array_split(order, min(FOLDS, count)):
        yield np.setdiff1d(order, out), out


def rows(episodes: Array, rng: np.random.Generator) -> Array:
    """Row numbers of these episodes `[E, 2]`, at most MOST of them."""
    found = np.concatenate([np.arange(a, b) for a, b in episodes])
    return found if len(found) <= MOST else np.sort(rng.choice(found, MOST, replace=False))


@dataclass(frozen=True)
class Ranks:
    """Scores of held-out states, ascending, and what their episodes weigh from each on: `above [n + 1]`."""

    scores: Array
    above: Array
    episodes: int

    @staticmethod
    def of(scores: Array, episodes: Array) -> "Ranks":
        """Of scores `[n]` and the numbers `[n]` of the episodes that they are from, each of weight 1."""
        _, which, counts = np.unique(episodes, return_inverse=True, return_counts=True)
        order = np.argsort(scores, kind="stable")
        weights = 1.0 / counts[which][order]
        return Ranks(scores[order], np.append(np.cumsum(weights[::-1])[::-1], 0.0), len(counts))

    @property
    def least(self) -> float:
        """The least p-value that so many episodes can give."""
        return 1.0 / (self.episodes + 1)

    def p_value(self, scores: Array) -> Array:
        """`[B]`: P(p <= alpha) <= alpha for a state of another episode of the same law."""
        return (1.0 + self.above[np.searchsorted(self.scores, scores, side="left")]) / (self.episodes + 1)


@dataclass(frozen=True)
class Support:
    """Logged states in units of their spread, and the ranks of held-out ones."""

    normalizer: Normalizer
    tree: KDTree
    ranks: Ranks
    k: int

    @staticmethod
    def fit(log: Log, rng: np.random.Generator, *, k: int = 5) -> "Support":
        """From a log of at least two episodes. Held-out states are compared with fewer than new ones: the safe side.

        Raises:
            DataError: fewer than two episodes, fewer than k states to compare with.
        """
        normalizer, episodes = Normalizer.fit(log.observations), log.episodes
        each = max(1, SCORED // len(episodes))
        scores, owners = [], []
        for kept, out in folds(log, rng):
            tree = _tree(log, normalizer, rows(episodes[kept], rng), k)
            for e in out:
                mine = np.arange(*episodes[e])
                mine = mine if len(mine) <= each else rng.choice(mine, each, replace=False)
                scores.append(_distance(tree, normalizer.encode(log.observations[mine]), k))
                owners.append(np.full(len(mine), e))
        ranks = Ranks.of(np.concatenate(scores), np.concatenate(owners))
        return Support(normalizer, _tree(log, normalizer, rows(episodes, rng), k), ranks, k)

    def score(self, obs: Array) -> Array:
        """Mean distance of observations `[B, S]` to the k nearest logged ones, `[B]`, in standard deviations."""
        obs = np.asarray(obs, np.float32)
        if obs.ndim != 2 or obs.shape[1] != len(self.normalizer.mean):
            raise ShapeError(f"support: observations are {obs.shape}, expected [B, {len(self.normalizer.mean)}]")
        return _distance(self.tree, self.normalizer.encode(obs), self.k)

    def p_value(self, obs: Array) -> Array:
        """`[B]`: for a state of another episode like the log's P(p <= alpha) <= alpha; 0 for NaN and the infinite."""
        finite = np.asarray(np.isfinite(np.asarray(obs, np.float64)).all(-1))
        p = np.zeros(len(finite))
        p[finite] = self.ranks.p_value(self.score(np.asarray(obs)[finite]))
        return p

    def outside(self, obs: Array, alpha: float = 0.01) -> Array:
        """`[B]` true where the state is outside the support; of states inside, a share alpha is called so too.

        Raises:
            DataError: so few episodes that no state could be called so.
        """
        if not self.ranks.least <= alpha < 1:
            raise DataError(
                f"support: of {self.ranks.episodes} episodes, no state is told apart at alpha = {alpha:g}; "
                f"give {self.ranks.least:.2g} or more, below 1, or more episodes"
            )
        return self.p_value(obs) <= alpha


def _tree(log: Log, normalizer: Normalizer, chosen: Array, k: int) -> KDTree:
    if len(chosen) < k:
        raise DataError(f"support: {len(chosen)} states to compare with, fewer than k = {k}")
    return KDTree(normalizer.encode(log.observations[chosen]))


def _distance(tree: KDTree, x: Array, k: int) -> Array:
    distance, _ = tree.query(x, k=k)
    return np.asarray(distance).reshape(len(x), k).mean(-1)
