"""FISOR's point robot as an anchor: simulator, behaviour logs, and the true infeasible set [fisor, sec. 5.1].

A unicycle (px, py, v, yaw) among two standing discs. Every controller is allowed to brake and to turn, so a state is
infeasible when no control keeps the robot out of both discs for good. Here h = radius - least
distance to a disc centre, m.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from safeplan.data import Log, write_log
from safeplan.dynamics import NUMPY, step
from safeplan.dynamics.unicycle import unicycle
from safeplan.rng import numpy_rng

Array = np.ndarray

HAZARDS = np.array([[0.4, -1.2], [-0.4, 1.2]])  # m
RADIUS = 0.8  # m
GOAL, GOAL_RADIUS = np.array([2.2, 2.2]), 0.3  # m
BOX = 3.0  # |px|, |py| <= BOX, m
STEPS = 300  # longest episode
V_MAX = 2.0  # m/s
SYSTEM = unicycle()
_DT, _THETA = SYSTEM.dt, tuple(SYSTEM.theta)


def violation(x: Array) -> Array:
    """h `[...]` of states `x [4, ...]`, components first; positive inside a disc, m."""
    d = [np.hypot(x[0] - cx, x[1] - cy) for cx, cy in HAZARDS]
    return RADIUS - np.minimum(*d)


def observe(x: Array) -> Array:
    """Observation `[..., 11]`: px, py, v, cos yaw, sin yaw, then (distance, cos, sin of its bearing) of each disc."""
    px, py, v, yaw = x
    parts = [px, py, v, np.cos(yaw), np.sin(yaw)]
    for cx, cy in HAZARDS:
        bearing = np.arctan2(cy - py, cx - px) - yaw
        parts += [np.hypot(cx - px, cy - py), np.cos(bearing), np.sin(bearing)]
    return np.stack(np.broadcast_arrays(*parts), axis=-1)


def advance(x: Array, u: Array) -> Array:
    """One control step of 0.05 s: states `[4, ...]`, controls `[2, ...]` in [-1, 1]; v is kept in [0, 2]."""
    y = np.stack(step(SYSTEM, 0.0, tuple(x), tuple(u), _THETA, NUMPY))
    y[2] = np.clip(y[2], 0.0, V_MAX)
    return y


# ---------------------------------------------------------------- behaviour
def _starts(n: int, rng: np.random.Generator) -> Array:
    """Half anywhere in the box, half 0.8 to 2.8 m from a disc's centre, roughly facing it; any speed."""
    x = np.stack([*rng.uniform(-BOX, BOX, (2, n)), V_MAX * rng.random(n) ** 0.7, rng.uniform(-np.pi, np.pi, n)])
    near = rng.random(n) < 0.5
    disc = HAZARDS[rng.integers(2, size=n)]
    angle, far = rng.uniform(-np.pi, np.pi, n), rng.uniform(RADIUS, RADIUS + 2.0, n)
    x[:, near] = np.stack(
        [
            np.clip(disc[:, 0] + far * np.cos(angle), -BOX, BOX),
            np.clip(disc[:, 1] + far * np.sin(angle), -BOX, BOX),
            x[2],
            angle + np.pi + rng.normal(0.0, 0.7, n),
        ]
    )[:, near]
    return x


def _controls(x: Array, style: Array, noise: Array, gain: Array, rng: np.random.Generator) -> Array:
    """Controls `[2, n]` by style: 0 random walk, 1 goal seeker, 2 goal seeker at full speed, 3 evader, 4 braker."""
    px, py, v, yaw = x

    def turn_to(cx, cy):
        error = np.arctan2(cy - py, cx - px) - yaw
        return np.arctan2(np.sin(error), np.cos(error))

    seek = np.clip(gain * turn_to(*GOAL), -1, 1)
    near = np.argmin([np.hypot(px - cx, py - cy) for cx, cy in HAZARDS], axis=0)
    # away from the nearest disc: the side that the heading already points to
    side = turn_to(HAZARDS[near, 0], HAZARDS[near, 1])
    evade = np.where(side > 0, -1.0, 1.0)
    close = (-violation(x) < 0.2 + v * v / 2) & (np.abs(side) < np.pi / 2)
    turn = np.choose(style, [noise[1], seek, seek, np.where(close, evade, seek), noise[2]])
    cruise = np.clip(2.0 * (1.0 - v), -1, 1)
    acc = np.choose(style, [noise[0], cruise, np.ones_like(v), np.where(close, -1.0, 1.0), -np.ones_like(v)])
    return np.clip(np.stack([acc, turn]) + rng.normal(0.0, 0.2, (2, len(v))), -1, 1)


