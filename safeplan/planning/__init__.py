"""Proposals, risk-bounded optimisation, certificates, safe stops, and the closed loop around them."""

from safeplan.planning.config import PlannerConfig
from safeplan.planning.mission import Mission, run_mission
from safeplan.planning.planner import Planner
from safeplan.planning.propose import FanProposer, LearnedProposer, Proposals, Proposer

__all__ = [
    "FanProposer",
    "LearnedProposer",
    "Mission",
    "Planner",
    "PlannerConfig",
    "Proposals",
    "Proposer",
    "run_mission",
]
