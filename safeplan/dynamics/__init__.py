"""Systems written once for NumPy, PyTorch and CasADi, and distances between what they drive past."""

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.system import Equations, Quantity, System, rk4, step

__all__ = ["NUMPY", "Equations", "Quantity", "System", "rk4", "step"]
