"""Where the system can be: particles, density along characteristics, collision risk, certificates."""

from safeplan.reach.binomial import SampleSize, clopper_pearson, plan_samples, samples_needed
from safeplan.reach.certificate import certify, certify_draws, collides, count_collisions
from safeplan.reach.fresh import Counts, Draws, Ledger, Stream, digest
from safeplan.reach.looks import Looks, begin_looks, boundary, crossing
from safeplan.reach.model_bound import ModelCertificate, certify_with_model, two_binomial
from safeplan.reach.particles import Flow, draw_particles, duration, measurement_noise, rollout, sobol_draw, stretches
from safeplan.reach.risk import between, collision_risk, pair_clearance
from safeplan.reach.sequential import Sequential, Verdict, anytime_upper, begin, carry_on, log_evidence, most_hits
from safeplan.reach.tube import Tube, deviation, trajectories_needed, tube

__all__ = [
    "Counts",
    "Draws",
    "Flow",
    "Ledger",
    "Looks",
    "ModelCertificate",
    "SampleSize",
    "Sequential",
    "Stream",
    "Tube",
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
    "log_evidence",
    "measurement_noise",
    "most_hits",
    "pair_clearance",
    "plan_samples",
    "rollout",
    "samples_needed",
    "sobol_draw",
    "stretches",
    "trajectories_needed",
    "tube",
    "two_binomial",
]
