"""What particles say about a reference: its risk, and how much clearance uncertainty takes from it."""

import numpy as np

from safeplan.dynamics.distance import clearance
from safeplan.dynamics.system import System
from safeplan.planning.config import PlannerConfig
from safeplan.planning.nlp import Nlp
from safeplan.planning.setting import Setting
from safeplan.planning.tracking import lqr_gains
from safeplan.reach import (
    between,
    collision_risk,
    draw_particles,
    duration,
    measurement_noise,
    pair_clearance,
    rollout,
    stretches,
)
from safeplan.types import Array, Belief, Draw, Reference, Risk, Scene


def nominal_clearance(system: System, r: Reference, scene: Scene) -> float:
    """Worst clearance (m) of the reference itself among the nominal obstacles."""
    centers = scene.centers(np.arange(len(r.states)) * r.dt)
    return float(clearance(system, r.states.T, centers, scene).min())


class Judge:
    """Sobol particles around references of one system."""

    def __init__(self, system: System, cfg: PlannerConfig):
        self.system, self.cfg = system, cfg

    @property
    def seeds(self) -> tuple[int, int]:
        """Of the particles that plans are chosen by: no certificate may rest on them."""
        return self.cfg.rank_particles, self.cfg.particles

    def nominal_state(self, belief: Belief, committed: Reference, steps: int) -> Array:
        """Mean state `[n]` after `steps` steps of tracking `committed` from the mean start."""
        x, theta = belief.mean()
        part = Reference(
            committed.states[: steps + 1], committed.controls[:steps], committed.gains[:steps], committed.dt
        )
        draw = Draw(x[None], theta[None, None])
        return rollout(self.system, draw, part, belief.stretch_s).states[-1, :, 0]

    def risk(self, s: Setting, reference: Reference) -> float:
        """Share of `rank_particles` that collide: a first look, for what has to be known at once."""
        lower, times = self._lower(s, reference, self.cfg.rank_particles)
        return collision_risk(lower, times).estimate

    def tightening(self, s: Setting, reference: Reference) -> tuple[Risk, Array]:
        """Risk estimate and clearance loss `[H, K+1]` of a reference: nominal clearance minus what the worst particle
        keeps around each step of the optimised part."""
        cfg, sub = self.cfg, self.system.substeps
        lower, times = self._lower(s, reference, cfg.particles)
        risk = collision_risk(lower, times)
        steps = np.arange(cfg.latency + 1, cfg.latency + cfg.horizon + 1)
        nominal_centers = s.scene.centers(steps * reference.dt)
        nominal = clearance(self.system, reference.states[steps].T, nominal_centers, s.scene)
        worst = lower.min(axis=0)  # [T-1, K+1]
        around = np.arange(-(sub // 2), sub - sub // 2)
        index = np.clip(steps[:, None] * sub + around, 0, len(worst) - 1)
        kept = worst[index].min(axis=1)
        kept[-1] = np.minimum(kept[-1], worst[steps[-1] * sub :].min(axis=0, initial=np.inf))  # the tail stands there
        return risk, np.maximum(nominal - kept, 0.0)

    def _lower(self, s: Setting, reference: Reference, n: int) -> tuple[Array, Array]:
        """Lower bound of the clearance of `n` particles between checked times `[n, T-1, K+1]`, and those times."""
        count = stretches(duration(reference), s.belief.stretch_s)
        draw = draw_particles(s.belief, n, count, seed=n)
        rng = np.random.default_rng(n)
        noise = measurement_noise(s.belief, draw, len(reference.controls), rng)
        flow = rollout(self.system, draw, reference, s.belief.stretch_s, noise)
        centers = s.scene.sample(n, flow.times, rng)
        return between(self.system, flow, centers, s.scene), flow.times[:-1]

    def lasts(self, s: Setting, ends: Array) -> Array:
        """`[B]`: whether states `ends [B, n]` at the end of a plan may be stood at for `stand_s`: a stop that traffic
        drives into is none."""
        cfg, dt = self.cfg, self.system.dt
        times = (cfg.latency + cfg.horizon) * dt + np.arange(0.0, cfg.stand_s + 1e-9, dt)
        if not len(s.scene.obstacles) or cfg.stand_s == 0:
            return np.ones(len(ends), bool)
        still = np.tile(ends.T[:, :, None], (1, 1, len(times)))
        c = clearance(self.system, still, s.scene.centers(times), s.scene)  # [B, T, K+1]
        return ~(c[..., :-1].min(axis=(1, 2)) < 0)

    def proposal_risks(self, nlp: Nlp, s: Setting, states: Array, controls: Array, dynamic: bool) -> Array:
        """Collision probability `[B]` of each proposal when it is tracked with its own gains."""
        cfg, B, h = self.cfg, len(states), states.shape[1] - 1
        t0 = cfg.latency * self.system.dt
        if not dynamic or not cfg.uncertainty:  # a line, or a planner that does not look at the spread
            times = t0 + np.arange(h + 1) * self.system.dt
            c = clearance(self.system, np.moveaxis(states, -1, 0), s.scene.centers(times), s.scene)
            return (c.min(axis=-1) < cfg.margin).mean(axis=1)
        flat = states[:, :h].reshape(B * h, -1), controls.reshape(B * h, -1)
        J = nlp.jacobians(*flat, s.theta)
        A, Bm = (j.reshape(B, h, *j.shape[1:]) for j in J)
        gains = lqr_gains(self.system, A, Bm)
        P = cfg.rank_particles
        count = stretches(h * self.system.dt, s.belief.stretch_s)
        draw = draw_particles(s.belief, P, count, seed=P)
        shift = s.start - s.belief.mean()[0]
        draw = Draw(np.tile(draw.x + shift, (B, 1)), np.tile(draw.theta, (B, 1, 1)))
        each = Reference(np.repeat(states, P, 0), np.repeat(controls, P, 0), np.repeat(gains, P, 0), self.system.dt)
        flow = rollout(self.system, draw, each, s.belief.stretch_s)
        centers = s.scene.sample(P, t0 + flow.times, np.random.default_rng(P))
        c = pair_clearance(self.system, flow, np.tile(centers, (B, 1, 1, 1)), s.scene)
        return (c.min(axis=(1, 2)) < 0).reshape(B, P).mean(axis=1)
