"""Ground robot that drives past a disc under a neural controller that imitates an MPC."""

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.mlp import load_mlp
from safeplan.dynamics.mpc import Mpc
from safeplan.dynamics.start import uniform
from safeplan.dynamics.system import rk4
from safeplan.dynamics.systems.case import Case
from safeplan.dynamics.systems.neural import neural_loop
from safeplan.types import Array, Obstacle

DISC = 0.8  # m, radius of the obstacle at the origin
MARGIN = 0.25  # m, that the MPC keeps beside it
GOAL = (1.5, 1.0)  # m
WAYPOINT = (0.4, -1.2)  # m, on the side on which it passes
TOP_SPEED = 2.5  # m/s
START = ((-1.8, -1.8, 0.0, 1.0), (-1.2, -1.2, 1.57, 1.5))


def ground_robot_plant() -> Equations:
    """Unicycle: states px, py, yaw, v; controls turn rate and acceleration, both within +- 4."""

    def f(t, x, u, theta, xp):
        _, _, yaw, v = x
        turn, acc = u
        return v * xp.cos(yaw), v * xp.sin(yaw), turn, acc

    return Equations(
        "robot",
        (
            Quantity("px", "m"),
            Quantity("py", "m"),
            Quantity("yaw", "rad", angle=True),
            Quantity("v", "m/s"),
        ),
        (Quantity("turn", "rad/s", -4.0, 4.0), Quantity("acc", "m/s^2", -4.0, 4.0)),
        (),
        f,
        dt=0.05,
        substeps=2,
        divergence=lambda t, x, u, theta, xp: 0.0 * x[3],
    )


def ground_robot_mpc() -> Mpc:
    """To the goal, past the disc on its lower right: behind it, up and left, the way counts as blocked.

    Without that the best side would change from start to start, and no smooth network could imitate the jump.
    """
    h = float(np.sqrt(0.5))

    def stage(x, u, xp):
        px, py, _, v = x
        turn, acc = u
        along = xp.maximum(h * (py - px), 0.0)  # nearest point of the ray from the centre to the upper left
        off = xp.sqrt(xp.square(px + h * along) + xp.square(py - h * along) + 1e-6)
        near = xp.square(xp.maximum(DISC + MARGIN - off, 0.0))
        fast = xp.square(xp.maximum(v - TOP_SPEED, 0.0)) + xp.square(xp.maximum(-v, 0.0))
        return miss(x) + 0.2 * (turn * turn + acc * acc) + 200 * near + 10 * fast

    def miss(x):
        px, py, _, _ = x
        return (px - GOAL[0]) ** 2 + (py - GOAL[1]) ** 2

    def final(x, xp):
        return 5 * miss(x) + 0.5 * x[3] * x[3]

    return Mpc(ground_robot_plant(), stage, final, dt=0.1, steps=20, guess=pursuit)


def pursuit(x: Array) -> Array:
    """First guess of the MPC, controls `[20, 2]`: turn to the way point, past it to the goal, at a cruising speed."""
    plant, out = ground_robot_plant(), []
    for _ in range(20):
        px, py, yaw, v = x
        tx, ty = WAYPOINT if px + py < WAYPOINT[0] + WAYPOINT[1] else GOAL
        off = np.arctan2(ty - py, tx - px) - yaw
        pace = min(2.0, 1.5 * np.hypot(GOAL[0] - px, GOAL[1] - py))
        u = np.array([4.0 * np.arctan2(np.sin(off), np.cos(off)), 3.0 * (pace - v)])
        out.append(np.clip(u, plant.control_low, plant.control_high))
        x = rk4(plant, 0.0, x, tuple(out[-1]), (), 0.1, NUMPY)
    return np.array(out)


def ground_robot() -> Case:
    """Case `robot` [density_corl]: from [-1.8, -1.2]^2, yaw [0, 1.57], v [1, 1.5], for 2.45 s, a disc of 0.8 m at 0."""
    network = load_mlp("robot")
    return Case(
        neural_loop(ground_robot_plant(), network, ((0, 2, 1.0), (1, 3, 1.0))),
        uniform(*START),
        49,
        "density_corl",
        plant=ground_robot_plant(),
        controller=network,
        obstacles=(Obstacle(0.0, 0.0, DISC),),
        chosen=(
            "neural controller: trained here, tanh instead of ReLU",
            "goal",
            "the side on which it passes the disc",
        ),
    )
