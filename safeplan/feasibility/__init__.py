"""FISOR: which states and actions are feasible, and a diffusion policy that prefers them [fisor]."""

from safeplan.feasibility.agent import Fisor
from safeplan.feasibility.budget import with_budget
from safeplan.feasibility.config import FisorConfig, official
from safeplan.feasibility.conformal import Calibration, calibrate, states_needed
from safeplan.feasibility.policy import FisorPolicy
from safeplan.feasibility.prepare import columns, reward_scale
from safeplan.feasibility.select import select

__all__ = [
    "Calibration",
    "Fisor",
    "FisorConfig",
    "FisorPolicy",
    "calibrate",
    "columns",
    "official",
    "reward_scale",
    "select",
    "states_needed",
    "with_budget",
]
