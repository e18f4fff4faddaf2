"""Candidates for one plan: what the previous plan meant to do, what was proposed, ways out; and their order."""

import numpy as np

from safeplan.dynamics.system import System
from safeplan.planning.config import PlannerConfig
from safeplan.planning.judge import Judge
from safeplan.planning.nlp import Nlp
from safeplan.planning.propose import Proposals, home, ways_out
from safeplan.planning.references import advance
from safeplan.planning.setting import Setting
from safeplan.types import Array, Plan

STILL = 0.02  # share of a straight line's length below which a plan stands still


class Candidates:
    """Collects and ranks; `speed` (m/s) is that of a straight line to the goal."""

    def __init__(self, system: System, cfg: PlannerConfig, nlp: Nlp, judge: Judge, speed: float):
        self.system, self.cfg, self.nlp, self.judge, self.speed = system, cfg, nlp, judge, speed

    def warm(self, s: Setting, previous: Plan | None) -> Proposals | None:
        """The rest of the previous plan as a candidate, unless it stands still: that leads nowhere, ever."""
        h, skip = self.cfg.horizon, self.cfg.latency
        if previous is None:
            return None
        r = advance(self.nlp, previous.reference, skip, h, s.theta)
        moves = np.ptp(r.states[: h + 1][:, list(self.system.position)], axis=0).max()
        if moves < STILL * self.speed * self.system.dt * h:
            return None
        states = r.states[: h + 1].copy()
        turn = np.where(self.system.angles, 2 * np.pi * np.round((states[0] - s.start) / (2 * np.pi)), 0.0)
        states -= turn  # the branch of the angles that the start is on
        states[0] = s.start
        return Proposals(states[None], r.controls[None, :h])

    def rank(self, s: Setting, warm: Proposals | None, made: Proposals) -> tuple[Proposals, Array]:
        """All candidates and their scores (low is good): progress plus what the particles say."""
        sets = [p for p in (warm, made) if p is not None]
        ahead = s.scene.at(self.cfg.latency * self.system.dt)
        if made.value is not None and self.cfg.explore:  # the critic can tell whether a way round is worth it
            sets.append(ways_out(self.system, s.start, ahead, self.cfg.horizon, self.cfg.explore, self.speed))
        states = np.concatenate([p.states for p in sets])
        controls = np.concatenate([p.controls for p in sets])
        ix, iy = self.system.position
        goal = s.scene.goal
        far = np.hypot(states[..., ix] - goal.x, states[..., iy] - goal.y)
        start = max(float(np.hypot(s.start[ix] - goal.x, s.start[iy] - goal.y)), 1e-6)
        if made.value is None:
            worth = -(far.mean(axis=1) + far[:, -1])
        else:  # progress made, and what the critic sees from the end on
            end = s.scene.at((self.cfg.latency + states.shape[1] - 1) * self.system.dt)
            worth = made.value(states[:, -1], end) - far[:, -1]
        risks = self.judge.proposal_risks(self.nlp, s, states, controls, made.dynamic)
        score = 2.0 * risks - worth / start + ~self.judge.lasts(s, states[:, -1])
        if warm is not None:
            score[0] -= 0.02  # do not change sides without a reason
        last = home(self.system, s.start, ahead, self.cfg.horizon, self.speed)
        if last is None:
            return Proposals(states, controls), score
        blocked = self.judge.proposal_risks(self.nlp, s, last.states, last.controls, False)
        states, controls = np.concatenate([states, last.states]), np.concatenate([controls, last.controls])
        # this near to the goal a critic's error is as large as what it tells apart
        return Proposals(states, controls), np.append(score, np.where(blocked == 0, score.min() - 1.0, np.inf))
