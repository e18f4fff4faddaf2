"""Propose, judge, optimise, certify, replan; and brake to a safe stop when nothing holds. Never raises for a scene."""

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.system import System
from safeplan.planning.candidates import Candidates
from safeplan.planning.checks import input_fault, scene_fault
from safeplan.planning.config import PlannerConfig
from safeplan.planning.follow import Follower
from safeplan.planning.judge import Judge, nominal_clearance
from safeplan.planning.nlp import Nlp, Solution, Weights
from safeplan.planning.propose import FanProposer, Proposer
from safeplan.planning.references import advance, assemble, coast, hold
from safeplan.planning.setting import Clock, Late, Setting
from safeplan.reach import certify
from safeplan.types import Array, Belief, Certificate, Plan, Reference, Scene, Status


class Planner:
    """Risk-bounded planner of one system.

    Args:
        system: the vehicle.
        cfg: settings.
        proposer: source of proposals; None plans from the previous plan and a straight line only.
    """

    def __init__(self, system: System, cfg: PlannerConfig | None = None, proposer: Proposer | None = None):
        self.system, self.cfg, self.proposer = system, cfg or PlannerConfig(), proposer
        self.nlp = Nlp(system, self.cfg)
        self.judge = Judge(system, self.cfg)
        speeds = [abs(q.high) for q in system.states if q.unit == "m/s" and np.isfinite(q.high)]
        self.straight = FanProposer(system, self.cfg.horizon, 0.6 * max(speeds, default=1.0))
        self.follower = Follower(system, self.cfg, self.nlp, self.judge)
        self.candidates = Candidates(system, self.cfg, self.nlp, self.judge, self.straight.speed)

    def plan(
        self,
        belief: Belief,
        scene: Scene,
        *,
        previous: Plan | None = None,
        deadline_s: float | None = None,
        generator: np.random.Generator | None = None,
    ) -> Plan:
        """Plan from `belief` in `scene`, both as of now.

        The first `latency` steps of the answer are those of `previous` (already advanced to now), because they are
        flown while this is computed. The status says what the answer is; a plan that is not CERTIFIED is a safe stop,
        with two exceptions: OUT_OF_SUPPORT plans that could be certified along hand-made lines move on (the message
        says which), and where `cfg.uncertainty` is off plans move on UNCERTIFIED.

        Args:
            deadline_s: time that planning may take (s); None: the config's, which is `latency` steps unless set, and no
                limit where there is no previous plan: nothing is flown yet.
            generator: of everything random; None: fresh, so that no certificate reuses the samples of another.
        """
        limit = np.inf if previous is None else self.cfg.deadline_s or self.cfg.latency * self.system.dt
        clock = Clock(limit if deadline_s is None else deadline_s, self.cfg.clock)
        rng = np.random.default_rng() if generator is None else generator
        status = Status.BAD_INPUT
        try:
            fault = input_fault(self.system, belief, scene)
            if not fault:
                return self._plan(belief, scene, previous, clock, rng)
        except Exception as error:  # the control loop must go on; the message says what broke
            status, fault = Status.FAILED, f"planning failed: {type(error).__name__}: {error}"
        return self._hold(belief, scene, previous, status, fault, clock)

    def _plan(
        self, belief: Belief, scene: Scene, previous: Plan | None, clock: Clock, rng: np.random.Generator
    ) -> Plan:
        cfg = self.cfg
        total = cfg.latency + cfg.horizon + cfg.tail
        x, theta = belief.mean()
        if previous is None:
            committed = coast(self.nlp, x, theta, total)
        else:
            committed = advance(self.nlp, previous.reference, 0, total, theta)
        start = self.judge.nominal_state(belief, committed, cfg.latency)
        setting = Setting(belief, scene, theta, committed, self._wrapped(start))
        status, message = scene_fault(self.system, x, scene)
        if status is not None:
            return self._stop(setting, previous, status, message, clock, rng)
        ready = None if previous is None else self._ready(setting, previous)
        clock.lap("guard")
        try:
            return self._search(setting, previous, clock, rng)
        except Late:
            message = f"planning took longer than {clock.limit:.3g} s"
            return self._stop(setting, previous, Status.LATE, message, clock, rng, ready)
        except Exception as error:
            message = f"planning failed: {type(error).__name__}: {error}"
            return self._stop(setting, previous, Status.FAILED, message, clock, rng)

    def _wrapped(self, x: Array) -> Array:
        """Angles within pi of their nominal value, so that no plan turns a full circle back."""
        nominal = np.array([q.nominal for q in self.system.states])
        return np.where(self.system.angles, nominal + self.system.difference(x, nominal), x)

    # ------------------------------------------------------------ search
    def _search(self, s: Setting, previous: Plan | None, clock: Clock, rng: np.random.Generator) -> Plan:
        cfg = self.cfg
        ahead = s.scene.at(cfg.latency * self.system.dt)
        warm = self.candidates.warm(s, previous)
        good, note = Status.CERTIFIED if cfg.uncertainty else Status.UNCERTIFIED, ""
        if self.proposer is None:
            made = self.straight(s.start, ahead, 1, 0)
        else:
            made = self.proposer(s.start, ahead, cfg.proposals, int(rng.integers(2**62)))
            if not made.supported:  # what was learned is not trusted; hand-made lines need no logs
                made = self.straight(s.start, ahead, cfg.proposals, 0)
                good, note = Status.OUT_OF_SUPPORT, "lines instead of proposals, the state is unlike their logs; "
        clock.lap("propose")
        candidates, scores = self.candidates.rank(s, warm, made)
        order = np.argsort(scores, kind="stable")
        clock.lap("rank")
        best: tuple[float, Status, str] = (np.inf, Status.INFEASIBLE, "no candidate was tried")
        weights = Weights(cfg.w_goal, 0.0 if self.proposer is None else cfg.w_track, 0.0)
        spent = clock.left()
        for attempt in range(1, cfg.attempts + 1):
            if attempt > 1 and clock.left() < (spent - clock.left()) / (attempt - 1):
                break  # another attempt would come late
            pick = int(order[min(attempt - 1, len(order) - 1)])
            candidate = (candidates.states[pick], candidates.controls[pick])
            inflate = cfg.inflate + cfg.inflate_step * (attempt - 1)
            found, risk, reference = self.follower.follow(s, candidate, weights, inflate, clock)
            if not found.converged:
                best = min(best, (2.0, Status.INFEASIBLE, f"the optimiser ({found.solver}) did not converge"))
                continue
            fault = self._unrest(found)
            if not fault and not self.judge.lasts(s, found.states[-1:])[0]:
                fault = f"the plan ends where it would be run into within {cfg.stand_s:.3g} s"
            if fault:
                best = min(best, (2.0, Status.INFEASIBLE, fault))
                continue
            certificate = None
            if cfg.uncertainty:
                if risk.estimate > cfg.gamma:
                    text = f"estimated risk {risk.estimate:.3g} exceeds {cfg.gamma:.3g}"
                    best = min(best, (risk.estimate, Status.UNCERTIFIED, text))
                    continue
                certificate = self._certify(s, reference, attempt, rng)
                clock.lap("certify")
                if not certificate.holds:
                    text = f"certified bound {certificate.upper:.3g} exceeds {cfg.gamma:.3g}"
                    best = min(best, (certificate.upper, Status.UNCERTIFIED, text))
                    continue
            clock.check()
            return Plan(
                reference,
                good,
                f"{note}attempt {attempt} of {cfg.attempts}",
                s.belief,
                s.scene,
                cfg.latency,
                cfg.latency + cfg.horizon,
                risk,
                certificate,
                nominal_clearance(self.system, reference, s.scene),
                candidates.states[:, :, list(self.system.position)],
                pick,
                clock.laps,
            )
        status = good if good is Status.OUT_OF_SUPPORT else best[1]
        return self._stop(s, previous, status, f"{note}no attempt held; best: {best[2]}", clock, rng)

    def _unrest(self, found: Solution) -> str:
        """Why the end of a plan is no rest, or an empty string."""
        off = self._motion(found.states[-1])
        return f"the plan does not end at rest (off by {off:.3g})" if off > self.cfg.rest_tol else ""

    def _motion(self, x: Array) -> float:
        """The largest of what is 0 at rest."""
        return float(np.abs(np.array(self.system.at_rest(tuple(x), NUMPY), float)).max(initial=0.0))

    def _certify(self, s: Setting, reference: Reference, attempt: int, rng: np.random.Generator) -> Certificate:
        return certify(
            self.system,
            reference,
            s.belief,
            s.scene,
            gamma=self.cfg.gamma,
            delta=self.cfg.delta,
            attempt=attempt,
            seed=int(rng.integers(2**62)),
            used=self.judge.seeds,
        )

    # ------------------------------------------------------------ safe stops
    def _ready(self, s: Setting, previous: Plan) -> tuple[str, Reference]:
        """What is flown when everything else comes late: the rest of the previous plan, which ends at rest, or braking
        now where what was measured since then makes that safer."""
        total = self.cfg.latency + self.cfg.horizon + self.cfg.tail
        kept = ("the previous plan to its end", advance(self.nlp, s.committed, 0, total, s.theta))
        if not self.cfg.uncertainty:
            return kept
        risk = self.judge.risk(s, kept[1])
        if risk <= self.cfg.gamma:
            return kept
        brake = self._brake(s)
        return brake if self.judge.risk(s, brake[1]) < risk else kept

    def _stop(
        self,
        s: Setting,
        previous: Plan | None,
        status: Status,
        message: str,
        clock: Clock,
        rng: np.random.Generator,
        ready: tuple[str, Reference] | None = None,
    ) -> Plan:
        """The safer of two safe stops: the one that is ready (the rest of the previous plan) or braking now.

        What is ready costs no time to take. Braking and the stop's own certificate are looked at while there is time:
        a first plan always is, since nothing else is there to be flown.
        """
        cfg = self.cfg
        total = cfg.latency + cfg.horizon + cfg.tail
        timely = previous is None or clock.left() > 0.3 * clock.limit
        options: list[tuple[str, Reference]] = []
        if previous is not None:
            kept = ("the previous plan to its end", advance(self.nlp, s.committed, 0, total, s.theta))
            options.append(kept if ready is None else ready)
        if timely:
            options.append(self._brake(s))
        risk, certificate = None, None
        name, reference = options[0]
        if timely:
            judged = [(self.judge.tightening(s, r)[0], name, r) for name, r in options]
            risk, name, reference = min(judged, key=lambda o: o[0].estimate)
            if cfg.uncertainty:
                certificate = self._certify(s, reference, cfg.attempts + 1, rng)
        if len(options) > 1 and previous is not None and clock.left() < 0:  # looking took too long: take what was ready
            name, reference = options[0]
            risk, certificate, status = None, None, Status.LATE
        clock.lap("stop")
        return Plan(
            reference,
            status,
            f"{message}; safe stop: {name}",
            s.belief,
            s.scene,
            cfg.latency,
            len(reference.controls) - cfg.tail,
            risk,
            certificate,
            nominal_clearance(self.system, reference, s.scene),
            timings=clock.laps,
        )

    def _brake(self, s: Setting) -> tuple[str, Reference]:
        cfg = self.cfg
        still = coast(self.nlp, s.start, s.theta, cfg.horizon)
        guess = (still.states, still.controls)
        margins = np.full((cfg.horizon, len(s.scene.obstacles) + 1), cfg.margin)
        found = self.follower.solve(s, guess, guess, margins, Weights(0.0, 0.0, cfg.w_brake), Clock(0.0))
        name = "braking now"
        if not found.converged:
            held = hold(self.nlp, s.start, cfg.horizon, s.theta)
            found, name = Solution(held.states, held.controls, np.inf, False, "none", 0), "back to where it is"
        if fault := self._unrest(found):
            name += f" ({fault})"
        return name, assemble(self.nlp, s.committed, found, s.theta, cfg)

    def _hold(
        self, belief: Belief, scene: Scene, previous: Plan | None, status: Status, fault: str, clock: Clock
    ) -> Plan:
        """Input that cannot be simulated: keep to the previous plan, or hold zero controls."""
        cfg, n, m = self.cfg, self.system.n, self.system.m
        total = cfg.latency + cfg.horizon + cfg.tail
        if previous is not None:
            reference = advance(self.nlp, previous.reference, 0, total, self.system.theta)
        else:
            reference = Reference(
                np.zeros((total + 1, n)), np.zeros((total, m)), np.zeros((total, m, n)), self.system.dt
            )
        clock.lap("stop")
        text, moving = f"{fault}; safe stop", total - cfg.tail
        return Plan(reference, status, text, belief, scene, cfg.latency, moving, timings=clock.laps)
