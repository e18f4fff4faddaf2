"""What one call of the planner works on, and the time it has."""

import time
from dataclasses import dataclass

from safeplan.types import Array, Belief, Reference, Scene


@dataclass(frozen=True)
class Setting:
    """Belief and scene as of now, parameters `theta [p]`, the committed reference, the state `start [n]` it ends in."""

    belief: Belief
    scene: Scene
    theta: Array
    committed: Reference
    start: Array


class Late(Exception):
    """The deadline passed."""


class Clock:
    """Time left of `limit` seconds, and what the stages took; `kind` is "wall" or "cpu"."""

    def __init__(self, limit: float, kind: str = "wall"):
        self.now = time.process_time if kind == "cpu" else time.perf_counter
        self.limit, self.begin = limit, self.now()
        self.last, self.laps = self.begin, {}

    def lap(self, name: str) -> None:
        """Book the time since the last lap under `name`."""
        now = self.now()
        self.laps[name] = self.laps.get(name, 0.0) + now - self.last
        self.laps["total"] = now - self.begin
        self.last = now

    def left(self) -> float:
        """Seconds left."""
        return self.limit - (self.now() - self.begin)

    def check(self) -> None:
        """Raise Late when none are."""
        if self.left() < 0:
            raise Late
