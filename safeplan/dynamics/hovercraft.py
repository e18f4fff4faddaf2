"""Planar hovercraft with six ducted motors in three opposed pairs and first-order motor lag.

States px, py, yaw, vx, vy, w and the thrust of each pair; controls are the commanded pair thrusts. Geometry and
parameters come from `hovercraft.json`, which `scripts/fit_hovercraft.py` writes from recordings of real craft.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.dynamics.system import Quantity, System
from safeplan.types import CUT, CutNormalBelief

PAIRS = ("a", "b", "c")
PARAMS = ("gain_a", "gain_b", "gain_c", "tau", "drag", "spin", "ax", "ay", "aw")
UNITS = ("1", "1", "1", "s", "1/s", "1/s", "m/s^2", "m/s^2", "rad/s^2")
DISTURBANCES = ("ax", "ay", "aw")
RADIUS = 0.07  # m, of the real craft


def parameters(path: Path | None = None) -> dict[str, Any]:
    """The identified craft: geometry and, per uncertain parameter, mean, sd and the stretch of the disturbances."""
    file = path or resources.files("safeplan.dynamics") / "hovercraft.json"
    return json.loads(file.read_text())


def hovercraft(craft: dict[str, Any] | None = None) -> System:
    """The system `hovercraft` [holohover]: 9 states, 3 controls (N), 9 uncertain parameters."""
    c = craft or parameters()
    m, inertia, top = c["mass"], c["inertia"], c["max_thrust"]
    (dax, day), (dbx, dby), (dcx, dcy) = c["pair_direction"]
    la, lb, lc = c["pair_arm"]

    def f(t, x, u, theta, xp):
        _, _, yaw, vx, vy, w, fa, fb, fc = x
        ua, ub, uc = u
        ga, gb, gc, tau, drag, spin, ax, ay, aw = theta
        cy, sy = xp.cos(yaw), xp.sin(yaw)
        bx = (dax * fa + dbx * fb + dcx * fc) / m
        by = (day * fa + dby * fb + dcy * fc) / m
        return (
            vx,
            vy,
            w,
            cy * bx - sy * by - drag * vx + ax,
            sy * bx + cy * by - drag * vy + ay,
            (la * fa + lb * fb + lc * fc) / inertia - spin * w + aw,
            (ga * ua - fa) / tau,
            (gb * ub - fb) / tau,
            (gc * uc - fc) / tau,
        )

    def divergence(t, x, u, theta, xp):
        _, _, _, tau, drag, spin, *_ = theta
        return -2 * drag - spin - 3 / tau

    mean = {k: c["belief"][k]["mean"] for k in PARAMS}
    return System(
        name="hovercraft",
        states=(
            Quantity("px", "m"),
            Quantity("py", "m"),
            Quantity("yaw", "rad", angle=True),
            Quantity("vx", "m/s", -1.0, 1.0),
            Quantity("vy", "m/s", -1.0, 1.0),
            Quantity("w", "rad/s", -6.0, 6.0),
            *(Quantity(f"f{k}", "N", -1.5 * top, 1.5 * top) for k in PAIRS),
        ),
        controls=tuple(Quantity(f"u{k}", "N", -top, top) for k in PAIRS),
        params=tuple(Quantity(k, unit, nominal=mean[k]) for k, unit in zip(PARAMS, UNITS, strict=True)),
        f=f,
        divergence=divergence,
        footprint=((0.0, 0.0, RADIUS),),
        yaw=2,
        at_rest=lambda x, xp: x[3:],
        state_cost=(600.0, 600.0, 30.0, 30.0, 30.0, 0.3, 0.0, 0.0, 0.0),
        control_cost=(8.0, 8.0, 8.0),
        regulate=(0.0, 0.0, 0.3, 0.0, 0.0, 0.02, 0.0, 0.0, 0.0),
        dt=0.1,
        substeps=2,
        accel_bound=_accel_bound(c),
    )


def _accel_bound(c: dict[str, Any]) -> float:
    """Largest acceleration (m/s^2) within the cut of the belief, at up to 1.5 m/s."""

    def high(name: str) -> float:
        return c["belief"][name]["mean"] + CUT * c["belief"][name]["sd"]

    thrust = 2 * c["max_thrust"] * max(high(f"gain_{k}") for k in PAIRS) / c["mass"]
    return 1.02 * (thrust + np.hypot(high("ax"), high("ay")) + 1.5 * high("drag"))


def hovercraft_belief(x: np.ndarray, craft: dict[str, Any] | None = None) -> CutNormalBelief:
    """The shipped belief around start state `x [9]`: measurement noise of the pose, parameters as identified."""
    c = craft or parameters()
    b = c["belief"]
    return CutNormalBelief(
        x_mean=x,
        x_sd=np.array(c["state_sd"]),
        theta_mean=np.array([b[k]["mean"] for k in PARAMS]),
        theta_sd=np.array([b[k]["sd"] for k in PARAMS]),
        per_stretch=np.array([k in DISTURBANCES for k in PARAMS]),
        stretch_s=c["stretch_s"],
    )
