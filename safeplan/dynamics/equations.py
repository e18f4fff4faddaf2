"""Equations of motion, written once, with names, units, bounds and a divergence: all that a density needs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np

from safeplan.errors import ConfigError

Dynamics = Callable[[Any, Any, Any, Any, Any], tuple]
Divergence = Callable[[Any, Any, Any, Any, Any], Any]


@dataclass(frozen=True)
class Quantity:
    """A state, a control or an uncertain parameter: name, unit, bounds, nominal value; `angle` is wrapped."""

    name: str
    unit: str = ""
    low: float = -float("inf")
    high: float = float("inf")
    nominal: float = 0.0
    angle: bool = False


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number, not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and bool(np.isfinite(float(value)))


def is_index(value: Any, size: int) -> bool:
    """Whether `value` is a whole number from 0 to `size` - 1, not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < size


@dataclass(frozen=True)
class Equations:
    """`xdot = f(t, x, u, theta, xp)`: tuples of components in, a tuple out, no indexing inside.

    What moves particles and carries densities; `System` adds what a planner needs. `controls` may be empty: a closed
    loop, or a system that nobody steers.

    Args:
        states, controls, params: quantities in the order of the components.
        f: continuous dynamics; `xp` is a namespace of `safeplan.dynamics.backends`. It must not depend on t itself
            (what varies in time is a parameter): plans are made and checked from time 0.
        dt: duration of one control step (s), the control held constant.
        substeps: RK4 steps in one control step.
        divergence: `(t, x, u, theta, xp) -> scalar`, div of f in x (1/s); None: computed by VJPs.
    """

    name: str
    states: tuple[Quantity, ...]
    controls: tuple[Quantity, ...]
    params: tuple[Quantity, ...]
    f: Dynamics
    dt: float = field(default=0.1, kw_only=True)
    substeps: int = field(default=2, kw_only=True)
    divergence: Divergence | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._need(len(self.states) > 0, "states", self.states, "at least one Quantity")
        for q in (*self.states, *self.controls, *self.params):
            self._need(isinstance(q, Quantity), "states, controls and params", q, "each a Quantity")
            self._need(np.isfinite(q.nominal), f"{q.name}.nominal", q.nominal, "a finite number")
            self._need(q.low < q.high, f"{q.name}.low, high", (q.low, q.high), "low < high")
        for q in self.controls:
            bounds = (q.low, q.high)
            if not np.isfinite(bounds).all():
                raise ConfigError(f"system {self.name!r}: control {q.name!r} needs finite bounds, has {list(bounds)}")
        self._need(callable(self.f), "f", self.f, "a function")
        self._need(is_number(self.dt) and self.dt > 0, "dt", self.dt, "seconds above 0")
        whole = isinstance(self.substeps, int) and not isinstance(self.substeps, bool)
        self._need(whole and self.substeps >= 1, "substeps", self.substeps, "a whole number of at least 1")

    def _need(self, holds: Any, what: str, value: Any, expected: str) -> None:
        if not holds:
            raise ConfigError(f"system {self.name!r}: {what} is {value!r}, expected {expected}")

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
