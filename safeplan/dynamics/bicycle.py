"""Kinematic bicycle car: reference point on the rear axle, throttle gain, steering bias and drag uncertain."""

import numpy as np

from safeplan.dynamics.system import Quantity, System
from safeplan.types import CutNormalBelief

LENGTH, WIDTH, WHEELBASE = 3.8, 1.7, 2.5  # m


def bicycle() -> System:
    """The system `bicycle`: states px, py, yaw, v; controls acceleration (m/s^2) and steering angle (rad)."""

    def f(t, x, u, theta, xp):
        _, _, yaw, v = x
        acc, steer = u
        gain, bias, ax, aw = theta
        return (
            v * xp.cos(yaw),
            v * xp.sin(yaw),
            v * xp.tan(steer + bias) / WHEELBASE + v * aw,
            gain * acc + ax * xp.tanh(2 * v),
        )

    def divergence(t, x, u, theta, xp):
        _, _, _, v = x
        _, _, ax, _ = theta
        return ax * 2 * (1 - xp.square(xp.tanh(2 * v)))

    third, mid = LENGTH / 3, WHEELBASE / 2
    r = float(np.hypot(third / 2, WIDTH / 2))
    return System(
        name="bicycle",
        states=(
            Quantity("px", "m"),
            Quantity("py", "m"),
            Quantity("yaw", "rad", angle=True),
            Quantity("v", "m/s", -2.0, 9.0, nominal=6.0),
        ),
        controls=(Quantity("acc", "m/s^2", -5.0, 3.0), Quantity("steer", "rad", -0.5, 0.5)),
        params=(
            Quantity("gain", "1", nominal=1.0),
            Quantity("bias", "rad"),
            Quantity("ax", "m/s^2"),
            Quantity("aw", "rad/m"),
        ),
        f=f,
        divergence=divergence,
        footprint=((mid - third, 0.0, r), (mid, 0.0, r), (mid + third, 0.0, r)),
        yaw=2,
        at_rest=lambda x, xp: (x[3],),
        state_cost=(1.0, 1.0, 6.0, 1.0),
        control_cost=(0.5, 20.0),
        regulate=(0.0, 0.0, 0.5, 0.01),
        dt=0.2,
        substeps=2,
        accel_bound=26.0,
    )


def bicycle_belief(x: np.ndarray) -> CutNormalBelief:
    """A stated, not measured, belief around start state `x [4]`: localisation noise, actuator gain and bias, gusts."""
    return CutNormalBelief(
        x_mean=x,
        x_sd=np.array([0.05, 0.05, 0.01, 0.1]),
        theta_mean=np.array([1.0, 0.0, 0.0, 0.0]),
        theta_sd=np.array([0.1, 0.01, 0.3, 0.008]),
        per_stretch=np.array([False, False, True, True]),
        stretch_s=1.0,
    )
