"""Quadrotor with tilt and thrust as controls, under a neural controller that imitates an MPC."""

import numpy as np

from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.mlp import load_mlp
from safeplan.dynamics.mpc import Mpc
from safeplan.dynamics.start import uniform
from safeplan.dynamics.systems.case import Case
from safeplan.dynamics.systems.neural import neural_loop

GRAVITY = 9.8  # m/s^2
TILT = float(np.tan(np.pi / 9))  # tangent of the largest tilt
START = ((4.65, 4.65, 2.95, 0.94, -0.05, -0.5), (4.75, 4.75, 3.05, 0.96, 0.05, 0.5))


def quadrotor_plant() -> Equations:
    """p' = v, v' = (g u1, -g u2, u3 - g): tangents of pitch and roll, and the thrust by mass."""

    def f(t, x, u, theta, xp):
        _, _, _, vx, vy, vz = x
        pitch, roll, thrust = u
        return vx, vy, vz, GRAVITY * pitch, -GRAVITY * roll, thrust - GRAVITY

    return Equations(
        "quad",
        tuple(Quantity(f"p{k}", "m") for k in "xyz") + tuple(Quantity(f"v{k}", "m/s") for k in "xyz"),
        (
            Quantity("pitch", "1", -TILT, TILT),
            Quantity("roll", "1", -TILT, TILT),
            Quantity("thrust", "m/s^2", 0.0, 2 * GRAVITY, nominal=GRAVITY),
        ),
        (),
        f,
        dt=0.1,
        substeps=4,
        divergence=lambda t, x, u, theta, xp: 0.0 * x[5],
    )


def quadrotor_mpc() -> Mpc:
    """To rest at the origin."""

    def far(x):
        px, py, pz, vx, vy, vz = x
        return px * px + py * py + pz * pz + 0.4 * (vx * vx + vy * vy + vz * vz)

    def stage(x, u, xp):
        pitch, roll, thrust = u
        return far(x) + 100.0 * (pitch * pitch + roll * roll) + 0.2 * xp.square(thrust - GRAVITY)

    return Mpc(quadrotor_plant(), stage, lambda x, xp: 10 * far(x), dt=0.1, steps=20)


def quadrotor() -> Case:
    """Case `quad` [density_corl]: within 0.05 m of (4.7, 4.7, 3), vx .94 to .96, vy +- .05, vz +- .5, for 1.1 s."""
    network = load_mlp("quad")
    return Case(
        neural_loop(quadrotor_plant(), network, ((0, 3, GRAVITY), (1, 4, -GRAVITY), (2, 5, 1.0))),
        uniform(*START),
        11,
        "density_corl",
        plant=quadrotor_plant(),
        controller=network,
        chosen=("neural controller: trained here, tanh instead of ReLU", "limits of tilt and thrust"),
    )
