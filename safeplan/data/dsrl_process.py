"""DSRL's ways of making its data harder, or easier [dsrl]: whole episodes leave, or change, by their cost and return.

Each takes a log and gives a new one with what was done noted in `attrs["processed"]`; the old one stays as it is. The
generator is always the caller's. An unfinished last episode is left out, as DSRL does; episodes keep their order.
`dsrl`'s own function also writes a picture into the working directory; this one does not.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from safeplan.data.hdf5 import KEYS, Log
from safeplan.errors import DataError
from safeplan.types import Array


def totals(log: Log) -> tuple[Array, Array, Array]:
    """Rows `[E, 2]` of the finished episodes, their returns `[E]` and costs `[E]`.

    Raises:
        DataError: no episode is finished.
    """
    rows = log.episodes
    rows = rows[log.ends[rows[:, 1] - 1]]
    if not len(rows):
        raise DataError(f"log of {len(log)} rows: no episode ends (terminals and timeouts are all false)")
    returns, costs = (np.array([v[a:b].sum(dtype=np.float64) for a, b in rows]) for v in (log.rewards, log.costs))
    return rows, returns, costs


def select(log: Log, rows: Array, note: str) -> Log:
    """The log of these episodes `[E, 2]`, in their order.

    Raises:
        DataError: none is left.
    """
    if not len(rows):
        raise DataError(f"{note}: no episode is left. Ask for less")
    index = np.concatenate([np.arange(a, b) for a, b in rows])
    kept = {key: value[index] for key, value in log.columns.items()}
    done = "; ".join(filter(None, [str(log.attrs.get("processed", "")), note]))
    parts = {key: kept.pop(key) for key in KEYS}
    return Log(**parts, extra=kept, attrs={**log.attrs, "processed": done})


def _cells(x: Array, bins: int) -> Array:
    """Number of the bin of each value `[E]`, in float32 as DSRL has it: rounding may give the largest one its own."""
    x = x.astype(np.float32) - x.astype(np.float32).min()
    width = x.max() / bins
    return np.floor_divide(x, width) if width > 0 else np.zeros_like(x)


def thin(log: Log, rng: np.random.Generator, *, cost_bins: int, return_bins: int, most: int, least: int = 2) -> Log:
    """Fewer episodes: at most `most` in each cell of a grid over cost and return, and cells of up to `least` emptied.

    DSRL's settings for half of the episodes, say, are in `DENSITY`.
    """
    if cost_bins < 1 or return_bins < 1 or most < 1 or least < 0:
        raise DataError(
            f"thin: bins {cost_bins} x {return_bins} and most {most} must be positive, least {least} not < 0"
        )
    rows, returns, costs = totals(log)
    cells = np.stack([_cells(costs, cost_bins), _cells(returns, return_bins)], axis=-1)
    _, number = np.unique(cells, axis=0, return_inverse=True)
    kept: list[int] = []
    for cell in range(number.max() + 1):
        inside = np.flatnonzero(number == cell)
        if len(inside) > most:  # asked first: with most < least a full cell is thinned, not emptied
            kept += rng.choice(inside, most, replace=False).tolist()
        elif len(inside) > least:
            kept += inside.tolist()
    note = f"thin(cost_bins={cost_bins}, return_bins={return_bins}, most={most}, least={least})"
    return select(log, rows[np.sort(np.array(kept, int))], note)


def add_outliers(
    log: Log, rng: np.random.Generator, *, fraction: float, limit: float, cost_max: float, return_max: float
) -> Log:
    """Lies: risky episodes of high return are relabelled as safe, and their rewards grow by half.

    `fraction` of all episodes (at least one), drawn from those with cost >= cost_max / 2 and return >= return_max / 2
    (the task's extremes), get costs of 1 on as many random steps as a random whole number below `limit`, else 0.

    Raises:
        DataError: too few such episodes, or a limit below 1.
    """
    rows, returns, costs = totals(log)
    risky = np.flatnonzero((costs >= cost_max / 2) & (returns >= return_max / 2))
    n = max(int(len(rows) * fraction), 1)
    if not 0 < fraction <= 1 or int(limit) < 1 or n > len(risky):
        raise DataError(
            f"add_outliers: {n} of {len(rows)} episodes asked for (fraction {fraction}, limit {limit}), "
            f"{len(risky)} are risky with a high return. Take a fraction in (0, 1] that fits, and a limit of at least 1"
        )
    chosen = rng.choice(risky, size=n, replace=False)
    new = rng.choice(np.arange(int(limit)), size=n)
    short = int(np.diff(rows[chosen], axis=1).min())
    if new.max() > short:
        raise DataError(f"add_outliers: limit {limit} asks for more costs than an episode of {short} steps can have")
    labels, rewards = log.costs.copy(), log.rewards.copy()
    for (a, b), cost in zip(rows[chosen], new, strict=True):
        labels[a:b] = 0
        labels[a + rng.choice(np.arange(b - a), cost, replace=False)] = 1
        rewards[a:b] *= np.float32(1.5)
    note = f"add_outliers(fraction={fraction}, limit={limit}, cost_max={cost_max}, return_max={return_max})"
    return select(replace(log, costs=labels, rewards=rewards), rows, note)


def cut_out(log: Log, boxes: Sequence[tuple[float, float, float, float]]) -> Log:
    """Without the episodes in boxes (cost from, to, return from, to), all as fractions in [0, 1] ("inpainting").

    Costs are fractions of the log's range; returns of the range among the episodes left in that band of cost.
    """
    rows, returns, costs = totals(log)
    low, span = costs.min(), np.ptp(costs)
    left = np.arange(len(rows))
    for box in boxes:
        c0, c1, r0, r1 = box
        band = (span * c0 + low <= costs[left]) & (costs[left] <= span * c1 + low)
        if not band.any():
            raise DataError(f"cut_out: no episode has a cost in the band of box {box}. Widen it")
        r = returns[left]
        base, width = r[band].min(), np.ptp(r[band])
        left = left[~(band & (width * r0 + base <= r) & (r <= width * r1 + base))]
    return select(log, rows[left], f"cut_out({list(boxes)})")


def without_best(log: Log, *, limit: float, margin: float, safe: bool) -> Log:
    """Without the episodes of the highest return, down to `margin` below it, among the safe or the unsafe ones.

    Harder for safe = True (DSRL's epsilon > 0), easier for safe = False (epsilon < 0). Safe is a cost up to `limit`.
    """
    rows, returns, costs = totals(log)
    group = (costs <= limit) == safe
    if margin < 0 or not group.any():
        kind = "safe" if safe else "unsafe"
        raise DataError(
            f"without_best: {group.sum()} episodes are {kind} at limit {limit}, margin {margin} (not below 0)"
        )
    best = group & (returns >= returns[group].max() - margin)
    return select(log, rows[~best], f"without_best(limit={limit}, margin={margin}, safe={safe})")


def add_noise(log: Log, rng: np.random.Generator, *, scale: float) -> Log:
    """Gaussian noise on observations and next observations, `scale` times the spread of all their entries together."""
    rows, _, _ = totals(log)
    log = select(log, rows, f"add_noise(scale={scale})")
    noisy = {}
    for key in ("observations", "next_observations"):
        value = log.columns[key]
        noisy[key] = (value + scale * rng.normal(0, np.std(value), value.shape)).astype(np.float32)
    return replace(log, **noisy)


# settings of `thin` behind DSRL's smaller data sets: task -> share of the episodes kept -> (return_bins, most);
# cost_bins is 10 and least 2 throughout (`dsrl.infos.DENSITY_CFG`; tests/dsrl compares)
DENSITY = {
    "CarCircle": {0.5: (50, 5), 0.75: (50, 9)},
    "AntCircle": {0.5: (50, 12), 0.75: (50, 20)},
    "AntRun": {0.5: (50, 6), 0.75: (50, 10)},
    "DroneCircle": {0.5: (50, 10), 0.75: (50, 18)},
    "DroneRun": {0.5: (50, 6), 0.75: (50, 18)},
    "BallCircle": {0.5: (20, 5), 0.75: (30, 10)},
    "BallRun": {0.5: (15, 7), 0.75: (15, 12)},
    "CarRun": {0.5: (20, 6), 0.75: (20, 11)},
    "CarButton1": {0.25: (10, 8), 0.5: (10, 18)},
    "CarButton2": {0.25: (8, 13), 0.5: (8, 28)},
    "CarCircle1": {0.25: (5, 12), 0.5: (5, 28)},
    "CarCircle2": {0.25: (5, 8), 0.5: (5, 18)},
    "CarGoal1": {0.25: (8, 6), 0.5: (8, 13)},
    "CarGoal2": {0.25: (8, 14), 0.5: (8, 30)},
    "CarPush1": {0.25: (6, 16), 0.5: (6, 36)},
    "CarPush2": {0.25: (8, 22), 0.5: (8, 50)},
    "PointButton1": {0.25: (10, 6), 0.5: (10, 13)},
    "PointButton2": {0.25: (8, 12), 0.5: (8, 25)},
    "PointCircle1": {0.25: (5, 12), 0.5: (5, 28)},
    "PointCircle2": {0.25: (5, 10), 0.5: (5, 20)},
    "PointGoal1": {0.25: (8, 7), 0.5: (8, 16)},
    "PointGoal2": {0.25: (6, 14), 0.5: (8, 24)},
    "PointPush1": {0.25: (6, 13), 0.5: (6, 28)},
    "PointPush2": {0.25: (8, 15), 0.5: (8, 34)},
    "HalfCheetahVelocity": {0.25: (10, 12), 0.5: (10, 26)},
    "SwimmerVelocity": {0.25: (10, 7), 0.5: (10, 14)},
    "Walker2dVelocity": {0.25: (10, 10), 0.5: (10, 22)},
    "easydense": {0.5: (20, 15), 0.75: (20, 30)},
    "mediummean": {0.5: (20, 16), 0.75: (20, 33)},
    "hardsparse": {0.5: (20, 12), 0.75: (20, 32)},
}
