"""Where the system can be: particles, density along characteristics, probability of sets, collision risk, certificates.

What needs torch is reached by module: `density`, `backward`, `highest_density`, `flux`, `smooth`.
"""

from safeplan.reach.certificates.binomial import SampleSize, clopper_pearson, plan_samples, samples_needed
from safeplan.reach.certificates.certificate import certify, certify_draws, collides, count_collisions
from safeplan.reach.certificates.fresh import Counts, Draws, Ledger, Stream, digest
from safeplan.reach.certificates.looks import Looks, begin_looks, boundary, crossing
from safeplan.reach.certificates.model_bound import ModelCertificate, certify_with_model, two_binomial
from safeplan.reach.certificates.sequential import (
    Sequential,
    Verdict,
    anytime_upper,
    begin,
    carry_on,
    log_evidence,
    most_hits,
)
from safeplan.reach.certificates.tube import Tube, deviation, trajectories_needed, tube
from safeplan.reach.events.entries import entries, expected_entries
from safeplan.reach.events.importance import ImportanceProbability, importance_probability
from safeplan.reach.events.occupancy import Occupancy, occupancy
from safeplan.reach.events.rare import RareProbability, rare_probability
from safeplan.reach.events.set_probability import SetProbability, probabilities, probability
from safeplan.reach.events.splitting import Ladder
from safeplan.reach.particles import Flow, draw_particles, duration, measurement_noise, rollout, sobol_draw, stretches
from safeplan.reach.risk import between, collision_risk, pair_clearance
from safeplan.reach.sets import Ball, Box, Polytope, Region, Union, levels

__all__ = [
    "Ball",
    "Box",
    "Counts",
    "Draws",
    "Flow",
    "ImportanceProbability",
    "Ladder",
    "Ledger",
    "Looks",
    "ModelCertificate",
    "Occupancy",
    "Polytope",
    "RareProbability",
    "Region",
    "SampleSize",
    "Sequential",
    "SetProbability",
    "Stream",
    "Tube",
    "Union",
    "Verdict",
    "anytime_upper",
    "begin",
    "begin_looks",
    "between",
    "boundary",
    "carry_on",
    "certify",
    "certify_draws",
    "certify_with_model",
    "clopper_pearson",
    "collides",
    "collision_risk",
    "count_collisions",
    "crossing",
    "deviation",
    "digest",
    "draw_particles",
    "duration",
    "entries",
    "expected_entries",
    "importance_probability",
    "levels",
    "log_evidence",
    "measurement_noise",
    "most_hits",
    "occupancy",
    "pair_clearance",
    "plan_samples",
    "probabilities",
    "probability",
    "rare_probability",
    "rollout",
    "samples_needed",
    "sobol_draw",
    "stretches",
    "trajectories_needed",
    "tube",
    "two_binomial",
]
