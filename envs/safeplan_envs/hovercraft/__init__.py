"""Indoor hovercraft among boxes and drifting discs."""

from safeplan_envs.hovercraft.env import HovercraftEnv
from safeplan_envs.hovercraft.scenes import HovercraftKnobs, draw

__all__ = ["HovercraftEnv", "HovercraftKnobs", "draw"]
