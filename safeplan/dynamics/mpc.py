"""A receding-horizon controller in CasADi, built once: the teacher that neural controllers imitate."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from safeplan.dynamics.equations import Equations
from safeplan.dynamics.system import rk4
from safeplan.errors import PlanError
from safeplan.types import Array

Cost = Callable[[tuple, tuple, Any], Any]


class Mpc:
    """First control of `min sum stage(x_k, u_k, xp) + final(x_N)` within the control bounds; multiple shooting, IPOPT.

    Args:
        plant: its nominal parameters are used.
        stage: `(x, u, xp) -> cost` of components; limits on states go in as penalties: then every state has an answer.
        final: `(x, xp) -> cost` of the last state.
        dt: seconds per step, the control held; steps: how many.
        guess: `x [n] -> controls [steps, m]` where the search begins; it picks the way round an obstacle. None: the
            middle of the bounds.
    """

    def __init__(
        self,
        plant: Equations,
        stage: Cost,
        final: Callable[[tuple, Any], Any],
        *,
        dt: float,
        steps: int,
        guess: Callable[[Array], Array] | None = None,
    ):
        import casadi as ca

        from safeplan.dynamics.backends import CASADI as xp

        middle = np.tile((plant.control_low + plant.control_high) / 2, (steps, 1))
        self.plant, self.dt, self.steps = plant, dt, steps
        self._guess = guess or (lambda x: middle)
        n, m, theta = plant.n, plant.m, tuple(plant.theta)
        x0 = ca.SX.sym("x0", n)
        xs = [ca.SX.sym(f"x{k + 1}", n) for k in range(steps)]
        us = [ca.SX.sym(f"u{k}", m) for k in range(steps)]
        cost, gaps = 0, []
        for k, (x, u, after) in enumerate(zip([x0, *xs[:-1]], us, xs, strict=True)):
            held = xp.unpack(u)
            gaps.append(after - rk4(plant, k * dt, x, held, theta, dt, xp))
            cost += stage(xp.unpack(after), held, xp)
        cost += final(xp.unpack(xs[-1]), xp)
        var = ca.vertcat(*(part for pair in zip(us, xs, strict=True) for part in pair))
        free = np.full(n, np.inf)
        self._low = np.tile(np.concatenate([plant.control_low, -free]), steps)
        self._high = np.tile(np.concatenate([plant.control_high, free]), steps)
        self._roll = ca.Function("F", [x0, us[0]], [rk4(plant, 0.0, x0, xp.unpack(us[0]), theta, dt, xp)])
        options = {"print_time": False, "ipopt": {"print_level": 0, "sb": "yes", "max_iter": 300, "tol": 1e-8}}
        problem = {"x": var, "f": cost, "g": ca.vertcat(*gaps), "p": x0}
        self._solver = ca.nlpsol("mpc", "ipopt", problem, options)
        self._problem = ca.Function("P", [var, x0], [cost, problem["g"]])

    def solve(self, x: Array) -> Array:
        """Controls `[steps, m]` from state `x [n]`; a function of the state alone, nothing is kept between calls.

        Raises:
            PlanError: the search did not converge.
        """
        start, z = [], x
        for u in self._guess(x):
            z = np.asarray(self._roll(z, u)).ravel()
            start += [u, z]
        out = self._solver(x0=np.concatenate(start), p=x, lbx=self._low, ubx=self._high, lbg=0.0, ubg=0.0)
        stats = self._solver.stats()
        if not stats["success"]:
            raise PlanError(
                f"MPC of {self.plant.name!r}: no optimum from state {x.tolist()} ({stats['return_status']}); start "
                "nearer to the domain"
            )
        return np.asarray(out["x"]).reshape(self.steps, -1)[:, : self.plant.m]

    def fingerprint(self) -> str:
        """Digest of the problem: its bounds, and cost, gaps and first guess at three fixed points to 6 digits."""
        rng = np.random.default_rng(0)
        values = [self._low, self._high, np.array([self.dt])]
        for _ in range(3):
            x = rng.normal(size=self.plant.n)
            parts = (*self._problem(rng.normal(size=len(self._low)), x), self._guess(x))
            values += [np.asarray(part).ravel() for part in parts]
        text = " ".join(f"{v:.6g}" for v in np.concatenate(values))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __call__(self, x: Array) -> Array:
        """The first control `[m]` at state `x [n]`."""
        return self.solve(x)[0]
