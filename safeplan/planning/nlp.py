"""The optimiser: multiple shooting in CasADi, built once, every number a parameter; FATROP first, IPOPT when it fails.

Obstacles enter as half-planes that support them at the previous iterate (successive linearisation), so every convex
set costs the same and only the dynamics are nonlinear. Slack in every stage: the problem is never infeasible, and the
slack that remains says whether the plan keeps its clearances.
"""

from typing import NamedTuple

import casadi as ca
import numpy as np

from safeplan.dynamics.backends import CASADI
from safeplan.dynamics.distance import footprint_centers
from safeplan.dynamics.system import System, step
from safeplan.planning.config import PlannerConfig
from safeplan.types import Array


class Weights(NamedTuple):
    """Cost weights of one solve."""

    goal: float
    track: float
    brake: float


class Solution(NamedTuple):
    """States `[H+1, n]`, controls `[H, m]`, largest slack (m), whether the solver converged, its name, iterations."""

    states: Array
    controls: Array
    slack: float
    converged: bool
    solver: str
    iterations: int


class Nlp:
    """One system's planning problem. `solve` may be called with any scene, start and parameters.

    Parameters of the problem, all passed at each call: start, theta, goal, proposal positions, half-planes
    `[H, D, slots + 4, 3]` (outward normal and offset: normal . centre >= offset) and weights.
    """

    def __init__(self, system: System, cfg: PlannerConfig):
        self.system, self.cfg = system, cfg
        n, m, H, D = system.n, system.m, cfg.horizon, len(system.footprint)
        self.faces = cfg.slots + 4
        sx = ca.SX.sym
        x, u, th = sx("x", n), sx("u", m), sx("th", system.p)
        self.F = ca.Function("F", [x, u, th], [step(system, 0.0, x, CASADI.unpack(u), CASADI.unpack(th), CASADI)])
        self.J = ca.Function("J", [x, u, th], [ca.jacobian(self.F(x, u, th), x), ca.jacobian(self.F(x, u, th), u)])
        scale = np.maximum(np.abs(system.control_low), np.abs(system.control_high))
        middle = np.clip(0.0, system.control_low, system.control_high)
        regulate = system.regulate or (0.0,) * n
        nominal = [q.nominal for q in system.states]
        ix, iy = system.position

        P = {
            "x0": sx("x0", n),
            "theta": th,
            "goal": sx("goal", 2),
            "ref": sx("ref", 2 * H),
            "planes": sx("planes", H * D * self.faces * 3),
            "w": sx("w", 3),
        }
        w_goal, w_track, w_brake = ca.vertsplit(P["w"])
        xs = [sx(f"x_{k}", n) for k in range(H + 1)]
        us = [sx(f"u_{k}", m) for k in range(H)]
        ss = [sx(f"s_{k}", 1) for k in range(H + 1)]
        var, lo, hi, g, glo, ghi, eq, cost = [], [], [], [], [], [], [], 0

        def constrain(e, low, high, equality=False):
            size = e.shape[0]
            g.append(e)
            glo.extend([low] * size)
            ghi.extend([high] * size)
            eq.extend([equality] * size)

        for k in range(H + 1):
            var += [xs[k]]
            lo += [-np.inf] * n
            hi += [np.inf] * n
            if k < H:
                var += [us[k]]
                lo += list(middle - cfg.authority * (middle - system.control_low))
                hi += list(middle + cfg.authority * (system.control_high - middle))
                constrain(xs[k + 1] - self.F(xs[k], us[k], th), 0.0, 0.0, True)
                relative = us[k] / scale
                cost += cfg.w_control * ca.sumsqr(relative)
                if k:
                    cost += cfg.w_smooth * ca.sumsqr(relative - us[k - 1] / scale)
            var += [ss[k]]
            lo += [0.0]
            hi += [np.inf]
            cost += cfg.w_slack * (ss[k] + 10 * ss[k] ** 2)
            if k == 0:
                constrain(xs[0] - P["x0"], 0.0, 0.0, True)
                continue
            parts = ca.vertsplit(xs[k])
            dx, dy = parts[ix] - P["goal"][0], parts[iy] - P["goal"][1]
            cost += w_goal * ca.sqrt(dx**2 + dy**2 + 1e-2)
            ref = P["ref"][2 * (k - 1) : 2 * k]
            cost += w_track * ((parts[ix] - ref[0]) ** 2 + (parts[iy] - ref[1]) ** 2)
            rest = system.at_rest(parts, CASADI)
            cost += w_brake * sum(r**2 for r in rest)
            cost += sum(q * (a - b) ** 2 for q, a, b in zip(regulate, parts, nominal, strict=True) if q)
            block = P["planes"][(k - 1) * D * self.faces * 3 : k * D * self.faces * 3]
            for d, (cx, cy, _) in enumerate(footprint_centers(system, parts, CASADI)):
                for j in range(self.faces):
                    a, b, c = ca.vertsplit(block[(d * self.faces + j) * 3 : (d * self.faces + j + 1) * 3])
                    constrain(a * cx + b * cy - c + ss[k], 0.0, np.inf)
            for q, part in zip(system.states, parts, strict=True):
                if np.isfinite(q.low):
                    constrain(part - q.low + ss[k], 0.0, np.inf)
                if np.isfinite(q.high):
                    constrain(q.high - part + ss[k], 0.0, np.inf)
            if k == H:
                for r in rest:
                    constrain(ss[k] + r, 0.0, np.inf)
                    constrain(ss[k] - r, 0.0, np.inf)
        self._lo, self._hi, self._glo, self._ghi = map(np.array, (lo, hi, glo, ghi))
        problem = {"x": ca.vertcat(*var), "f": cost, "g": ca.vertcat(*g), "p": ca.vertcat(*P.values())}
        quiet = {"print_time": False, "error_on_fail": False, "expand": False}
        self._fatrop = ca.nlpsol(
            "fatrop",
            "fatrop",
            problem,
            {
                **quiet,
                "structure_detection": "auto",
                "equality": eq,
                "fatrop": {"print_level": 0, "max_iter": cfg.max_iter, "tol": 1e-3, "mu_init": 1e-2},
            },
        )
        self._problem, self._ipopt_solver = (problem, quiet), None
        self._split = n + m + 1
        self._maps: dict[int, ca.Function] = {}

    def _mapped(self, n: int) -> ca.Function:
        if n not in self._maps:
            self._maps[n] = self.J.map(n)
        return self._maps[n]

    def _ipopt(self) -> ca.Function:
        if self._ipopt_solver is None:  # built on first need: it takes longer than a plan may
            problem, quiet = self._problem
            options = {"print_level": 0, "sb": "yes", "max_iter": 3 * self.cfg.max_iter, "tol": 1e-3}
            self._ipopt_solver = ca.nlpsol("ipopt", "ipopt", problem, {**quiet, "ipopt": options})
        return self._ipopt_solver

    def jacobians(self, states: Array, controls: Array, theta: Array) -> tuple[Array, Array]:
        """A `[N, n, n]` and B `[N, n, m]` of the step map at pairs of states `[N, n]` and controls `[N, m]`."""
        N, n, m = len(controls), self.system.n, self.system.m
        A, B = self._mapped(N)(states[:N].T, controls.T, np.tile(theta[:, None], (1, N)))
        A = np.asarray(A).reshape(n, N, n).transpose(1, 0, 2)
        return A, np.asarray(B).reshape(n, N, m).transpose(1, 0, 2)

    def simulate(self, x: Array, controls: Array, theta: Array) -> Array:
        """Nominal open-loop states `[N+1, n]`."""
        out = [x]
        for u in controls:
            out.append(np.asarray(self.F(out[-1], u, theta)).ravel())
        return np.array(out)

    def solve(
        self,
        x0: Array,
        theta: Array,
        goal: Array,
        ref: Array,
        planes: Array,
        weights: Weights,
        guess: tuple[Array, Array],
        *,
        second_try: bool = True,
    ) -> Solution:
        """Solve once; `second_try` allows IPOPT after FATROP failed (about ten times slower).

        Args:
            x0: `[n]`; theta: `[p]`; goal: `[2]`; ref: positions `[H, 2]`; planes: `[H, D, slots + 4, 3]`.
            guess: states `[H+1, n]` and controls `[H, m]` to start from.
        """
        p = np.concatenate([x0, theta, goal, ref.ravel(), planes.ravel(), weights])
        H, n = self.cfg.horizon, self.system.n
        start = np.concatenate(
            [np.concatenate([guess[0][:H], guess[1], np.zeros((H, 1))], 1).ravel(), guess[0][H], [0.0]]
        )
        if not (np.isfinite(p).all() and np.isfinite(start).all()):  # FATROP would never return
            return Solution(*guess, float("inf"), False, "none", 0)
        args = {"x0": start, "p": p, "lbx": self._lo, "ubx": self._hi, "lbg": self._glo, "ubg": self._ghi}
        out, stats, name = self._fatrop(**args), self._fatrop.stats(), "fatrop"
        if second_try and not (stats["success"] and np.isfinite(np.asarray(out["x"])).all()):
            solver = self._ipopt()
            out, stats, name = solver(**args), solver.stats(), "ipopt"
        v = np.asarray(out["x"]).ravel()
        ok = bool(stats["success"]) and bool(np.isfinite(v).all())
        body = v[: H * self._split].reshape(H, self._split)
        states = np.concatenate([body[:, :n], v[H * self._split :][None, :n]])
        slack = float(max(body[:, -1].max(), v[-1])) if ok else float("inf")
        return Solution(states, body[:, n:-1], slack, ok, name, int(stats["iter_count"]))
