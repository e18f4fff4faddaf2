"""Multilevel splitting on standard normals [subset_simulation]: how rare is a score of at most 0?

The probability is a product of shares, each of particles that get down to one level among those at the one before. A
pilot picks the levels and the sizes of the moves; the runs that count take them as given, which makes their mean exact,
whatever the pilot found [smc_rare]. Moves are preconditioned Crank-Nicolson steps, which keep the normals'
distribution in any dimension [pcn].
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from safeplan.errors import ConfigError
from safeplan.types import Array

MOST_LEVELS = 100
ACCEPT = 0.4  # share of moves that the pilot aims at

Score = Callable[[Array], Array]  # standard normals [P, D] -> scores [P], no NaN


@dataclass(frozen=True)
class Ladder:
    """Falling levels, the last one 0, and the size of the moves at all but the last, in (0, 1]."""

    levels: tuple[float, ...]
    sizes: tuple[float, ...]

    def __post_init__(self) -> None:
        falls = len(self.levels) > 0 and self.levels[-1] == 0 and all(np.diff(self.levels) < 0)
        if not falls or len(self.sizes) != len(self.levels) - 1 or not all(0 < s <= 1 for s in self.sizes):
            raise ConfigError(
                f"Ladder: levels {self.levels}, sizes {self.sizes}; give falling levels down to 0, and for all but the "
                "last a size in (0, 1]"
            )


def pilot(score: Score, dim: int, n: int, moves: int, share: float, rng: np.random.Generator) -> tuple[Ladder, Array]:
    """Levels at which `share` of the particles of the level above arrive, and sizes of moves of which 2 in 5 succeed.

    A score that cannot be lowered ends the ladder early. With the ladder come the particles `[K, dim]` that got to 0,
    or, where none did, to the last level before it.
    """
    z = rng.standard_normal((n, dim))
    s = score(z)
    found: list[float] = []
    sizes: list[float] = []
    size = 0.5
    while len(found) < MOST_LEVELS:
        level = float(np.sort(s)[max(int(share * n) - 1, 0)])
        if level <= 0 or (found and level >= found[-1]) or not np.isfinite(level):
            break
        alive = np.flatnonzero(s <= level)
        pick = alive[rng.integers(len(alive), size=n)]
        z, s = z[pick], s[pick]
        for _ in range(moves):
            z, s, accepted = _move(score, z, s, level, size, rng)
            size = min(size * np.exp(2 * (accepted - ACCEPT)), 1.0)
        found.append(level)
        sizes.append(float(size))
    hit = s <= 0
    return Ladder((*found, 0.0), tuple(sizes)), z[hit] if hit.any() else z


def run(score: Score, dim: int, n: int, moves: int, ladder: Ladder, rng: np.random.Generator) -> Array:
    """Share of particles that arrive at each level, `[L]`; 0 from the first that none reaches."""
    z = rng.standard_normal((n, dim))
    s, shares = score(z), np.zeros(len(ladder.levels))
    for i, level in enumerate(ladder.levels):
        alive = np.flatnonzero(s <= level)
        shares[i] = len(alive) / n
        if not len(alive) or i == len(ladder.sizes):
            break
        pick = alive[rng.integers(len(alive), size=n)]
        z, s = z[pick], s[pick]
        for _ in range(moves):
            z, s, _ = _move(score, z, s, level, ladder.sizes[i], rng)
    return shares


def _move(
    score: Score, z: Array, s: Array, level: float, size: float, rng: np.random.Generator
) -> tuple[Array, Array, float]:
    """One pCN step of each particle, taken where its score stays at or below the level."""
    new = np.sqrt(1 - size**2) * z + size * rng.standard_normal(z.shape)
    at = score(new)
    ok = at <= level
    return np.where(ok[:, None], new, z), np.where(ok, at, s), float(ok.mean())
