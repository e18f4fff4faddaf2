"""`safeplan/PointRobot-v0`."""

from typing import ClassVar

from safeplan.dynamics.unicycle import unicycle, unicycle_belief
from safeplan_envs.base import PlanningEnv
from safeplan_envs.point_robot.scenes import draw
from safeplan_envs.render import Style


class PointRobotEnv(PlanningEnv):
    """The 4-state unicycle of FISOR's toy task: two standing discs, a goal in the corner, 300 steps of 0.05 s."""

    name: ClassVar[str] = "point_robot"
    span: ClassVar[float] = 100.0
    style: ClassVar[Style] = Style(pixels_per_m=70.0, margin=0.15, width=6.0, height=6.0, tick=1.0)

    def __init__(
        self,
        difficulty: float = 1.0,
        split: str = "train",
        max_seconds: float = 15.0,
        terminate_on_collision: bool = False,
        render_mode: str | None = None,
    ):
        super().__init__(
            unicycle(), unicycle_belief, draw, difficulty, split, max_seconds, terminate_on_collision, render_mode
        )
