"""How the density of a system's states evolves: particles with their exact density, and level sets in a plane."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from safeplan.dynamics.systems import Case
from safeplan.reach.density import characteristics
from safeplan.reach.particles import rollout
from safeplan.reach.rivals.runs import MOST, draw, log_density_of
from safeplan.types import Array, Draw

BINS = 128  # cells per axis of the plane in which level sets are found
BLUR = 1.6  # cells, of the Gaussian filter on the counts
ESCAPED = 1e4  # times the largest number at the start: such states are on their way to infinity
Progress = Callable[[int], Any]


@dataclass(frozen=True)
class Evolution:
    """`P` particles with their density and `N` more without, at `F` times; NaN for those that escaped to infinity.

    Args:
        axes: the two states that are drawn.
        times: `[F]` s. states: `[F, n, P]`. gain: log-gain `[F, P]`, nats.
        log_rho: log-density `[F, P]` of state and uncertain parameters together, nats.
        cloud: states along `axes` `[F, 2, N]`. outside: share `[F]` of the N that lie outside the domain.
    """

    case: Case
    axes: tuple[int, int]
    times: Array
    states: Array
    gain: Array
    log_rho: Array
    cloud: Array
    outside: Array

    @property
    def spread(self) -> Array:
        """Standard deviations `[F, 2]` along `axes`, of the cloud that has not escaped; NaN when all has."""
        return np.array([[_sd(row) for row in frame] for frame in self.cloud])

    @property
    def escaped(self) -> float:
        """Share of the cloud that escaped to infinity by the last time."""
        return float(np.isnan(self.cloud[-1]).any(0).mean())


def evolve(
    case: Case,
    axes: tuple[int, int],
    *,
    particles: int,
    cloud: int,
    frames: int,
    seed: int,
    device: str = "cpu",
    progress: Progress = lambda n: None,
) -> Evolution:
    """Move particles with their density along characteristics, and a larger cloud without, from Sobol points of `seed`
    and `seed + 1`.

    Raises:
        CapabilityError: a belief without `push` or `log_prob`.
    """
    import torch

    log_prob = log_density_of(case.start)
    last = case.steps * case.loop.substeps
    at = np.unique(np.linspace(0, last, min(frames, last + 1)).round().astype(int))
    start = draw(case, particles, seed)
    x0, theta = (torch.as_tensor(a, dtype=torch.float64, device=device) for a in start)
    flow = characteristics(case.loop, x0, theta, case.reference, case.start.stretch_s, open_loop=True)
    most = ESCAPED * max(1.0, float(np.abs(start.x).max()))
    states = flow.states[at].cpu().numpy()
    gone = _gone(states, most)
    states = np.where(gone[:, None], np.nan, states)
    gain = np.where(gone, np.nan, flow.gain[at].cpu().numpy())
    progress(1)
    more, outside = _cloud(case, axes, draw(case, cloud, seed + 1), at, most, progress)
    return Evolution(case, axes, flow.times[at].cpu().numpy(), states, gain, log_prob(start) + gain, more, outside)


def _sd(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.std()) if len(known) else float("nan")


def _gone(states: Array, most: float) -> Array:
    """Which particles `[F, P]` of `states [F, n, P]` have escaped."""
    return ~np.all(np.abs(states) <= most, axis=1)


def _cloud(
    case: Case, axes: tuple[int, int], start: Draw, at: Array, most: float, progress: Progress
) -> tuple[Array, Array]:
    """States along `axes` `[F, 2, N]` and the share outside the domain `[F]`; in groups, so that memory stays small."""
    out, outside = np.empty((len(at), 2, len(start.x))), np.zeros(len(at))
    for i in range(0, len(start.x), MOST):
        part = Draw(start.x[i : i + MOST], start.theta[i : i + MOST])
        with np.errstate(over="ignore", invalid="ignore"):  # of those that escape
            states = rollout(case.loop, part, case.reference, case.start.stretch_s).states[at]
        gone = _gone(states, most)
        out[:, :, i : i + MOST] = np.where(gone[:, None], np.nan, states[:, list(axes)])
        outside += (gone | ~case.inside(states.transpose(0, 2, 1))).sum(1)
        progress(1)
    return out, outside / len(start.x)


@dataclass(frozen=True)
class Plane:
    """Density `[BINS, BINS]`, per unit of both axes, from `count` points; cells with edges `x` and `y` `[BINS + 1]`."""

    x: Array
    y: Array
    density: Array
    count: int

    @property
    def cell(self) -> float:
        return float((self.x[1] - self.x[0]) * (self.y[1] - self.y[0]))

    def level(self, mass: float) -> float:
        """Density above which `mass` of the plane's mass lies: the border of its highest-density region."""
        ranked = np.sort(self.density.ravel())[::-1]
        return float(ranked[np.searchsorted(np.cumsum(ranked) / ranked.sum(), mass)])

    def tells(self, mass: float) -> bool:
        """Whether the density above that level varies by more than chance; on a plateau its border is chance."""
        level = self.level(mass)
        points = 4 * np.pi * BLUR**2 * self.cell * self.count * level  # that one smoothed value rests on
        return bool(np.quantile(self.density[self.density >= level], 0.9) > level * (1 + 6 / np.sqrt(points)))

    def area(self, mass: float) -> float:
        """Area of that region."""
        return float((self.density >= self.level(mass)).sum() * self.cell)

    @property
    def top(self) -> tuple[float, float]:
        """Centre of the densest cell."""
        i, j = np.unravel_index(np.argmax(self.density), self.density.shape)
        return float(self.x[i : i + 2].mean()), float(self.y[j : j + 2].mean())


def plane(points: Array) -> Plane | None:
    """Smoothed histogram of `points [2, N]`; None where they span no area."""
    seen = points[:, np.isfinite(points).all(0)]
    if seen.shape[1] < 2:
        return None
    low, high = np.quantile(seen, [0.0005, 0.9995], axis=1)  # a few far ones must not coarsen the cells
    if not (high > low).all():
        return None
    pad = 0.06 * (high - low)
    edges = [np.linspace(a, b, BINS + 1) for a, b in zip(low - pad, high + pad, strict=True)]
    counts, x, y = np.histogram2d(*seen, bins=edges)
    cell = (x[1] - x[0]) * (y[1] - y[0])
    count = seen.shape[1]
    return Plane(x, y, gaussian_filter(counts, BLUR, mode="constant") / (count * cell), count)


def summary(evolution: Evolution, masses: Sequence[float]) -> dict[str, Any]:
    """Numbers of an evolution, for a record."""
    case, axes = evolution.case, evolution.axes
    states = case.loop.states
    planes = [plane(points) for points in evolution.cloud]
    quantiles = np.nanquantile(evolution.gain, [0.0, 0.05, 0.5, 0.95, 1.0], axis=1)
    return {
        "states": [{"name": q.name, "unit": q.unit} for q in states],
        "axes": [states[a].name for a in axes],
        "times_s": evolution.times.tolist(),
        "spread": evolution.spread.tolist(),
        "log_gain_nats": dict(zip(("least", "q05", "median", "q95", "most"), quantiles.tolist(), strict=True)),
        "outside_domain": evolution.outside.tolist(),
        "escaped": evolution.escaped,
        "densest": [p.top if p else None for p in planes],
        "level_set_areas": {f"{m:g}": [p.area(m) if p else 0.0 for p in planes] for m in masses},
    }
