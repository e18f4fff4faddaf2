"""Names that are known, and what a setting may be: one error that names it, the value and the remedy."""

import difflib
import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

from safeplan.errors import ConfigError

ENVS = ("hovercraft", "driving", "point_robot")


IMAGES = ("mnist", "fashion", "cifar10")


PLANNERS = ("safeplan", "mpc", "fisor", "density_mpc", "fan")


LIMITED = ("bc_safe", "bcq_lag", "cpq", "coptidice")  # rivals that are trained for one cost limit


RIVALS = ("bc", *LIMITED, "cdt", "trebi")  # of FISOR


POLICIES = ("fisor", "one_step", "trajectory", "image", "classifier", *RIVALS)


DATA = ("point_robot", "hovercraft", "driving", "velocity", "dsrl", "file", *IMAGES)


CASES = (
    "vdp",
    "dint",
    "kop",
    "pend",
    "robot",
    "car",
    "quad",
    "factest_car",
    "factest_hovercraft",
    "hovercraft",
)


SAMPLERS = ("euler", "ddim", "ddpm", "heun", "dpmpp_2m")


DEVICES = ("auto", "cpu", "cuda")


MISSING: Any = "???"  # OmegaConf's mark of a value that must be given


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing."""
    close = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Raise ConfigError unless `value` is known (or still missing)."""
    known = list(known)
    if value not in (*known, MISSING):
        raise ConfigError(f"{name}={value} is unknown.{did_you_mean(value, known)} Choose one of: {', '.join(known)}")


def at_least(name: str, value: float, low: float) -> None:
    """Raise ConfigError when `value` is below `low`."""
    if not value >= low:
        raise ConfigError(f"{name}={value}: must be at least {low}")


RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {  # what is expected, whether a value is that
    "count": ("a whole number of at least 1", lambda v: isinstance(v, Integral) and int(v) >= 1),
    "count or 0": ("a whole number of at least 0", lambda v: isinstance(v, Integral) and int(v) >= 0),
    "finite": ("a finite number", lambda v: math.isfinite(v)),
    "positive": ("a finite number above 0", lambda v: 0 < v < math.inf),
    "not negative": ("a finite number of at least 0", lambda v: 0 <= v < math.inf),
    "limit": ("a number of at least 0 (inf: no limit)", lambda v: v >= 0),
    "at least 1": ("a finite number of at least 1", lambda v: 1 <= v < math.inf),
    "inside (0, 1)": ("a number between 0 and 1, both excluded", lambda v: 0 < v < 1),
    "in [0, 1)": ("a number of at least 0 and below 1", lambda v: 0 <= v < 1),
    "in (0, 1]": ("a number above 0 and at most 1", lambda v: 0 < v <= 1),
}


def each_in_range(name: str, values: Iterable[Any], kind: str) -> None:
    """Raise ConfigError for an entry out of range; `kind`: key of RANGES."""
    expected, holds = RANGES[kind]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real) or not holds(value):
            raise ConfigError(f"{name} is {value!r}, expected {expected}")


def in_range(settings: Any, prefix: str, names: dict[str, str]) -> None:
    """Raise ConfigError for a setting out of range; `names`: key of RANGES -> settings, separated by spaces."""
    for kind, listed in names.items():
        for name in listed.split():
            each_in_range(f"{prefix}.{name}", [getattr(settings, name)], kind)
