"""A car on a straight road with parked cars, slow and oncoming traffic, and pedestrians."""

from safeplan_envs.driving.env import DrivingEnv
from safeplan_envs.driving.scenes import DrivingKnobs, draw

__all__ = ["DrivingEnv", "DrivingKnobs", "draw"]
