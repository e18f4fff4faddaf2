"""Where the system can be: particles, density along characteristics, collision risk, certificates."""

from safeplan.reach.binomial import clopper_pearson, samples_needed
from safeplan.reach.certificate import certify, count_collisions
from safeplan.reach.particles import Flow, draw_particles, duration, measurement_noise, rollout, sobol_draw, stretches
from safeplan.reach.risk import between, collision_risk, pair_clearance

__all__ = [
    "Flow",
    "between",
    "certify",
    "clopper_pearson",
    "collision_risk",
    "count_collisions",
    "draw_particles",
    "duration",
    "measurement_noise",
    "pair_clearance",
    "rollout",
    "samples_needed",
    "sobol_draw",
    "stretches",
]
