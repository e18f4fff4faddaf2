"""Point robot: the 4-state unicycle of FISOR's toy task, with v in [0, 2]."""

import numpy as np

from safeplan.dynamics.system import Quantity, System
from safeplan.types import CutNormalBelief


def unicycle() -> System:
    """The system `point_robot`: states px, py, v, yaw; controls acceleration (m/s^2) and turn rate (rad/s)."""

    def f(t, x, u, theta, xp):
        _, _, v, yaw = x
        acc, turn = u
        ga, gw, dw = theta
        # v stays in [0, 2]: acceleration acts only while it does not push v out
        a = ga * xp.clip(acc, -20 * v, 20 * (2 - v))
        return v * xp.cos(yaw), v * xp.sin(yaw), a, gw * turn + dw

    return System(
        name="point_robot",
        states=(
            Quantity("px", "m"),
            Quantity("py", "m"),
            Quantity("v", "m/s", 0.0, 2.0),
            Quantity("yaw", "rad", angle=True),
        ),
        controls=(Quantity("acc", "m/s^2", -1.0, 1.0), Quantity("turn", "rad/s", -1.0, 1.0)),
        params=(
            Quantity("gain_acc", "1", nominal=1.0),
            Quantity("gain_turn", "1", nominal=1.0),
            Quantity("dw", "rad/s"),
        ),
        f=f,
        footprint=((0.0, 0.0, 0.05),),
        yaw=3,
        at_rest=lambda x, xp: (x[2],),
        state_cost=(4.0, 4.0, 1.0, 4.0),
        control_cost=(1.0, 1.0),
        dt=0.05,
        substeps=1,
        accel_bound=3.5,
    )


def unicycle_belief(x: np.ndarray) -> CutNormalBelief:
    """A stated, not measured, belief around start state `x [4]`."""
    return CutNormalBelief(
        x_mean=x,
        x_sd=np.array([0.01, 0.01, 0.02, 0.01]),
        theta_mean=np.array([1.0, 1.0, 0.0]),
        theta_sd=np.array([0.03, 0.03, 0.02]),
        per_stretch=np.array([False, False, True]),
        stretch_s=0.5,
    )
