"""Trial calls of what a user's own vehicle file defines, so that a bug in it is named before anything is planned."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.system import Quantity, System
from safeplan.errors import ConfigError
from safeplan.types import Array, CutNormalBelief


def line_of(error: BaseException, path: Path) -> str:
    """` in line 7`, the innermost line of the file that an error passed through; empty when there is none."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == path.name]
    return f" in line {lines[-1]}" if lines else ""


def nominal(quantities: Sequence[Quantity]) -> tuple[float, ...]:
    """Nominal values, cut to their bounds."""
    return tuple(float(np.clip(q.nominal, q.low, q.high)) for q in quantities)


def try_system(path: Path, system: System) -> None:
    """Call `f`, `at_rest` and `divergence` as the planner will: with numbers, with particles, and with CasADi.

    Raises:
        ConfigError: they fail, or return something of another size.
    """
    import casadi as ca

    from safeplan.dynamics.backends import CASADI

    x, u, th = nominal(system.states), nominal(system.controls), nominal(system.params)
    many = tuple(tuple(np.full(3, v) for v in vs) for vs in (x, u, th))
    named = zip("xut", (x, u, th), strict=True)
    symbols = tuple(tuple(ca.SX.sym(f"{s}{i}") for i in range(len(v))) for s, v in named)
    rates = f"{system.n} rates, those of {', '.join(q.name for q in system.states)}"
    for how, (a, b, c), xp in (
        ("numbers", (x, u, th), NUMPY),
        ("NumPy arrays", many, NUMPY),
        ("CasADi symbols", symbols, CASADI),
    ):
        call = _Call(path, system, how)
        call("f(t, x, u, theta, xp)", lambda: system.f(0.0, a, b, c, xp), system.n, rates)  # noqa: B023
        call("at_rest(x, xp)", lambda: system.at_rest(a, xp), None, "what vanishes at rest")  # noqa: B023
        if (divergence := system.divergence) is not None:
            what = "divergence(t, x, u, theta, xp)"
            call(what, lambda d=divergence: (d(0.0, a, b, c, xp),), 1, "a number")  # noqa: B023


@dataclass(frozen=True)
class _Call:
    """One trial call of a function of the user's, and its faults in words."""

    path: Path
    system: System
    how: str

    def __call__(self, what: str, call: Callable[[], Any], size: int | None, expected: str) -> None:
        who, s = f"system.file={self.path}: {what}", self.system
        try:
            with np.errstate(all="ignore"):
                out = call()
        except (Exception, SystemExit) as e:
            sizes = ", ".join(f"{k} {len(q)}" for k, q in (("x", s.states), ("u", s.controls), ("theta", s.params)))
            raise ConfigError(
                f"{who} failed{line_of(e, self.path)} on {self.how} with {type(e).__name__}: {e}. Components: {sizes}; "
                "use functions of `xp` only, and no `if` on a component"
            ) from e
        if not isinstance(out, tuple | list):
            raise ConfigError(f"{who} returned {_short(out)} on {self.how}, expected a tuple: {expected}")
        if len(out) != size if size is not None else not out:
            raise ConfigError(f"{who} returned {len(out)} components on {self.how}, expected {expected}")
        for i, part in enumerate(out):
            if not self._sound(part):
                raise ConfigError(
                    f"{who} returned {_short(part)} as component {i} on {self.how}, expected one number per particle; "
                    "return each component by itself, made of components and functions of `xp`"
                )

    def _sound(self, part: Any) -> bool:
        if self.how == "CasADi symbols":
            import casadi as ca

            return isinstance(part, ca.SX | int | float) and ca.SX(part).shape == (1, 1)
        try:
            return np.asarray(part, float).shape in ((), *(((3,),) if self.how == "NumPy arrays" else ()))
        except (TypeError, ValueError):
            return False


def try_belief(path: Path, system: System, belief: Callable[[Array], Any], x: Array) -> CutNormalBelief:
    """`belief(x)`, checked."""
    who = f"system.file={path}: belief(x)"
    try:
        made = belief(x)
    except (Exception, SystemExit) as e:
        raise ConfigError(
            f"{who} failed{line_of(e, path)} with {type(e).__name__}: {e}. x is an array of {system.n} numbers"
        ) from e
    if not isinstance(made, CutNormalBelief):
        raise ConfigError(f"{who} returned {_short(made)}, expected a safeplan.types.CutNormalBelief")
    for name, size in (("x_mean", system.n), ("theta_mean", system.p)):  # its sd have the same shapes
        value = getattr(made, name)
        if value.shape != (size,):
            raise ConfigError(f"{who} has {name} of shape {value.shape}, expected ({size},) for system {system.name!r}")
    for name, low in (("x_mean", -np.inf), ("x_sd", 0.0), ("theta_mean", -np.inf), ("theta_sd", 0.0)):
        value = getattr(made, name)
        if not (np.isfinite(value).all() and (value >= low).all()):
            raise ConfigError(
                f"{who} has {name} = {value.tolist()}, expected finite numbers{' of at least 0' if low == 0 else ''}"
            )
    for name in ("stretch_s", "cut"):
        value = getattr(made, name)
        if not (isinstance(value, int | float) and 0 < value < np.inf):
            raise ConfigError(f"{who} has {name} = {value!r}, expected a finite number above 0")
    return made


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
