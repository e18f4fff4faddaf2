"""The closed table of cases by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from safeplan.dynamics.systems.case import Case
from safeplan.dynamics.systems.double_integrator import double_integrator
from safeplan.dynamics.systems.ground_robot import ground_robot
from safeplan.dynamics.systems.kraichnan_orszag import kraichnan_orszag
from safeplan.dynamics.systems.pendulum import pendulum
from safeplan.dynamics.systems.planar_hovercraft import planar_hovercraft
from safeplan.dynamics.systems.quadrotor import quadrotor
from safeplan.dynamics.systems.tracked import factest_car, factest_hovercraft, uncertain_car
from safeplan.dynamics.systems.van_der_pol import van_der_pol
from safeplan.errors import ConfigError
from safeplan.schema import did_you_mean

CASES: Mapping[str, Callable[[], Case]] = MappingProxyType(
    {
        "vdp": van_der_pol,
        "dint": double_integrator,
        "kop": kraichnan_orszag,
        "pend": pendulum,
        "robot": ground_robot,
        "car": uncertain_car,
        "quad": quadrotor,
        "factest_car": factest_car,
        "factest_hovercraft": factest_hovercraft,
        "hovercraft": planar_hovercraft,
    }
)


def systems() -> tuple[str, ...]:
    """Names of all cases."""
    return tuple(CASES)


def system(name: str) -> Case:
    """The case `name`.

    Raises:
        ConfigError: no such name.
    """
    if name not in CASES:
        raise ConfigError(f"system={name} is unknown.{did_you_mean(name, CASES)} Choose one of: {', '.join(CASES)}")
    return CASES[name]()
