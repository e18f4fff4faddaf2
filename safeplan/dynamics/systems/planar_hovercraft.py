"""The real planar hovercraft, held in place by a controller: its equations closed for the density work."""

from dataclasses import replace

import numpy as np

from safeplan.dynamics.hovercraft import hovercraft, hovercraft_belief, parameters
from safeplan.dynamics.systems.case import Case, close

STIFF, DAMP = 4.0, 3.0  # 1/s^2 and 1/s, on the position
STIFF_YAW, DAMP_YAW = 60.0, 12.0  # 1/s^2 and 1/s, on the heading
OFFSET = (0.4, -0.3, 0.8)  # m, m, rad: where the start is centred
REACH = (2.0, 2.0, np.inf, 3.0, 3.0, 25.0)  # m, m, rad, m/s, m/s, rad/s: the domain


def planar_hovercraft() -> Case:
    """Case `hovercraft` [holohover]: from about (0.4 m, -0.3 m, 0.8 rad) at rest to the origin, for 3 s.

    Desired accelerations, a spring and a damper each, are turned into pair thrusts by the inverse of the nominal
    geometry and clipped. The controller does not see the thrusts, so the divergence is the open loop's.
    """
    c, plant = parameters(), replace(hovercraft(), dt=0.05, substeps=5)
    mass, inertia, top = c["mass"], c["inertia"], c["max_thrust"]
    # acceleration (body x, body y, spin) -> pair thrusts
    effect = np.vstack([np.array(c["pair_direction"]).T / mass, np.array(c["pair_arm"]) / inertia])
    mix = np.linalg.inv(effect).tolist()

    def controller(x, xp):
        px, py, yaw, vx, vy, w, *_ = x
        ax, ay = -STIFF * px - DAMP * vx, -STIFF * py - DAMP * vy
        c, s = xp.cos(yaw), xp.sin(yaw)
        want = (c * ax + s * ay, c * ay - s * ax, -STIFF_YAW * s - DAMP_YAW * w)
        return tuple(xp.clip(sum(a * b for a, b in zip(row, want, strict=True)), -top, top) for row in mix)

    reach = (*REACH, *(q.high for q in plant.states[6:]))
    states = tuple(replace(q, low=-r, high=r) for q, r in zip(plant.states, reach, strict=True))
    x = np.zeros(plant.n)
    x[:3] = OFFSET
    return Case(
        close(plant, controller, states=states, divergence=plant.divergence),
        hovercraft_belief(x),
        60,
        "holohover",
        plant=plant,
        controller=controller,
        chosen=("controller", "start", "horizon"),
    )
