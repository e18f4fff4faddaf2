"""A vehicle of your own: a drone in the plane, with an uncertain thrust gain and gusts.

safeplan plan system.file=scripts/examples/my_vehicle.py scene=scripts/examples/scene.yaml
"""

import numpy as np

from safeplan.dynamics import Quantity, System
from safeplan.types import CutNormalBelief


def f(t, x, u, theta, xp):
    """Accelerations (m/s^2) with linear drag; components in, a tuple out, functions from `xp` only."""
    _, _, vx, vy = x
    ax, ay = u
    gain, wind_x, wind_y = theta
    return vx, vy, gain * ax - 0.4 * vx + wind_x, gain * ay - 0.4 * vy + wind_y


system = System(
    name="drone",
    states=(
        Quantity("px", "m"),
        Quantity("py", "m"),
        Quantity("vx", "m/s", -1.5, 1.5),
        Quantity("vy", "m/s", -1.5, 1.5),
    ),
    controls=(Quantity("ax", "m/s^2", -1.5, 1.5), Quantity("ay", "m/s^2", -1.5, 1.5)),
    params=(Quantity("gain", "1", nominal=1.0), Quantity("wind_x", "m/s^2"), Quantity("wind_y", "m/s^2")),
    f=f,
    footprint=((0.0, 0.0, 0.15),),  # one disc of 0.15 m
    at_rest=lambda x, xp: (x[2], x[3]),  # what vanishes in a safe stop
    state_cost=(4.0, 4.0, 1.0, 1.0),
    control_cost=(1.0, 1.0),
    dt=0.1,
    accel_bound=3.5,
)


def belief(x):
    """What is not known: the start (a few mm and mm/s), the gain (once), the gusts (anew every half second)."""
    return CutNormalBelief(
        x_mean=x,
        x_sd=np.array([0.005, 0.005, 0.01, 0.01]),
        theta_mean=np.array([1.0, 0.0, 0.0]),
        theta_sd=np.array([0.05, 0.08, 0.08]),
        per_stretch=np.array([False, True, True]),
        stretch_s=0.5,
    )
