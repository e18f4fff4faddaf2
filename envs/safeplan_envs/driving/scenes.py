"""Roads: rows of broken-down cars with one gap, slow or oncoming traffic where no car stands, crossing pedestrians."""

from dataclasses import dataclass

import numpy as np

from safeplan.errors import ConfigError
from safeplan.types import Array, Goal, Obstacle, Scene
from safeplan_envs.layout import connected, interpolate, separation

LENGTH, LANE = 90.0, 3.5  # m
START_X, GOAL_X = 3.0, 80.0  # m
CAR = (2.1, 0.9)  # m, half extents of other cars
EGO_HALF = 1.06  # m, half the width that the ego's discs take
CRUISE = 5.0  # m/s, at which meetings are timed


@dataclass(frozen=True)
class DrivingKnobs:
    """What makes a road hard. Lengths in m, speeds in m/s; pairs are ranges that are drawn from."""

    gap: float  # narrowest free width beside a broken-down car; the ego takes 2.12
    narrow: float  # probability of two lanes instead of three
    double: float  # probability that a row blocks both sides of its gap
    rows: tuple[int, int]  # number of rows of broken-down cars
    spacing: float  # least distance between rows
    traffic: float  # probability of traffic instead of a slalom
    oncoming: float  # probability that traffic comes towards the ego
    car_sigma: tuple[float, float]  # sigma_v of moving cars, per stretch
    walkers: tuple[int, int]  # number of pedestrians
    walker_sigma: tuple[float, float]  # sigma_v of pedestrians, per stretch
    timing: float  # s, how far a meeting may lie from the ego's cruise

    @staticmethod
    def at(difficulty: float) -> "DrivingKnobs":
        """Knobs of a difficulty in [0, 2]."""
        d = difficulty
        return DrivingKnobs(
            gap=interpolate(d, 4.1, 3.4, 2.9),
            narrow=interpolate(d, 0.3, 0.5, 0.6),
            double=interpolate(d, 0.2, 0.6, 0.9),
            rows=(round(interpolate(d, 1, 2, 3)), round(interpolate(d, 2, 3, 4))),
            spacing=interpolate(d, 20.0, 15.0, 12.0),
            traffic=interpolate(d, 0.3, 0.55, 0.65),
            oncoming=interpolate(d, 0.0, 0.5, 0.7),
            car_sigma=(interpolate(d, 0.03, 0.08, 0.12), interpolate(d, 0.08, 0.2, 0.3)),
            walkers=(round(interpolate(d, 0, 1, 2)), round(interpolate(d, 1, 2, 3))),
            walker_sigma=(interpolate(d, 0.03, 0.1, 0.15), interpolate(d, 0.1, 0.25, 0.35)),
            timing=interpolate(d, 4.0, 2.0, 1.2),
        )


def _row(x: float, lanes: int, free: int, k: DrivingKnobs, rng: np.random.Generator) -> list[Obstacle]:
    """Broken-down cars at `x` that leave lane `free` open, at least `gap` wide."""
    width, gap = lanes * LANE, k.gap + rng.uniform(0.0, 0.5)
    lo = np.clip((free + 0.5) * LANE - gap / 2, 0.0, width - gap)
    hi = lo + gap
    below, above = lo - CAR[1], hi + CAR[1]
    out = [y for y in (below, above) if CAR[1] <= y <= width - CAR[1]]
    if len(out) > 1 and rng.random() > k.double:
        out = [out[rng.integers(2)]]
    return [
        Obstacle(x + rng.uniform(-1.5, 1.5), float(y), yaw=float(rng.uniform(-0.06, 0.06)), hx=CAR[0], hy=CAR[1])
        for y in out
    ]


def _car(x: float, lane: int, v: float, k: DrivingKnobs, rng: np.random.Generator) -> Obstacle:
    sigma = float(rng.uniform(*k.car_sigma))
    return Obstacle(float(x), (lane + 0.5) * LANE, vx=float(v), sigma_v=sigma, hx=CAR[0], hy=CAR[1])


