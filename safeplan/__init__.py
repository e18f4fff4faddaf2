"""Safe planning under uncertainty: diffusion proposals, risk-bounded optimisation, certified plans.

The names below are the public face; the rest of the package is reached by module. Nothing heavy is imported until used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safeplan.dynamics import Quantity, System
    from safeplan.errors import SafeplanError
    from safeplan.planning import Mission, Planner, PlannerConfig, run_mission
    from safeplan.training import load, train
    from safeplan.types import Certificate, CutNormalBelief, Goal, Obstacle, Plan, Scene, Status

__version__ = "0.1.0"

_HOME = {
    "Certificate": "types",
    "CutNormalBelief": "types",
    "Goal": "types",
    "Mission": "planning",
    "Obstacle": "types",
    "Plan": "types",
    "Planner": "planning",
    "PlannerConfig": "planning",
    "Quantity": "dynamics",
    "SafeplanError": "errors",
    "Scene": "types",
    "Status": "types",
    "System": "dynamics",
    "load": "training",
    "run_mission": "planning",
    "train": "training",
}

__all__ = [
    "Certificate",
    "CutNormalBelief",
    "Goal",
    "Mission",
    "Obstacle",
    "Plan",
    "Planner",
    "PlannerConfig",
    "Quantity",
    "SafeplanError",
    "Scene",
    "Status",
    "System",
    "__version__",
    "load",
    "run_mission",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'safeplan' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module(f"safeplan.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
