"""Estimators of where a system can be, behind one interface (`Fitted`): what a method for densities has to beat."""

from safeplan.reach.rivals.bins import Histogram, histogram
from safeplan.reach.rivals.convex import Hull, hull
from safeplan.reach.rivals.counting import Count, count
from safeplan.reach.rivals.emulator import Emulated, gaussian_process
from safeplan.reach.rivals.fitted import Fitted
from safeplan.reach.rivals.grid import GridSet, grid_reach
from safeplan.reach.rivals.kernel import Kde, kde
from safeplan.reach.rivals.runs import Runs, simulate
from safeplan.reach.rivals.triangulated import Triangulated, delaunay
from safeplan.reach.rivals.unscented import Gaussian, sigma_points
from safeplan.reach.rivals.verified import Verified, interval_reach

__all__ = [
    "Count",
    "Emulated",
    "Fitted",
    "Gaussian",
    "GridSet",
    "Histogram",
    "Hull",
    "Kde",
    "Runs",
    "Triangulated",
    "Verified",
    "count",
    "delaunay",
    "gaussian_process",
    "grid_reach",
    "histogram",
    "hull",
    "interval_reach",
    "kde",
    "sigma_points",
    "simulate",
]
