"""What a system is: its equations, written once, and the facts that planner, density and simulator share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from safeplan.errors import ConfigError

Dynamics = Callable[[Any, Any, Any, Any, Any], tuple]


@dataclass(frozen=True)
class Quantity:
    """A state, a control or an uncertain parameter: name, unit, bounds, nominal value; `angle` is wrapped."""

    name: str
    unit: str = ""
    low: float = -float("inf")
    high: float = float("inf")
    nominal: float = 0.0
    angle: bool = False


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and bool(np.isfinite(float(value)))


def _index(value: Any, size: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < size


@dataclass(frozen=True)
class System:
    """A controlled system `xdot = f(t, x, u, theta, xp)`: tuples of components in, a tuple out, no indexing inside.

    Args:
        states, controls, params: quantities in the order of the components.
        f: continuous dynamics; `xp` is a namespace of `safeplan.dynamics.backends`. It must not depend on t itself
            (what varies in time is a parameter): plans are made and checked from time 0.
        footprint: discs `(dx, dy, r)` in the body frame (m) that cover the vehicle.
        position: indices of the planar position in the state.
        yaw: index of the heading, or None when the footprint is one centred disc.
        at_rest: `(x, xp) -> tuple` of components that vanish when the vehicle stands still.
        dt: duration of one control step (s), the control held constant.
        substeps: RK4 steps in one control step.
        accel_bound: bound on the acceleration of any footprint point (m/s^2) that the controls, the speeds and the
            belief allow; certificates rest on it between checked times. Required.
        state_cost, control_cost: LQR weights (diagonals) of the tracking controller.
        regulate: weights `[n]` that pull states to their nominal values in a plan (a heading, a cruise speed).
        divergence: `(t, x, u, theta, xp) -> scalar`, div of f in x (1/s); None: computed by VJPs.
    """

    name: str
    states: tuple[Quantity, ...]
    controls: tuple[Quantity, ...]
    params: tuple[Quantity, ...]
    f: Dynamics
    footprint: tuple[tuple[float, float, float], ...]
    at_rest: Callable[[Any, Any], tuple]
    state_cost: tuple[float, ...]
    control_cost: tuple[float, ...]
    regulate: tuple[float, ...] = ()
    position: tuple[int, int] = (0, 1)
    yaw: int | None = None
    dt: float = 0.1
    substeps: int = 2
    accel_bound: float = float("nan")
    divergence: Dynamics | None = None

    def __post_init__(self) -> None:
        n = len(self.states)
        for what, qs in (("states", self.states), ("controls", self.controls)):
            self._need(len(qs) > 0, what, qs, "at least one Quantity")
        for q in (*self.states, *self.controls, *self.params):
            self._need(isinstance(q, Quantity), "states, controls and params", q, "each a Quantity")
            self._need(np.isfinite(q.nominal), f"{q.name}.nominal", q.nominal, "a finite number")
            self._need(q.low < q.high, f"{q.name}.low, high", (q.low, q.high), "low < high")
        for q in self.controls:
            bounds = (q.low, q.high)
            if not np.isfinite(bounds).all():
                raise ConfigError(f"system {self.name!r}: control {q.name!r} needs finite bounds, has {list(bounds)}")
        for what, value in (("f", self.f), ("at_rest", self.at_rest)):
            self._need(callable(value), what, value, "a function")
        self._costs("state_cost", self.state_cost, n, 0.0)
        self._costs("control_cost", self.control_cost, len(self.controls), 1e-12)
        if len(self.regulate):
            self._costs("regulate", self.regulate, n, 0.0)
        fits = len(self.position) == 2 and len({*self.position}) == 2 and all(_index(i, n) for i in self.position)
        self._need(fits, "position", self.position, f"two different indices of states, 0 to {n - 1}")
        self._need(
            self.yaw is None or _index(self.yaw, n), "yaw", self.yaw, f"None or an index of states, 0 to {n - 1}"
        )
        self._need(len(self.footprint) > 0, "footprint", self.footprint, "at least one disc (dx, dy, r)")
        for disc in self.footprint:
            sound = len(disc) == 3 and all(map(_number, disc)) and disc[2] > 0
            self._need(sound, "footprint", disc, "discs (dx, dy, r) in m with r > 0")
        centred = len(self.footprint) == 1 and self.footprint[0][0] == self.footprint[0][1] == 0
        if self.yaw is None and not centred:
            raise ConfigError(
                f"system {self.name!r}: a footprint of several discs needs `yaw`, the index of the heading, and so "
                f"does one disc off the centre; it is {self.footprint}"
            )
        self._need(_number(self.dt) and self.dt > 0, "dt", self.dt, "seconds above 0")
        whole = isinstance(self.substeps, int) and not isinstance(self.substeps, bool)
        self._need(whole and self.substeps >= 1, "substeps", self.substeps, "a whole number of at least 1")
        if not (_number(self.accel_bound) and self.accel_bound > 0):
            raise ConfigError(
                f"system {self.name!r}: accel_bound = {self.accel_bound}; give the largest acceleration (m/s^2) that a "
                "footprint point can have, or certificates would not hold between checked times"
            )

    def _need(self, holds: Any, what: str, value: Any, expected: str) -> None:
        if not holds:
            raise ConfigError(f"system {self.name!r}: {what} is {value!r}, expected {expected}")

    def _costs(self, what: str, values: Sequence[float], size: int, low: float) -> None:
        if len(values) != size:
            raise ConfigError(f"system {self.name!r}: {what} has {len(values)} entries, expected {size}")
        sound = all(_number(v) and v >= low for v in values)
        self._need(sound, what, values, f"finite numbers {'above' if low else 'of at least'} 0")

    @property
    def n(self) -> int:
        return len(self.states)

    @property
    def m(self) -> int:
        return len(self.controls)

    @property
    def p(self) -> int:
        return len(self.params)

    @property
    def control_low(self) -> np.ndarray:
        return np.array([q.low for q in self.controls])

    @property
    def control_high(self) -> np.ndarray:
        return np.array([q.high for q in self.controls])

    @property
    def theta(self) -> np.ndarray:
        """Nominal parameters `[p]`."""
        return np.array([q.nominal for q in self.params])

    @property
    def angles(self) -> np.ndarray:
        """`[n]` true where the state is an angle."""
        return np.array([q.angle for q in self.states], dtype=bool)

    def difference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """`a - b` for states `[..., n]`, angles wrapped to (-pi, pi]."""
        d = np.asarray(a, float) - np.asarray(b, float)
        ang = self.angles
        if ang.any():
            d[..., ang] = np.arctan2(np.sin(d[..., ang]), np.cos(d[..., ang]))
        return d


def rk4(system: System, t: Any, x: Any, u: Sequence[Any], theta: Sequence[Any], h: float, xp: Any) -> Any:
    """One classical Runge-Kutta step of `h` seconds for packed states `x [n, ...]`; works on every backend."""

    def f(time, state):
        return xp.pack(system.f(time, xp.unpack(state), u, theta, xp))

    k1 = f(t, x)
    k2 = f(t + h / 2, x + h / 2 * k1)
    k3 = f(t + h / 2, x + h / 2 * k2)
    k4 = f(t + h, x + h * k3)
    return x + h / 6 * (k1 + 2 * (k2 + k3) + k4)


def step(system: System, t: Any, x: Any, u: Sequence[Any], theta: Sequence[Any], xp: Any) -> Any:
    """One control step of `system.dt` seconds for packed `x`: `substeps` RK4 steps with the control held."""
    h = system.dt / system.substeps
    for i in range(system.substeps):
        x = rk4(system, t + i * h, x, u, theta, h, xp)
    return x
