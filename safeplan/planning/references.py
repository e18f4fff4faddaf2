"""References: put together, advanced in time, held at the end."""

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.system import System
from safeplan.planning.config import PlannerConfig
from safeplan.planning.nlp import Nlp, Solution
from safeplan.planning.tracking import lqr_gains
from safeplan.types import Array, Reference


def with_gains(nlp: Nlp, states: Array, controls: Array, theta: Array) -> Reference:
    """A reference with its tracking gains."""
    A, B = nlp.jacobians(states, controls, theta)
    return Reference(states, controls, lqr_gains(nlp.system, A, B), nlp.system.dt)


def standing(system: System, x: Array) -> Array:
    """State `x [n]` with every entry that `at_rest` looks at set to 0."""
    moves = [np.any(np.array(system.at_rest(tuple(e), NUMPY), float)) for e in np.eye(system.n)]
    return np.where(moves, 0.0, x)


def hold(nlp: Nlp, x: Array, steps: int, theta: Array) -> Reference:
    """Stand still at `x [n]` for `steps` steps; tracked from motion, it brakes and returns there."""
    x = standing(nlp.system, x)
    return with_gains(nlp, np.tile(x, (steps + 1, 1)), np.zeros((steps, nlp.system.m)), theta)


def coast(nlp: Nlp, x: Array, theta: Array, steps: int) -> Reference:
    """Zero controls from `x [n]` for `steps` steps: what is flown before there is a plan."""
    controls = np.zeros((steps, nlp.system.m))
    return with_gains(nlp, nlp.simulate(x, controls, theta), controls, theta)


def advance(nlp: Nlp, r: Reference, steps: int, length: int, theta: Array) -> Reference:
    """Drop the first `steps` steps; stand still at the end so that at least `length` steps remain."""
    states, controls, gains = r.states[steps:], r.controls[steps:], r.gains[steps:]
    more = length - len(controls)
    if more > 0:
        last = states[-1] if len(states) else r.states[-1]
        still = hold(nlp, last, more, theta)
        states = np.concatenate([states if len(states) else last[None], still.states[1:]])
        controls = np.concatenate([controls, still.controls])
        gains = np.concatenate([gains, still.gains])
    return Reference(states, controls, gains, r.dt)


def assemble(nlp: Nlp, committed: Reference, found: Solution, theta: Array, cfg: PlannerConfig) -> Reference:
    """Committed steps, then the optimised ones, then the tail: standing still where they end."""
    controls = np.concatenate([found.controls, np.zeros((cfg.tail, nlp.system.m))])
    tail = np.tile(standing(nlp.system, found.states[-1]), (cfg.tail, 1))
    own = with_gains(nlp, np.concatenate([found.states, tail]), controls, theta)
    k = cfg.latency
    return Reference(
        np.concatenate([committed.states[:k], own.states]),
        np.concatenate([committed.controls[:k], own.controls]),
        np.concatenate([committed.gains[:k], own.gains]),
        nlp.system.dt,
    )
