"""`safeplan/Driving-v0`."""

from typing import ClassVar

from safeplan.dynamics.bicycle import bicycle, bicycle_belief
from safeplan_envs.base import PlanningEnv
from safeplan_envs.driving.scenes import LENGTH, draw
from safeplan_envs.render import Style


class DrivingEnv(PlanningEnv):
    """A kinematic car with uncertain actuators drives 77 m along a road of two or three lanes."""

    name: ClassVar[str] = "driving"
    span: ClassVar[float] = 1000.0
    style: ClassVar[Style] = Style(pixels_per_m=12.0, margin=1.8, width=LENGTH, height=10.5, lane=3.5)

    def __init__(
        self,
        difficulty: float = 1.0,
        split: str = "train",
        max_seconds: float = 40.0,
        terminate_on_collision: bool = False,
        render_mode: str | None = None,
    ):
        super().__init__(
            bicycle(), bicycle_belief, draw, difficulty, split, max_seconds, terminate_on_collision, render_mode
        )
