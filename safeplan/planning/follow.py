"""From a candidate to a plan: solve, look at the spread of the particles, tighten the clearances, solve again."""

import numpy as np

from safeplan.dynamics.distance import clearance
from safeplan.dynamics.system import System
from safeplan.planning.config import PlannerConfig
from safeplan.planning.halfplanes import nearest, supporting
from safeplan.planning.judge import Judge
from safeplan.planning.nlp import Nlp, Solution, Weights
from safeplan.planning.references import assemble
from safeplan.planning.setting import Clock, Setting
from safeplan.types import Array, Reference, Risk

SECOND_TRY_S = 1.0  # time that must be left for IPOPT to be asked where FATROP failed

Candidate = tuple[Array, Array]  # states [H+1, n], controls [H, m]


class Follower:
    """The optimiser and the judge of one system, taking turns."""

    def __init__(self, system: System, cfg: PlannerConfig, nlp: Nlp, judge: Judge):
        self.system, self.cfg, self.nlp, self.judge = system, cfg, nlp, judge

    def follow(
        self, s: Setting, candidate: Candidate, weights: Weights, inflate: float, clock: Clock
    ) -> tuple[Solution, Risk, Reference]:
        """Follow one candidate; tighten by the spread of the particles around what was found, and solve again."""
        cfg, guess = self.cfg, self.clear(s, candidate)
        loss = np.zeros((cfg.horizon, len(s.scene.obstacles) + 1))
        risk, reference, found = None, None, None
        for i in range(cfg.passes + 1):
            found = self.solve(s, candidate, guess, loss * inflate + cfg.margin, weights, clock)
            clock.lap("optimise")
            guess = (found.states, found.controls)
            reference = assemble(self.nlp, s.committed, found, s.theta, cfg)
            if not cfg.uncertainty and i < cfg.passes:
                continue
            risk, now = self.judge.tightening(s, reference)
            clock.lap("risk")
            clock.check()
            if i and risk.estimate == 0.0:
                break
            loss = np.maximum(loss, now) if i else now
        assert risk is not None and reference is not None and found is not None
        return found, risk, reference

    def clear(self, s: Setting, candidate: Candidate) -> Candidate:
        """Stop a guess before it runs into something: half-planes taken inside an obstacle contradict each other."""
        states, controls = candidate
        times = (self.cfg.latency + np.arange(len(states))) * self.system.dt
        hit = clearance(self.system, states.T, s.scene.centers(times), s.scene).min(axis=1) < 0
        hit[0] = False
        if not hit.any():
            return candidate
        k = int(np.argmax(hit))
        states, controls = states.copy(), controls.copy()
        states[k:], controls[k:] = states[k - 1], 0.0
        return states, controls

    def solve(
        self, s: Setting, candidate: Candidate, guess: Candidate, margins: Array, weights: Weights, clock: Clock
    ) -> Solution:
        """One solve from `guess`, clearances `margins [H, K+1]` kept, drawn to `candidate`'s positions."""
        cfg, dt = self.cfg, self.system.dt
        times = (cfg.latency + 1 + np.arange(cfg.horizon)) * dt
        centers = s.scene.centers(times)
        chosen = nearest(self.system, guess[0][1:], centers, s.scene, cfg.slots)
        planes = supporting(self.system, guess[0][1:], centers, s.scene, margins, chosen, cfg.slots)
        goal = np.array([s.scene.goal.x, s.scene.goal.y])
        ref = candidate[0][1:, list(self.system.position)]
        spare = clock.left() > SECOND_TRY_S
        return self.nlp.solve(s.start, s.theta, goal, ref, planes, weights, guess, second_try=spare)
