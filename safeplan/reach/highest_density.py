"""Highest-density regions {x: rho_t(x) >= c} of reachable states: of all sets with their mass, the smallest [hdr].

Particles of the flow carry their log-density along, so c is a quantile of it and the volume E[1{rho >= c} / rho].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safeplan.dynamics.equations import Equations
from safeplan.dynamics.systems import Case
from safeplan.errors import ConfigError
from safeplan.reach.backward import carry, check_density, gained, log_density, start_log_prob, step_at, thetas
from safeplan.reach.events.replicates import scrambles, student_interval
from safeplan.reach.motion import Motion, motion
from safeplan.types import Array, Belief, Draw, Reference


@dataclass(frozen=True)
class HighestDensity:
    """The smallest set of mass `alpha` at `time`: where the log-density is at least `log_threshold`.

    `volume`, with an interval `[low, high]` over replicates, in the product of the states' units. Where the density is
    constant over a share of the mass (a uniform start, no divergence) the set is not unique: the volume is the right
    one, `contains` then holds for the whole level.
    """

    motion: Motion
    alpha: float
    log_threshold: float
    volume: float
    low: float
    high: float
    time: float
    lost: float  # share of particles that broke, which count as of density zero
    n: int
    parameters: int
    seed: int

    def contains(self, points: Array) -> Array:
        """`[Q]` for `points [Q, n]`, by characteristics traced back; angles as the flow has them, not wrapped."""
        m = self.motion
        logs = log_density(
            m.loop, m.belief, points, m.reference, time=self.time, parameters=self.parameters, seed=self.seed
        )
        return logs >= self.log_threshold


def highest_density(
    system: Case | Equations,
    belief: Belief | None,
    alphas: Sequence[float],
    reference: Reference | None = None,
    *,
    time: float | None = None,
    n: int = 8192,
    seed: int = 0,
    replicates: int = 8,
    confidence: float = 0.95,
    parameters: int = 256,
) -> list[HighestDensity]:
    """The highest-density region for each mass in `alphas`, from the same particles.

    Args:
        time: s, a multiple of an RK4 step; None: the horizon. The feedback acts continuously.
        n: particles: a power of two times `replicates`.
        parameters: Sobol points for the mean over uncertain parameters, as in `log_density`; n times as many
            characteristics are traced then.
    Raises:
        ConfigError: a mass not in (0, 1), or a time off the grid. CapabilityError: as `log_density`, `scrambles`.
    """
    m = motion(system, belief, reference)
    if not all(0 < a < 1 for a in alphas):
        raise ConfigError(f"highest_density: alphas are {list(alphas)}; each must lie in (0, 1)")
    check_density(m)
    steps = step_at(m, time)
    settings = {"time": steps * m.h, "parameters": parameters, "seed": seed}
    draws = scrambles(m.belief, n, m.stretches, seed, replicates)
    logs = np.stack([np.sort(_logs(m, draw, steps, settings))[::-1] for draw in draws])  # [R, n / R]
    pooled = np.sort(logs.ravel())[::-1]
    lost = float(np.isneginf(logs).mean())
    out = []
    for alpha in alphas:
        volumes = np.array([_volume(row, alpha) for row in logs])
        finite = np.isfinite(volumes).all()  # not where particles that broke belong to the region
        volume, low, high = student_interval(volumes, confidence) if finite else (np.inf, 0.0, np.inf)
        threshold = float(pooled[min(int(np.ceil(alpha * n)), n) - 1])
        out.append(
            HighestDensity(
                m, alpha, threshold, float(volume), max(float(low), 0.0), float(high), lost=lost, n=n, **settings
            )
        )
    return out


def _logs(m: Motion, draw: Draw, steps: int, settings: dict) -> Array:
    """Log-densities `[P]` of particles at their place after `steps`; -inf for those that broke."""
    x, gain = carry(m, draw.x, draw.theta, steps)
    if len(thetas(m, settings["parameters"], settings["seed"])) > 1:  # its own gain is that of its own parameters
        logs = np.full(len(x), -np.inf)
        sound = np.isfinite(x).all(axis=1)
        logs[sound] = log_density(m.loop, m.belief, x[sound], m.reference, **settings)
        return logs
    return gained(x, start_log_prob(m, draw.x, draw.theta), gain)


def _volume(logs: Array, alpha: float) -> float:
    """Volume of the densest share alpha of particles with descending `logs [P]`, the last one in part."""
    share = np.clip(alpha * len(logs) - np.arange(len(logs)), 0.0, 1.0)
    with np.errstate(over="ignore"):
        return float((share[share > 0] * np.exp(-logs[share > 0])).sum() / len(logs))
