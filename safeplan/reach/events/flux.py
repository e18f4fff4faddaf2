"""Flux of density into a set, which bounds the probability of ever being inside; equal where nobody comes back [rice].

P(ever inside) <= P(inside at 0) + int int_boundary rho (f - v) . n_in ^+ dS dt, v the velocity of the set; densities on
the boundary are traced back to the start. Deterministic, and smooth in a plan. For any other set: `expected_entries`.
"""

from dataclasses import dataclass

import numpy as np
import torch

from safeplan.dynamics.equations import Equations
from safeplan.dynamics.systems import Case
from safeplan.reach.backward import check_density, gained, start_log_prob, thetas, tracked
from safeplan.reach.events.surface import in_order, surface
from safeplan.reach.motion import Motion, motion
from safeplan.reach.particles import sobol_draw
from safeplan.reach.sets import Ball, Box
from safeplan.types import Array, Belief, Reference

GAUSS = (0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3))  # of an RK4 step, equal weights


@dataclass(frozen=True)
class FluxBound:
    """`bound` = `at_start` + the sum of `inflow`, the mass that flows in during each RK4 step; may exceed 1."""

    bound: float
    at_start: float
    inflow: Array


def flux_bound(
    system: Case | Equations,
    belief: Belief | None,
    region: Ball | Box,
    reference: Reference | None = None,
    *,
    nodes: int = 32,
    parameters: int = 64,
    start: int = 1 << 14,
    seed: int = 0,
) -> FluxBound:
    """Upper bound of the probability of ever being in `region`, up to quadrature. The feedback acts continuously.

    Args:
        region: over all states, each once, no angles, finite.
        nodes: on a face or a circle along each direction. Where the density jumps (a uniform start) errors fall only
            with 1 / nodes.
        parameters: Sobol points over uncertain parameters.
        start: Sobol points that tell the mass inside at time 0, which no plan changes; its error is no smooth one.
    Raises:
        CapabilityError: another region, or a start without a density. ConfigError: nodes < 1.
    """
    m = motion(system, belief, reference)
    check_density(m)
    rim, theta = surface(region, m.loop.n, nodes), thetas(m, parameters, seed)
    each = np.tile(np.arange(len(theta)), len(rim.weights))  # a node's parameters lie side by side
    normals, areas = (np.repeat(a, len(theta), axis=0) for a in (rim.normals, rim.weights / len(theta)))
    v = in_order(region, region.velocity)
    z, gain = torch.zeros(m.loop.n, 0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    which, step, weight = np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    for j in reversed(range(m.steps)):
        z, gain = _back(m, theta[which], j, z, gain, m.h)
        for part in GAUSS:
            t = (j + part) * m.h
            at = torch.as_tensor(np.repeat(rim.points + v * t, len(theta), axis=0).T)
            rate, _ = tracked(m, theta[each], at).joint(j // m.loop.substeps, t, at, not m.reference.gains.any())
            inward = ((rate.detach().numpy().T - v) * normals).sum(axis=1)
            enters = np.flatnonzero(inward > 0)
            new = _back(m, theta[each[enters]], j, at[:, enters], torch.zeros(len(enters)).double(), part * m.h)
            z, gain = torch.cat([z, new[0]], 1), torch.cat([gain, new[1]])
            which, step = np.append(which, each[enters]), np.append(step, np.full(len(enters), j))
            weight = np.append(weight, (areas * inward)[enters] * m.h / len(GAUSS))
    x0 = z.numpy().T
    rho = np.exp(gained(x0, start_log_prob(m, x0, theta[which]), -gain.numpy()))
    inflow = np.bincount(step, rho * weight, m.steps)[: m.steps]
    inside = region.level(sobol_draw(m.belief, start, m.stretches, seed).x.T) <= 0
    return FluxBound(float(inside.mean() + inflow.sum()), float(inside.mean()), inflow)


def _back(
    m: Motion, theta: Array, j: int, z: torch.Tensor, gain: torch.Tensor, h: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """States `[n, K]` and their log-gain traced back by `h` seconds within RK4 step j."""
    if not len(theta):
        return z, gain
    loop, own = tracked(m, theta, z), not m.reference.gains.any()
    z, gain = loop.advance(j // m.loop.substeps, 0.0, z, gain, -h, own)
    return z.detach(), gain.detach()
