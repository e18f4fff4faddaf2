"""FISOR: which states and actions are feasible, and a diffusion policy that prefers them [fisor]."""

from safeplan.feasibility.agent import Fisor
from safeplan.feasibility.config import FisorConfig, official
from safeplan.feasibility.policy import FisorPolicy
from safeplan.feasibility.prepare import columns, reward_scale
from safeplan.feasibility.select import select

__all__ = ["Fisor", "FisorConfig", "FisorPolicy", "columns", "official", "reward_scale", "select"]
