"""References: put together, advanced in time, held at the end."""

import numpy as np

from safeplan.planning.config import PlannerConfig
from safeplan.planning.nlp import Nlp, Solution
from safeplan.planning.tracking import lqr_gains
from safeplan.types import Array, Reference


def with_gains(nlp: Nlp, states: Array, controls: Array, theta: Array) -> Reference:
    """A reference with its tracking gains."""
    A, B = nlp.jacobians(states, controls, theta)
    return Reference(states, controls, lqr_gains(nlp.system, A, B), nlp.system.dt)


def coast(nlp: Nlp, x: Array, theta: Array, cfg: PlannerConfig) -> Reference:
    """Zero controls from `x [n]`: what is flown before there is a plan."""
    controls = np.zeros((cfg.latency + cfg.horizon + cfg.tail, nlp.system.m))
    return with_gains(nlp, nlp.simulate(x, controls, theta), controls, theta)


def advance(nlp: Nlp, r: Reference, steps: int, length: int, theta: Array) -> Reference:
    """Drop the first `steps` steps; go on with zero controls so that at least `length` steps remain."""
    states, controls, gains = r.states[steps:], r.controls[steps:], r.gains[steps:]
    more = length - len(controls)
    if more > 0:
        last = states[-1] if len(states) else r.states[-1]
        extra = np.zeros((more, nlp.system.m))
        tail = nlp.simulate(last, extra, theta)
        states = np.concatenate([states, tail[1:]]) if len(states) else tail
        controls = np.concatenate([controls, extra])
        gains = np.concatenate([gains, np.repeat(r.gains[-1:], more, 0)])
    return Reference(states, controls, gains, r.dt)


def assemble(nlp: Nlp, committed: Reference, found: Solution, theta: Array, cfg: PlannerConfig) -> Reference:
    """Committed steps, then the optimised ones, then the tail with zero controls."""
    controls = np.concatenate([found.controls, np.zeros((cfg.tail, nlp.system.m))])
    tail = nlp.simulate(found.states[-1], controls[len(found.controls) :], theta)
    own = with_gains(nlp, np.concatenate([found.states, tail[1:]]), controls, theta)
    k = cfg.latency
    return Reference(
        np.concatenate([committed.states[:k], own.states]),
        np.concatenate([committed.controls[:k], own.controls]),
        np.concatenate([committed.gains[:k], own.gains]),
        nlp.system.dt,
    )
