"""FISOR's point robot."""

from safeplan_envs.point_robot.env import PointRobotEnv
from safeplan_envs.point_robot.scenes import draw

__all__ = ["PointRobotEnv", "draw"]