def _walker(width: float, standing: list[Obstacle], k: DrivingKnobs, rng: np.random.Generator) -> Obstacle | None:
    """A pedestrian who crosses, clear of standing cars, about when the ego comes by."""
    x = rng.uniform(20.0, 72.0)
    if any(abs(x - o.x) < 5.0 for o in standing):
        return None
    speed, sign = rng.uniform(0.7, 1.2), rng.choice([-1.0, 1.0])
    when = (x - START_X) / CRUISE + rng.uniform(-k.timing, k.timing)
    y = rng.uniform(0.3, 0.7) * width - sign * speed * max(when, 0.0)
    return Obstacle(float(x), float(y), 0.4, vy=float(sign * speed), sigma_v=float(rng.uniform(*k.walker_sigma)))


def _attempt(lanes: int, ego: int, k: DrivingKnobs, rng: np.random.Generator) -> tuple[list[Obstacle], list[Obstacle]]:
    """Standing and moving obstacles of one road."""
    standing: list[Obstacle] = []
    moving: list[Obstacle] = []
    count = int(rng.integers(k.rows[0], k.rows[1] + 1))
    traffic, top = rng.random() < k.traffic, lanes - 1
    x, free = rng.uniform(20.0, 26.0), ego
    for _ in range(count if not traffic else min(count, 3)):
        if x > 66.0:
            break
        # traffic keeps the top lane open throughout; a slalom changes the open lane at every row
        free = top if traffic else int(rng.choice([i for i in range(lanes) if i != free]))
        row = _row(x, lanes, free, k, rng)
        standing += [o for o in row if not traffic or o.y < top * LANE]
        x += k.spacing + rng.uniform(0.0, 8.0)
    if traffic:
        rows = [o.x for o in standing] or [40.0]
        if rng.random() < k.oncoming:
            for meet in rng.permutation(rows)[: 1 + (rng.random() < 0.3)]:
                v = rng.uniform(3.0, 5.0)
                when = (meet - START_X) / CRUISE + rng.uniform(-k.timing, k.timing)
                moving.append(_car(meet + v * max(when, 1.0), top, -v, k, rng))
        else:
            moving.append(_car(rng.uniform(14.0, 24.0), top, rng.uniform(1.5, 2.5), k, rng))
    elif rng.random() < 0.5:  # a slow car beyond the last row
        lane = int(rng.integers(lanes))
        moving.append(_car(max([o.x for o in standing], default=20.0) + 10.0, lane, rng.uniform(0.8, 2.0), k, rng))
    for _ in range(int(rng.integers(k.walkers[0], k.walkers[1] + 1))):
        w = _walker(lanes * LANE, standing, k, rng)
        moving += [w] if w else []
    return standing, moving


def draw(rng: np.random.Generator, difficulty: float) -> tuple[Scene, Array]:
    """A road that can be passed beside its standing cars, and the start state `[4]` on a lane's centre line."""
    k = DrivingKnobs.at(difficulty)
    for _ in range(200):
        lanes = 2 if rng.random() < k.narrow else 3
        width, ego = lanes * LANE, int(rng.integers(lanes - 1))
        start = np.array([START_X, (ego + 0.5) * LANE, 0.0, rng.uniform(4.0, 6.0)])
        standing, moving = _attempt(lanes, ego, k, rng)
        scene = Scene((*standing, *moving), Goal(GOAL_X, width / 2, width / 2), (0.0, 0.0, LENGTH, width))
        if not 2 <= len(scene.obstacles) <= 8:
            continue
        ahead = Obstacle(START_X + 5.0, start[1], 1.2, hx=5.0)  # the way that a braking ego needs
        if any(separation(ahead, o) < 0.3 for o in scene.obstacles):
            continue
        apart = [separation(a, b) for i, a in enumerate(scene.obstacles) for b in scene.obstacles[:i]]
        if min(apart, default=1.0) < 0.3:
            continue
        if connected(scene, (start[0], start[1]), EGO_HALF + 0.25, 0.25):
            return scene, start
    raise ConfigError(f"difficulty={difficulty}: no passable road in 200 attempts; lower it")
