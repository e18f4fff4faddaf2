"""Settings of the planner."""

import math
from dataclasses import dataclass, fields

from safeplan.errors import ConfigError

LEAST = {k: 1 for k in ("horizon", "attempts", "replan_every", "passes", "slots", "max_iter", "proposals", "steps")}


@dataclass(frozen=True)
class PlannerConfig:
    """Risk-bounded planning. Times in s, lengths in m, costs per step unless said otherwise."""

    gamma: float = 0.01  # bound on the collision probability of a plan, tail included
    delta: float = 0.05  # 1 - confidence of the certificate; attempt j spends delta / 2^j
    horizon: int = 20  # steps of the plan
    tail: int = 4  # steps at rest after it that are certified too
    stand_s: float = 0.0  # s, for which no obstacle may drive into where a plan ends, by its nominal motion
    latency: int = 3  # steps that pass while a plan is computed; they are taken over from the previous plan
    replan_every: int = 3  # steps between plans
    deadline_s: float = 0.0  # a plan that takes longer is dropped, the previous one goes on; 0: latency steps
    clock: str = "wall"  # "wall", or "cpu" for studies on shared machines: time of this process only
    attempts: int = 3  # proposals that may be tried for a certificate
    proposals: int = 8  # trajectories asked from the proposer
    steps: int = 5  # of the diffusion sampler that draws them
    explore: int = 6  # lines to the sides and back that compete with learned proposals; 0: none
    rank_particles: int = 16  # Sobol particles per proposal
    particles: int = 128  # Sobol particles that set the tightening and the risk estimate (a power of two)
    passes: int = 2  # linearisations of the obstacles
    margin: float = 0.01  # least nominal clearance beyond the tightening
    inflate: float = 1.2  # factor on the tightening of the first attempt
    inflate_step: float = 0.35  # added to it at every further attempt
    slots: int = 8  # obstacles that enter the optimiser, nearest to the plan
    authority: float = 0.75  # share of the control bounds that a plan may use; the rest is left to the feedback
    max_iter: int = 80  # of the optimiser: its deadline
    w_goal: float = 1.0  # distance to the goal (per m)
    w_track: float = 0.5  # squared distance to the proposal (per m^2)
    w_control: float = 0.02  # squared controls, relative to their bounds
    w_smooth: float = 0.05  # squared change of controls, relative to their bounds
    w_brake: float = 20.0  # squared speed components, in a safe stop
    rest_tol: float = 0.1  # largest speed component (and thrust) at which a plan may end, in their units
    w_slack: float = 200.0  # violated clearance (per m)
    uncertainty: bool = True  # False: no tightening, no certificate (the rival that ignores uncertainty)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            kind = (int, float) if f.type is float else f.type
            if not isinstance(value, kind) or (isinstance(value, bool) and f.type is not bool):  # type: ignore[arg-type]
                raise ConfigError(f"planner.{f.name} = {value!r}: must be of type {f.type.__name__}")  # type: ignore[union-attr]
            if f.type is float and not math.isfinite(value):
                raise ConfigError(f"planner.{f.name} = {value}: must be finite")
            low = LEAST.get(f.name, 0)
            if f.type in (int, float) and value < low:
                raise ConfigError(f"planner.{f.name} = {value}: must be at least {low}")
        for name in ("gamma", "delta"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"planner.{name} = {getattr(self, name)}: must lie in (0, 1)")
        if not 0 < self.authority <= 1:
            raise ConfigError(f"planner.authority = {self.authority}: must lie in (0, 1]")
        if self.latency == 0 and self.deadline_s == 0:
            raise ConfigError("planner.latency = 0: a plan then has no deadline; give planner.deadline_s too")
        for name in ("particles", "rank_particles"):
            if getattr(self, name) < 2 or getattr(self, name) & (getattr(self, name) - 1):
                raise ConfigError(f"planner.{name} = {getattr(self, name)}: must be a power of two, such as 128")
        if self.clock not in ("wall", "cpu"):
            raise ConfigError(f"planner.clock = {self.clock!r}: choose 'wall' or 'cpu'")
        if self.latency > self.replan_every:
            raise ConfigError(
                f"planner.latency = {self.latency} exceeds planner.replan_every = {self.replan_every}: a plan must be "
                "finished before the next one starts"
            )
