"""Guidance methods. Each is an immutable object for the `chain` of a sampler."""

from safeplan.guidance.cfg import CFG
from safeplan.guidance.clearance import clearance_energy
from safeplan.guidance.energy import Energy

__all__ = ["CFG", "Energy", "clearance_energy"]