def make_log(seed: int = 0, transitions: int = 400_000, parallel: int = 1000, switch: float = 0.03) -> Log:
    """Behaviour log of mixed quality, with the continuous violation in `extra["h"]` and `costs = 1[h > 0]`, both at s.

    Styles and their turning noise change at random within an episode (rate `switch` per step), so that braking and
    turning either way are seen from almost everywhere. Episodes end at the goal (terminal), outside the box or after
    300 steps (time-out); driving through a disc does not end them. Reward: decrease of goal distance, 1 at the goal.
    """
    rng = numpy_rng(seed, "point_robot", "log")
    episodes: list[dict[str, Array]] = []
    rows = 0
    while rows < transitions:
        for episode in _roll(parallel, switch, rng):
            episodes.append(episode)
            rows += len(episode["rewards"])
            if rows >= transitions:
                break
    joined = {k: np.concatenate([e[k] for e in episodes]) for k in episodes[0]}
    h = joined.pop("h")
    return Log(**joined, extra={"h": h}, attrs={"seed": seed, "origin": "safeplan point_robot"})


def _roll(n: int, switch: float, rng: np.random.Generator) -> Iterator[dict[str, Array]]:
    x = _starts(n, rng)
    style, gain = rng.integers(5, size=n), rng.uniform(0.5, 3.0, n)
    noise = rng.uniform(-1, 1, (3, n))
    alive = np.ones(n, bool)
    kept: dict[str, list[Array]] = {k: [] for k in ("x", "next", "u", "r", "terminal", "timeout")}
    length = np.zeros(n, int)
    for t in range(STEPS):
        change = rng.random(n) < switch
        style = np.where(change, rng.integers(5, size=n), style)
        # full turns are what decides feasibility, so noise is drawn towards the ends of its range
        noise = np.where(change, np.clip(rng.uniform(-1.6, 1.6, (3, n)), -1, 1), noise)
        u = _controls(x, style, noise, gain, rng)
        y = advance(x, u)
        before, after = (np.hypot(s[0] - GOAL[0], s[1] - GOAL[1]) for s in (x, y))
        terminal = after <= GOAL_RADIUS
        timeout = ~terminal & ((np.abs(y[:2]) > BOX).any(0) | (t == STEPS - 1))
        for key, value in zip(kept, (x, y, u, before - after + terminal, terminal, timeout), strict=True):
            kept[key].append(value)
        length += alive
        alive &= ~(terminal | timeout)
        x = np.where(alive, y, x)
        if not alive.any():
            break
    a = {k: np.stack(v) for k, v in kept.items()}  # [T, ..., n]
    for i in range(n):
        k = length[i]
        state, after = a["x"][:k, :, i].T, a["next"][:k, :, i].T
        h = violation(state).astype(np.float32)
        yield {
            "observations": observe(state).astype(np.float32),
            "next_observations": observe(after).astype(np.float32),
            "actions": a["u"][:k, :, i].astype(np.float32),
            "rewards": a["r"][:k, i].astype(np.float32),
            "costs": (h > 0).astype(np.float32),
            "terminals": a["terminal"][:k, i],
            "timeouts": a["timeout"][:k, i],
            "h": h,
        }


def write_point_robot(path: str | Path, seed: int = 0) -> Path:
    """Generate the log of `data=point_robot` and write it; the maker that `load_log` is given."""
    return write_log(Path(path), make_log(seed))
