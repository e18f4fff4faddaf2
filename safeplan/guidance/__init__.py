"""Guidance methods. Each is an immutable object for the `chain` of a sampler."""

from safeplan.guidance.adaptive import AdaptiveGuidance
from safeplan.guidance.apg import APG
from safeplan.guidance.autoguidance import ICG, SHUFFLED, AutoGuidance, shuffled
from safeplan.guidance.bands import FACFG, FDG
from safeplan.guidance.barrier import Barrier, ConstrictingBarrier, Project
from safeplan.guidance.cfg import CFG
from safeplan.guidance.cfgpp import CFGpp, cfgpp_scale, step_invariant_cfgpp
from safeplan.guidance.clearance import clearance_barrier, clearance_energy, goal_energy
from safeplan.guidance.composed import Composed
from safeplan.guidance.direct import direct
from safeplan.guidance.elucd import EluCD, calibrated_logit, sine_schedule, smooth_activations, unit_schedule
from safeplan.guidance.energy import Energy
from safeplan.guidance.feedback import FeedbackGuidance
from safeplan.guidance.gfcg import GFCG, confusion
from safeplan.guidance.linear_ag import LinearAG, fit_linear_ag
from safeplan.guidance.magnitude import MAMBO
from safeplan.guidance.perturbed import PAG, SEG, SLG, SWG, TPG, TSG, Perturbed
from safeplan.guidance.pigdm import PiGDM
from safeplan.guidance.potential import ClassifierGuidance, ExactEnergy, Potential
from safeplan.guidance.rescale import Rescale
from safeplan.guidance.select import best_of, repeat
from safeplan.guidance.table import capability_table, format_table
from safeplan.guidance.tangential import TCFG
from safeplan.guidance.zero_star import CFGZeroStar

__all__ = [
    "APG",
    "CFG",
    "FACFG",
    "FDG",
    "GFCG",
    "ICG",
    "MAMBO",
    "PAG",
    "SEG",
    "SHUFFLED",
    "SLG",
    "SWG",
    "TCFG",
    "TPG",
    "TSG",
    "AdaptiveGuidance",
    "AutoGuidance",
    "Barrier",
    "CFGZeroStar",
    "CFGpp",
    "ClassifierGuidance",
    "Composed",
    "ConstrictingBarrier",
    "EluCD",
    "Energy",
    "ExactEnergy",
    "FeedbackGuidance",
    "LinearAG",
    "Perturbed",
    "PiGDM",
    "Potential",
    "Project",
    "Rescale",
    "best_of",
    "calibrated_logit",
    "capability_table",
    "cfgpp_scale",
    "clearance_barrier",
    "clearance_energy",
    "confusion",
    "direct",
    "fit_linear_ag",
    "format_table",
    "goal_energy",
    "repeat",
    "shuffled",
    "sine_schedule",
    "smooth_activations",
    "step_invariant_cfgpp",
    "unit_schedule",
]
