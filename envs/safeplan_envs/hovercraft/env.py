"""`safeplan/Hovercraft-v0`."""

from typing import ClassVar

from safeplan.dynamics.hovercraft import hovercraft, hovercraft_belief
from safeplan_envs.base import PlanningEnv
from safeplan_envs.hovercraft.scenes import draw
from safeplan_envs.render import Style


class HovercraftEnv(PlanningEnv):
    """A hovercraft (identified from recordings of real craft) crosses a 3.2 m x 2.0 m arena from left to right."""

    name: ClassVar[str] = "hovercraft"
    span: ClassVar[float] = 100.0
    style: ClassVar[Style] = Style(pixels_per_m=200.0, margin=0.08, width=3.2, height=2.0, tick=0.5)

    def __init__(
        self,
        difficulty: float = 1.0,
        split: str = "train",
        max_seconds: float = 25.0,
        terminate_on_collision: bool = False,
        render_mode: str | None = None,
    ):
        super().__init__(
            hovercraft(), hovercraft_belief, draw, difficulty, split, max_seconds, terminate_on_collision, render_mode
        )
