"""What a vehicle is: its equations, written once, and the facts that planner, density and simulator share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from safeplan.dynamics.equations import Dynamics, Equations, Quantity, is_index, is_number
from safeplan.errors import ConfigError

__all__ = ["Dynamics", "Equations", "Quantity", "System", "rk4", "runge_kutta", "step"]


@dataclass(frozen=True)
class System(Equations):
    """A controlled vehicle: its `Equations` and what a planner needs to know of it.

    Args:
        footprint: discs `(dx, dy, r)` in the body frame (m) that cover the vehicle.
        position: indices of the planar position in the state.
        yaw: index of the heading, or None when the footprint is one centred disc.
        at_rest: `(x, xp) -> tuple` of components that vanish when the vehicle stands still.
        accel_bound: bound on the acceleration of any footprint point (m/s^2) that the controls, the speeds and the
            belief allow; certificates rest on it between checked times. Required.
        state_cost, control_cost: LQR weights (diagonals) of the tracking controller.
        regulate: weights `[n]` that pull states to their nominal values in a plan (a heading, a cruise speed).
    """

    footprint: tuple[tuple[float, float, float], ...]
    at_rest: Callable[[Any, Any], tuple]
    state_cost: tuple[float, ...]
    control_cost: tuple[float, ...]
    regulate: tuple[float, ...] = ()
    position: tuple[int, int] = (0, 1)
    yaw: int | None = None
    accel_bound: float = float("nan")

    def __post_init__(self) -> None:
        super().__post_init__()
        n = len(self.states)
        self._need(len(self.controls) > 0, "controls", self.controls, "at least one Quantity")
        self._need(callable(self.at_rest), "at_rest", self.at_rest, "a function")
        self._costs("state_cost", self.state_cost, n, 0.0)
        self._costs("control_cost", self.control_cost, len(self.controls), 1e-12)
        if len(self.regulate):
            self._costs("regulate", self.regulate, n, 0.0)
        fits = len(self.position) == 2 and len({*self.position}) == 2 and all(is_index(i, n) for i in self.position)
        self._need(fits, "position", self.position, f"two different indices of states, 0 to {n - 1}")
        self._need(
            self.yaw is None or is_index(self.yaw, n), "yaw", self.yaw, f"None or an index of states, 0 to {n - 1}"
        )
        self._need(len(self.footprint) > 0, "footprint", self.footprint, "at least one disc (dx, dy, r)")
        for disc in self.footprint:
            sound = len(disc) == 3 and all(map(is_number, disc)) and disc[2] > 0
            self._need(sound, "footprint", disc, "discs (dx, dy, r) in m with r > 0")
        centred = len(self.footprint) == 1 and self.footprint[0][0] == self.footprint[0][1] == 0
        if self.yaw is None and not centred:
            raise ConfigError(
                f"system {self.name!r}: a footprint of several discs needs `yaw`, the index of the heading, and so "
                f"does one disc off the centre; it is {self.footprint}"
            )
        if not (is_number(self.accel_bound) and self.accel_bound > 0):
            raise ConfigError(
                f"system {self.name!r}: accel_bound = {self.accel_bound}; give the largest acceleration (m/s^2) that a "
                "footprint point can have, or certificates would not hold between checked times"
            )

    def _costs(self, what: str, values: Sequence[float], size: int, low: float) -> None:
        if len(values) != size:
            raise ConfigError(f"system {self.name!r}: {what} has {len(values)} entries, expected {size}")
        sound = all(is_number(v) and v >= low for v in values)
        self._need(sound, what, values, f"finite numbers {'above' if low else 'of at least'} 0")


def runge_kutta(f: Callable[[Any, tuple], tuple], t: Any, x: tuple, h: float, xp: Any) -> tuple:
    """One classical Runge-Kutta step of `h` seconds of dx/dt = f(t, x), for a tuple of arrays and their rates."""

    def ahead(s: float, k: tuple) -> tuple:
        return tuple(xp.plus(a, s, b) for a, b in zip(x, k, strict=True))

    k1 = f(t, x)
    k2 = f(t + h / 2, ahead(h / 2, k1))
    k3 = f(t + h / 2, ahead(h / 2, k2))
    k4 = f(t + h, ahead(h, k3))
    return ahead(h / 6, tuple(xp.plus(a, 2, b + c) + d for a, b, c, d in zip(k1, k2, k3, k4, strict=True)))


def rk4(system: Equations, t: Any, x: Any, u: Sequence[Any], theta: Sequence[Any], h: float, xp: Any) -> Any:
    """The same for packed states `x [n, ...]`; works on every backend."""

    def f(time, parts):
        return (xp.pack(system.f(time, xp.unpack(parts[0]), u, theta, xp)),)

    return runge_kutta(f, t, (x,), h, xp)[0]


def step(system: Equations, t: Any, x: Any, u: Sequence[Any], theta: Sequence[Any], xp: Any) -> Any:
    """One control step of `system.dt` seconds for packed `x`: `substeps` RK4 steps with the control held."""
    h = system.dt / system.substeps
    for i in range(system.substeps):
        x = rk4(system, t + i * h, x, u, theta, h, xp)
    return x
