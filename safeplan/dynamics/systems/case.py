"""A closed loop as the density literature studies it: equations, controller, start, domain and horizon in one object.

Uncertain constants are *parameters* of the equations, not states, though the published benchmarks append them to the
state. Their rate is zero, so they add nothing to the divergence and the log-gain is the same function either way:
log rho(x, theta, t) = log rho0(x0, theta) + gain. As parameters they cost no VJPs and no integration, they may change
from stretch to stretch, and they go through `safeplan.reach` as every other system's do.

Outside the domain, which is the bounds of the states: the equations stay defined and no function here raises or
clips. A neural controller extrapolates within its control bounds; a state that grows without limit ends as inf or NaN,
which `reach.collision_risk` counts as a collision. `Case.inside` says which particles may be trusted.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from safeplan.dynamics.equations import Divergence, Equations, Quantity
from safeplan.errors import ConfigError
from safeplan.types import Array, Belief, Obstacle, Reference

Controller = Callable[[tuple, Any], tuple]


@dataclass(frozen=True)
class Case:
    """One system of the density work.

    Args:
        loop: the closed loop. Its controls are what a plan would still choose (the reference's speeds); often none.
        start: distribution of start state and parameters.
        steps: horizon in steps of `loop.dt`; the published count of stored times less one.
        source: key of the paper in `safeplan.papers` whose setting this is.
        command: `[m]` values at which the plan's controls are held.
        plant, controller: what the loop was closed from, `controller(x, xp) -> u`. No plant: nobody steers. A plant
            without: the law needs the reference too, see `tracking`.
        obstacles: what the literature puts in the way.
        chosen: what was chosen here because the source does not say, or differs on purpose.
    """

    loop: Equations
    start: Belief
    steps: int
    source: str
    command: tuple[float, ...] = ()
    plant: Equations | None = None
    controller: Controller | None = None
    obstacles: tuple[Obstacle, ...] = ()
    chosen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        x, theta = self.start.mean()
        for what, got, want in (
            ("start has states", len(x), self.loop.n),
            ("start has parameters", len(theta), self.loop.p),
            ("command has values", len(self.command), self.loop.m),
        ):
            if got != want:
                raise ConfigError(f"case {self.name!r}: {what}: {got}, expected {want} as in its equations")

    @property
    def name(self) -> str:
        return self.loop.name

    @property
    def horizon_s(self) -> float:
        return self.steps * self.loop.dt

    @property
    def reference(self) -> Reference:
        """The plan over the horizon: controls held at `command`, no feedback beside the one inside the loop."""
        n, m, N = self.loop.n, self.loop.m, self.steps
        return Reference(np.zeros((N + 1, n)), np.tile(self.command, (N, 1)), np.zeros((N, m, n)), self.loop.dt)

    def inside(self, x: Array) -> Array:
        """`[...]` whether states `x [..., n]` lie in the domain; NaN does not."""
        low = np.array([q.low for q in self.loop.states])
        high = np.array([q.high for q in self.loop.states])
        return np.all((x >= low) & (x <= high), axis=-1)


def close(
    plant: Equations,
    controller: Controller,
    *,
    states: tuple[Quantity, ...],
    divergence: Divergence | None,
    name: str | None = None,
) -> Equations:
    """The plant with `controller` inside, acting continuously: no controls left. `states` carry the loop's domain."""

    def f(t, x, u, theta, xp):
        return plant.f(t, x, controller(x, xp), theta, xp)

    loop = Equations(plant.name, states, (), plant.params, f, dt=plant.dt, substeps=plant.substeps)
    return replace(loop, name=name or plant.name, divergence=divergence)
