"""Simulated trajectories of a case at one time: what estimators of its density are fitted on."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from safeplan.dynamics.systems import Case
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.reach.particles import rollout, sobol_draw, stretches
from safeplan.types import Array, Belief, Draw

SAMPLERS = ("iid", "sobol")
MOST = 1 << 13  # particles that are moved at a time: their whole paths are held in memory


@dataclass(frozen=True)
class Runs:
    """`N` trajectories of `case` seen at their start and at time `t`, each of the same weight.

    Args:
        t: time (s).
        x0: start states `[N, n]`; theta: parameters `[N, S, p]`; x: states at `t` `[N, n]`.
        log_rho: log-density `[N]` of (x, theta) at `t`, nats; None: not computed.

    Raises:
        ShapeError: arrays that do not fit each other, or a state that is not finite.
    """

    case: Case
    t: float
    x0: Array
    theta: Array
    x: Array
    log_rho: Array | None = None

    def __post_init__(self) -> None:
        n, p = self.case.loop.n, self.case.loop.p
        N = len(self.x0)
        rho = (N,) if self.log_rho is None else self.log_rho.shape
        if self.x0.shape != (N, n) or self.x.shape != (N, n) or self.theta.shape[::2] != (N, p) or rho != (N,):
            raise ShapeError(
                f"Runs of {self.case.name}: x0 {self.x0.shape}, theta {self.theta.shape}, x {self.x.shape}, log_rho "
                f"{rho}; expected [N, {n}], [N, S, {p}], [N, {n}] and [N]"
            )
        if not np.isfinite(self.x).all():
            raise ShapeError(
                f"Runs of {self.case.name}: {int((~np.isfinite(self.x)).any(1).sum())} of {N} states at t = {self.t:g} "
                "s are not finite: the system escapes from this start; choose an earlier time"
            )

    @property
    def inputs(self) -> Array:
        """Start state and parameters that vary, `[N, d]`: what the flow map is a function of."""
        return _varying(np.hstack([self.x0, self.theta.reshape(len(self.x0), -1)]))

    @property
    def constants(self) -> Array:
        """Parameters that vary between trajectories, `[N, q]`."""
        return _varying(self.theta.reshape(len(self.x0), -1))


def _varying(z: Array) -> Array:
    """Columns of `z` that are not constant, each once: a parameter that holds for good is the same in every stretch."""
    keep: list[int] = []
    for j in np.flatnonzero(np.ptp(z, axis=0) > 0):
        if not any(np.array_equal(z[:, i], z[:, j]) for i in keep):
            keep.append(int(j))
    return z[:, keep]


def until(case: Case, steps: int | None) -> Case:
    """The case with a horizon of `steps`; None: its own.

    Raises:
        ConfigError: steps outside 0 .. the case's own.
    """
    if steps is None:
        return case
    if not 0 <= steps <= case.steps:
        raise ConfigError(f"case {case.name!r}: steps = {steps}, expected 0 to {case.steps}, its horizon")
    return replace(case, steps=steps)


def draw(case: Case, n: int, seed: int, sampler: str = "sobol") -> Draw:
    """`n` starts of a case and parameters for its whole horizon; Sobol points need a power of two.

    Raises:
        ConfigError: an unknown sampler. CapabilityError: Sobol points of a belief without `push`, or another number.
    """
    count = stretches(case.horizon_s, case.start.stretch_s)
    if sampler not in SAMPLERS:
        raise ConfigError(f"sampler = {sampler!r} is unknown. Choose one of: {', '.join(SAMPLERS)}")
    if sampler == "sobol":
        return sobol_draw(case.start, n, count, seed)
    return case.start.sample(n, count, np.random.default_rng(seed))


def corners(case: Case, who: str) -> Draw:
    """Low and high ends of the start states and of the parameters: a draw of two.

    Raises:
        CapabilityError: a belief without `push` or without ends, or parameters that are drawn anew on the way.
    """
    start: Any = case.start
    if stretches(case.horizon_s, start.stretch_s) > 1:
        raise CapabilityError(
            f"{who}: {case.name} draws parameters anew every {start.stretch_s:g} s, so its start does not hold all "
            "that is uncertain; use `count`"
        )
    if not (hasattr(start, "push") and hasattr(start, "dim")):
        raise CapabilityError(
            f"{who}: belief {type(start).__name__} has no `push` from the unit cube, which says where the start ends; "
            "use `count`"
        )
    d = start.dim(1)
    found = start.push(np.stack([np.zeros(d), np.ones(d)]), 1)
    if not (np.isfinite(found.x).all() and np.isfinite(found.theta).all()):
        raise CapabilityError(f"{who}: belief {type(start).__name__} has no ends; cut it, or use `count`")
    return found


def ends(case: Case, start: Draw) -> Array:
    """States `[N, n]` at the end of the horizon, particles in groups so that memory stays small."""
    if not case.steps:
        return start.x.copy()
    groups = [Draw(start.x[i : i + MOST], start.theta[i : i + MOST]) for i in range(0, len(start.x), MOST)]
    with np.errstate(over="ignore", invalid="ignore"):  # those that escape to infinity are NaN or infinite
        parts = [rollout(case.loop, g, case.reference, case.start.stretch_s).states[-1] for g in groups]
    return np.concatenate(parts, axis=1).T


def simulate(
    case: Case, n: int, steps: int | None = None, *, seed: int = 0, sampler: str = "sobol", density: bool = False
) -> Runs:
    """`n` trajectories of a case after `steps` steps of its `dt`; None: at its horizon.

    Args:
        density: also carry the exact log-density along (`reach.density.characteristics`).

    Raises:
        CapabilityError: `density` for a belief without `log_prob`.
    """
    case = until(case, steps)
    start = draw(case, n, seed, sampler)
    if not density:
        return Runs(case, case.horizon_s, start.x, start.theta, ends(case, start))
    log_prob = log_density_of(case.start)
    if not case.steps:
        return Runs(case, 0.0, start.x, start.theta, start.x.copy(), log_prob(start))
    import torch

    from safeplan.reach.density import characteristics

    x0, theta = (torch.as_tensor(a, dtype=torch.float64) for a in start)
    flow = characteristics(case.loop, x0, theta, case.reference, case.start.stretch_s, open_loop=True)
    rho = log_prob(start) + flow.gain[-1].numpy()
    return Runs(case, case.horizon_s, start.x, start.theta, flow.states[-1].T.numpy(), rho)


def log_density_of(belief: Belief):
    """`log_prob` of a belief.

    Raises:
        CapabilityError: it has none.
    """
    found = getattr(belief, "log_prob", None)
    if found is None:
        raise CapabilityError(
            f"belief {type(belief).__name__} has no `log_prob(draw)`, so the density at the start is unknown: add it, "
            "or use an estimator that counts"
        )
    return found
