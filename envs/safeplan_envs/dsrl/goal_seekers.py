"""Scripted drivers for Safety-Gymnasium's Goal tasks: to the goal, around hazards as far as their style cares.

They act on observations alone: the goal and the hazards are seen by 16 beams each, in the vehicle's frame. A style is a
point in the unit box, so that better styles can be searched for (see `better_styles`). None is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from safeplan.errors import DataError
from safeplan.types import Array

BEAMS, SIGHT = 16, 3.0  # beams of a lidar; m that they reach
ANGLES = (np.arange(BEAMS) + 0.5) * 2 * np.pi / BEAMS  # middle of the beams
STYLE = {  # what a style consists of, and its range
    "speed": (0.15, 1.4),  # m/s
    "gain": (0.5, 4.0),  # of steering
    "reach": (0.2, 1.0),  # m: nearer hazards are avoided
    "push": (0.0, 3.0),  # away from them, against 1 towards the goal
    "swirl": (0.0, 3.0),  # around them
    "brake": (0.0, 1.0),  # share of the speed given up before them
    "sigma": (0.0, 0.6),  # of the action noise, AR(1)
    "rho": (0.0, 0.9),  # its memory
}


class Body(NamedTuple):
    """Where a vehicle's readings begin, which way it drives in its own frame, and how its two actuators are used."""

    goal: int
    hazards: int
    ahead: float  # rad
    wheels: bool  # left and right; otherwise force and turn


BODIES = {"PointGoal1": Body(12, 28, 0.0, False), "CarGoal1": Body(24, 40, -np.pi / 2, True)}


@dataclass
class Seeker:
    """Drives one episode of `task` in a style `[8]` of the unit box; `rng` is for its noise."""

    task: str
    style: Array
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self._body, self._noise = BODIES[self.task], np.zeros(2)
        low, high = np.array(list(STYLE.values())).T
        self._style = dict(zip(STYLE, low + np.asarray(self.style) * (high - low), strict=True))

    def __call__(self, obs: Array) -> Array:
        """Action `[2]` in [-1, 1]."""
        s, body = self._style, self._body
        goal, hazards = (obs[at : at + BEAMS].astype(np.float64) for at in (body.goal, body.hazards))
        aim, danger = self._aim(direction(goal, body.ahead), hazards)
        error = np.arctan2(np.sin(aim - body.ahead), np.cos(aim - body.ahead))
        speed = float(obs[3] * np.cos(body.ahead) + obs[4] * np.sin(body.ahead))
        want = s["speed"] * max(0.0, np.cos(error)) * (1.0 - s["brake"] * danger)
        drive, turn = 4.0 * (want - speed), s["gain"] * error
        action = np.array([drive - turn, drive + turn][::-1] if body.wheels else [drive, turn])
        self._noise = s["rho"] * self._noise + np.sqrt(1.0 - s["rho"] ** 2) * self.rng.normal(size=2)
        return np.clip(np.clip(action, -1.0, 1.0) + s["sigma"] * self._noise, -1.0, 1.0).astype(np.float32)

    def _aim(self, bearing: float, hazards: Array) -> tuple[float, float]:
        """Bearing to drive at (rad, in the vehicle's frame), and how near the nearest hazard in that way is, 0 to 1."""
        s = self._style
        near = np.clip(1.0 - SIGHT * (1.0 - hazards) / s["reach"], 0.0, 1.0)
        side = np.sign(np.sin(bearing - ANGLES))  # pass a hazard on the goal's side
        way = np.array([np.cos(bearing), np.sin(bearing)])
        way -= s["push"] * near @ np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
        round_ = ANGLES + side * np.pi / 2
        facing = near * np.clip(np.cos(bearing - ANGLES), 0.0, 1.0)
        way += s["swirl"] * facing @ np.stack([np.cos(round_), np.sin(round_)], axis=1)
        return float(np.arctan2(way[1], way[0])), float(facing.max())


def direction(beams: Array, ahead: float) -> float:
    """Bearing of the one goal (rad): the brightest beam, and the share that its next neighbour sees.

    Out of sight, a little to the left of straight on.
    """
    k = int(np.argmax(beams))
    if beams[k] <= 0.0:
        return ahead + 0.3
    return float((k + beams[(k + 1) % BEAMS] / beams[k]) * 2 * np.pi / BEAMS)


def better_styles(
    styles: Array,
    returns: Array,
    costs: Array,
    count: int,
    rng: np.random.Generator,
    weights: Sequence[float] = (0.0, 0.05, 0.2, 1.0),
    elite: float = 0.2,
) -> Array:
    """`count` new styles by the cross-entropy method, in equal shares for each weight of cost against return.

    Args:
        styles: `[E, 8]` of episodes so far. returns, costs: `[E]`.
        elite: share of the episodes that the new styles are drawn around, by return - weight * cost.

    Raises:
        DataError: fewer than two episodes.
    """
    if len(styles) < 2:
        raise DataError(f"better_styles: {len(styles)} episodes; give two or more")
    best = max(2, round(elite * len(styles)))
    drawn = []
    for i in range(count):
        order = np.argsort(weights[i % len(weights)] * costs - returns, kind="stable")[:best]
        middle, spread = styles[order].mean(0), styles[order].std(0) + 0.05
        drawn.append(np.clip(middle + spread * rng.normal(size=styles.shape[1]), 0.0, 1.0))
    return np.array(drawn).reshape(count, styles.shape[1])
