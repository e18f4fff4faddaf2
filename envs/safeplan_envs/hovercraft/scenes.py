"""Arenas for the hovercraft: two standing barriers, and discs that drift across the aisles between them."""

from dataclasses import dataclass

import numpy as np

from safeplan.dynamics.hovercraft import RADIUS
from safeplan.errors import ConfigError
from safeplan.types import Array, Goal, Obstacle, Scene
from safeplan_envs.layout import connected, interpolate, separation

BOUNDS = (0.0, 0.0, 3.2, 2.0)  # m
HEIGHT = BOUNDS[3]
GOAL_RADIUS = 0.12  # m
START_X, GOAL_X = 0.25, 2.95  # m
ROUND = 0.02  # m, rounding of the boxes' corners


@dataclass(frozen=True)
class HovercraftKnobs:
    """What makes an arena hard. Lengths in m, speeds in m/s; pairs are ranges that are drawn from."""

    gap: float  # narrowest free passage between standing obstacles
    movers: tuple[int, int]  # number of drifting discs
    speed: tuple[float, float]  # of the drifting discs
    sigma_v: tuple[float, float]  # of their velocity, per stretch
    pocket: float  # probability that a block has lips that make it a dead end
    timing: float  # s, how far a disc's passage may lie from the craft's

    @staticmethod
    def at(difficulty: float) -> "HovercraftKnobs":
        """Knobs of a difficulty in [0, 2]."""
        d = difficulty
        return HovercraftKnobs(
            gap=interpolate(d, 0.60, 0.42, 0.30),
            movers=(round(interpolate(d, 1, 2, 3)), round(interpolate(d, 2, 3, 4))),
            speed=(interpolate(d, 0.04, 0.07, 0.10), interpolate(d, 0.10, 0.20, 0.28)),
            sigma_v=(interpolate(d, 0.01, 0.03, 0.05), interpolate(d, 0.03, 0.07, 0.10)),
            pocket=interpolate(d, 0.0, 0.35, 0.6),
            timing=interpolate(d, 4.0, 2.5, 1.5),
        )


def _box(x: float, ylo: float, yhi: float, half: float) -> Obstacle:
    """Upright rounded box of half width `half` from ylo to yhi."""
    return Obstacle(x, (ylo + yhi) / 2, ROUND, hx=half - ROUND, hy=max((yhi - ylo) / 2 - ROUND, 0.01))


def _gate(x: float, k: HovercraftKnobs, rng: np.random.Generator) -> list[Obstacle]:
    """A wall with one slot."""
    slot = k.gap + rng.uniform(0.0, 0.12)
    lo = rng.uniform(0.25, HEIGHT - 0.25 - slot)
    half = rng.uniform(0.04, 0.09)
    return [_box(x, 0.0, lo, half), _box(x, lo + slot, HEIGHT, half)]


def _block(x: float, k: HovercraftKnobs, rng: np.random.Generator) -> list[Obstacle]:
    """One wide box with a way past each end; sometimes with a lip that makes it a dead end."""
    tall = rng.uniform(0.55, min(0.95, HEIGHT - 2 * k.gap))
    y = rng.uniform(k.gap + tall / 2, HEIGHT - k.gap - tall / 2)
    half = rng.uniform(0.05, 0.1)
    out = [_box(x, y - tall / 2, y + tall / 2, half)]
    if rng.random() < k.pocket:
        end, depth = rng.choice([-1.0, 1.0]), rng.uniform(0.12, 0.2)
        lip = y + end * (tall / 2 - 0.05)
        out.append(Obstacle(x - half - depth / 2 + 0.03, lip, ROUND, hx=depth / 2 + 0.03 - ROUND, hy=0.05 - ROUND))
    return out


