"""The systems of the density work, each a closed loop with its start, domain and horizon: `system("vdp")`."""

from safeplan.dynamics.systems.case import Case, close
from safeplan.dynamics.systems.table import system, systems

__all__ = ["Case", "close", "system", "systems"]