def _discs(x: float, k: HovercraftKnobs, rng: np.random.Generator) -> list[Obstacle]:
    """Two discs one above the other."""
    r = rng.uniform(0.12, 0.2, 2)
    between = k.gap + rng.uniform(0.0, 0.15)
    room = HEIGHT - 2 * r.sum() - between
    lo = rng.uniform(0.1, max(room - 0.1, 0.11))
    ys = (lo + r[0], lo + 2 * r[0] + between + r[1])
    return [Obstacle(x + rng.uniform(-0.05, 0.05), float(y), float(a)) for y, a in zip(ys, r, strict=True)]


def _mover(aisle: tuple[float, float], k: HovercraftKnobs, rng: np.random.Generator) -> Obstacle:
    """A disc that drifts along an aisle (edges in x) and crosses the middle when the craft may be there."""
    r = rng.uniform(0.07, 0.12)
    speed, sign = rng.uniform(*k.speed), rng.choice([-1.0, 1.0])
    x = (aisle[0] + aisle[1]) / 2 + rng.uniform(-1.0, 1.0) * max((aisle[1] - aisle[0]) / 2 - r - 0.03, 0.0)
    when = (x - START_X) / 0.3 + rng.uniform(-k.timing, k.timing)
    y = rng.uniform(0.5, 1.5) - sign * speed * max(when, 0.0)
    return Obstacle(float(x), float(y), float(r), vy=float(sign * speed), sigma_v=float(rng.uniform(*k.sigma_v)))


def _edges(column: list[Obstacle]) -> tuple[float, float]:
    return min(o.x - o.hx - o.r for o in column), max(o.x + o.hx + o.r for o in column)


def _attempt(k: HovercraftKnobs, rng: np.random.Generator) -> tuple[list[Obstacle], list[Obstacle]]:
    """Standing and drifting obstacles of one arena."""
    kinds = rng.choice(3, 2, p=(0.4, 0.35, 0.25))
    one, two = (
        (_gate, _block, _discs)[i](x, k, rng)
        for i, x in zip(kinds, (rng.uniform(0.98, 1.12), rng.uniform(1.95, 2.15)), strict=True)
    )
    aisles = [(0.5, _edges(one)[0]), (_edges(one)[1], _edges(two)[0]), (_edges(two)[1], 2.74)]
    order = [1, 2, 1, 0] if rng.random() < 0.5 else [2, 1, 0, 1]
    movers = [_mover(aisles[i], k, rng) for i in order[: rng.integers(k.movers[0], k.movers[1] + 1)]]
    standing = one + two
    if len(standing) + len(movers) < 5:
        extra = Obstacle(rng.uniform(0.6, 2.6), rng.uniform(0.2, 1.8), rng.uniform(0.06, 0.12))
        crossed = any(abs(m.x - extra.x) < m.r + extra.r + 0.03 for m in movers)
        if not crossed and min(separation(o, extra) for o in standing) > k.gap:
            standing.append(extra)
    return standing, movers


def draw(rng: np.random.Generator, difficulty: float) -> tuple[Scene, Array]:
    """A scene that can be solved past its standing obstacles, and the start state `[9]` at rest."""
    k = HovercraftKnobs.at(difficulty)
    for _ in range(200):
        start = np.zeros(9)
        start[:2] = START_X, rng.uniform(0.35, HEIGHT - 0.35)
        goal = Goal(GOAL_X, float(rng.uniform(0.35, HEIGHT - 0.35)), GOAL_RADIUS)
        standing, movers = _attempt(k, rng)
        scene = Scene((*standing, *movers), goal, BOUNDS)
        ends = (Obstacle(start[0], start[1], RADIUS + 0.12), Obstacle(goal.x, goal.y, RADIUS + 0.05))
        if any(separation(o, e) < 0 for o in scene.obstacles for e in ends):
            continue
        if connected(scene, (start[0], start[1]), RADIUS + 0.06, 0.04):
            return scene, start
    raise ConfigError(f"difficulty={difficulty}: no solvable arena in 200 attempts; lower it")
