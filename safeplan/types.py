"""What travels between the floors: scenes, beliefs, references, plans.

Shape legend, used everywhere: B batch, P particles, H plan steps, N steps of a reference (H and its safe-stop tail),
T checked times, K obstacles, S stretches of constant disturbance, n states, m controls, p uncertain parameters.
Units are SI (m, s, rad, N) unless a name says otherwise. Arrays are NumPy float64.
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from safeplan.errors import ShapeError

Array = np.ndarray


# ---------------------------------------------------------------- scene
@dataclass(frozen=True)
class Obstacle:
    """A rounded oriented box that moves: half extents (hx, hy) grown by radius r; hx = hy = 0 is a disc, r = 0 a box.

    The centre moves with velocity (vx, vy) + sigma_v * xi, xi a standard normal cut at 2, drawn anew (per axis) in
    every stretch of `Scene.stretch_s` seconds. Units m, rad, m/s.
    """

    x: float
    y: float
    r: float = 0.0
    vx: float = 0.0
    vy: float = 0.0
    sigma_v: float = 0.0
    yaw: float = 0.0
    hx: float = 0.0
    hy: float = 0.0


@dataclass(frozen=True)
class Goal:
    """A disc to be reached, m."""

    x: float
    y: float
    radius: float


CUT = 2.0  # every normal in a Scene is cut at this many standard deviations, so that all disturbances are bounded


@dataclass(frozen=True)
class Scene:
    """Obstacles, goal and bounds `(xlo, ylo, xhi, yhi)` as seen at time 0 of a plan. Leaving them is a collision."""

    obstacles: tuple[Obstacle, ...]
    goal: Goal
    bounds: tuple[float, float, float, float]
    stretch_s: float = 0.5

    def column(self, name: str) -> Array:
        """`[K]` values of one obstacle field."""
        return np.array([getattr(o, name) for o in self.obstacles], dtype=float)

    def centers(self, times: Array) -> Array:
        """Nominal obstacle centres `[T, K, 2]` at `times [T]` (s)."""
        t = np.asarray(times, float)[:, None]
        return np.stack(
            [self.column("x") + t * self.column("vx"), self.column("y") + t * self.column("vy")], axis=-1
        ).reshape(len(t), len(self.obstacles), 2)

    def sample(self, n: int, times: Array, rng: np.random.Generator) -> Array:
        """Joint futures of all obstacles: centres `[n, T, K, 2]` at ascending `times [T]` (s)."""
        times = np.asarray(times, float)
        nominal = self.centers(times)
        sigma = self.column("sigma_v")
        if not len(sigma) or not sigma.any():
            return np.broadcast_to(nominal, (n, *nominal.shape))
        stretches = max(1, int(np.ceil(times[-1] / self.stretch_s - 1e-9)))
        xi = cut_normal(rng.random((n, stretches, len(sigma), 2)))
        # time that each checked instant has spent in each stretch
        edges = np.arange(stretches) * self.stretch_s
        spent = np.clip(times[:, None] - edges, 0.0, self.stretch_s)
        drift = np.einsum("ts,nskc->ntkc", spent, xi, optimize=True)
        return nominal + drift * sigma[:, None]

    def at(self, t: float) -> "Scene":
        """The nominal scene `t` seconds later."""
        moved = tuple(Obstacle(**{**asdict(o), "x": o.x + t * o.vx, "y": o.y + t * o.vy}) for o in self.obstacles)
        return Scene(moved, self.goal, self.bounds, self.stretch_s)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(d: dict[str, Any]) -> "Scene":
        return Scene(
            tuple(Obstacle(**o) for o in d["obstacles"]),
            Goal(**d["goal"]),
            tuple(d["bounds"]),  # type: ignore[arg-type]
            d.get("stretch_s", 0.5),
        )


def cut_normal(u: Array, cut: float = CUT) -> Array:
    """Standard normal cut at +-`cut`, by inverse distribution function of `u` in [0, 1)."""
    from scipy.special import ndtr, ndtri

    lo = ndtr(-cut)
    return ndtri(lo + u * (1.0 - 2.0 * lo))


# ---------------------------------------------------------------- belief
class Draw(NamedTuple):
    """Joint samples of start state `x [P, n]` and uncertain parameters `theta [P, S, p]`, one slice per stretch."""

    x: Array
    theta: Array


@runtime_checkable
class Belief(Protocol):
    """Distribution over start state and uncertain parameters. `push` and `log_prob` are optional capabilities."""

    @property
    def stretch_s(self) -> float:
        """Seconds for which disturbances stay constant."""
        ...

    @property
    def x_sd(self) -> Array:
        """Standard deviation of a measurement of the state `[n]`, which the feedback acts on; zeros: exact."""
        ...

    def mean(self) -> tuple[Array, Array]:
        """Start state `[n]` and parameters `[p]` at the centre."""
        ...

    def sample(self, n: int, stretches: int, rng: np.random.Generator) -> Draw: ...


@dataclass(frozen=True)
class CutNormalBelief:
    """Independent normals cut at +-`cut` standard deviations: the start state, then the parameters.

    Parameters with `per_stretch` true are drawn anew every `stretch_s` seconds (disturbances), the others once.
    """

    x_mean: Array
    x_sd: Array
    theta_mean: Array
    theta_sd: Array
    per_stretch: Array
    stretch_s: float = 0.25
    cut: float = CUT

    def __post_init__(self) -> None:
        for name in ("x_mean", "x_sd", "theta_mean", "theta_sd"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), float))
        object.__setattr__(self, "per_stretch", np.asarray(self.per_stretch, bool))
        if self.x_mean.shape != self.x_sd.shape or self.x_mean.ndim != 1:
            raise ShapeError(f"belief: x_mean {self.x_mean.shape} and x_sd {self.x_sd.shape} must both be [n]")
        if not (self.theta_mean.shape == self.theta_sd.shape == self.per_stretch.shape):
            raise ShapeError(
                f"belief: theta_mean {self.theta_mean.shape}, theta_sd {self.theta_sd.shape} and per_stretch "
                f"{self.per_stretch.shape} must all be [p]"
            )

    def dim(self, stretches: int) -> int:
        """Coordinates of the unit cube that `push` needs."""
        k = int(self.per_stretch.sum())
        return len(self.x_mean) + len(self.theta_mean) - k + k * stretches

    def mean(self) -> tuple[Array, Array]:
        return self.x_mean, self.theta_mean

    def push(self, u: Array, stretches: int) -> Draw:
        """Map the unit cube `u [P, dim(stretches)]` to samples; measure preserving, so Sobol points may go in."""
        if u.ndim != 2 or u.shape[1] != self.dim(stretches):
            raise ShapeError(f"belief.push: u is {u.shape}, expected [P, {self.dim(stretches)}]")
        n, once = len(self.x_mean), ~self.per_stretch
        z = cut_normal(u, self.cut)
        x = self.x_mean + self.x_sd * z[:, :n]
        theta = np.empty((len(u), stretches, len(self.theta_mean)))
        a = n + int(once.sum())
        theta[:, :, once] = (self.theta_mean[once] + self.theta_sd[once] * z[:, n:a])[:, None]
        moving = z[:, a:].reshape(len(u), stretches, -1)
        theta[:, :, self.per_stretch] = self.theta_mean[self.per_stretch] + self.theta_sd[self.per_stretch] * moving
        return Draw(x, theta)

    def sample(self, n: int, stretches: int, rng: np.random.Generator) -> Draw:
        return self.push(rng.random((n, self.dim(stretches))), stretches)

    def log_prob(self, draw: Draw) -> Array:
        """Log-density `[P]` of a draw; -inf outside the cut. Coordinates of zero spread are left out."""
        once, moving = ~self.per_stretch, self.per_stretch
        return (
            self.log_prob_x(draw)
            + self._log_normal(draw.theta[:, 0, once], self.theta_mean[once], self.theta_sd[once])
            + self._log_normal(draw.theta[:, :, moving], self.theta_mean[moving], self.theta_sd[moving])
        )

    def log_prob_x(self, draw: Draw) -> Array:
        """The part of the start state, given the parameters."""
        return self._log_normal(draw.x, self.x_mean, self.x_sd)

    def _log_normal(self, v: Array, mean: Array, sd: Array) -> Array:
        from scipy.special import ndtr

        keep = sd > 0
        z = (v[..., keep] - mean[keep]) / sd[keep]
        norm = np.log(1.0 - 2.0 * ndtr(-self.cut)) + 0.5 * np.log(2 * np.pi) + np.log(sd[keep])
        logp = np.where(np.abs(z) <= self.cut * (1 + 1e-12), -0.5 * z**2 - norm, -np.inf)
        return logp.reshape(len(v), -1).sum(-1)

    def at(self, x_mean: Array) -> "CutNormalBelief":
        """The same uncertainty around another start state."""
        return CutNormalBelief(
            x_mean, self.x_sd, self.theta_mean, self.theta_sd, self.per_stretch, self.stretch_s, self.cut
        )

    def to_dict(self) -> dict[str, Any]:
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}

    @staticmethod
    def from_dict(d: dict[str, Any]) -> "CutNormalBelief":
        return CutNormalBelief(**d)


# ---------------------------------------------------------------- plan
class Reference(NamedTuple):
    """What is tracked: `u = clip(controls[k] + gains[k] (x - states[k]))`, held for `dt` seconds; angles wrapped.

    states `[N+1, n]`, controls `[N, m]`, gains `[N, m, n]`, dt in s. The last steps are the safe-stop tail.
    """

    states: Array
    controls: Array
    gains: Array
    dt: float


class Status(StrEnum):
    """Why the plan is what it is. Only CERTIFIED moves on; everything else ends in a safe stop."""

    CERTIFIED = "certified"  # the risk bound holds with the stated confidence
    UNCERTIFIED = "uncertified"  # no plan met the bound: safe stop
    INFEASIBLE = "infeasible"  # the optimiser found no plan that keeps its constraints: safe stop
    LATE = "late"  # the deadline passed: the previous plan to its stop, or braking where that is safer
    START_IN_COLLISION = "start_in_collision"  # the start touches an obstacle or lies outside the bounds
    UNREACHABLE = "unreachable"  # the goal lies outside the bounds or inside a standing obstacle
    OUT_OF_SUPPORT = "out_of_support"  # the state is unlike the logs: planned on hand-made lines, or a safe stop
    BAD_INPUT = "bad_input"  # NaN or wrong shape in belief or scene
    FAILED = "failed"  # the planner itself broke: the message says what; safe stop


@dataclass(frozen=True)
class Risk:
    """Collision probability from particles: `estimate`, interval `[low, high]`, and per checked time `[T]`."""

    estimate: float
    low: float
    high: float
    per_step: Array
    times: Array


@dataclass(frozen=True)
class Certificate:
    """With confidence `1 - delta` over `n` fresh draws, P(collision up to the end of the tail) <= `upper`."""

    upper: float
    n: int
    k: int
    delta: float
    attempt: int
    seed: int
    gamma: float
    assumes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the bound that the user asked for is met."""
        return self.upper <= self.gamma


@dataclass(frozen=True)
class Plan:
    """A reference to track, with its evidence. `moving` steps of it are the plan, the rest is the safe-stop tail."""

    reference: Reference
    status: Status
    message: str
    belief: Belief
    scene: Scene
    committed: int  # first steps, taken over from the previous plan while this one was computed
    moving: int
    risk: Risk | None = None
    certificate: Certificate | None = None
    clearance: float = float("nan")  # worst nominal clearance, m
    proposals: Array = field(default_factory=lambda: np.zeros((0, 0, 2)))  # positions [B, H+1, 2]
    chosen: int = -1  # candidate that was followed, -1 in a safe stop
    timings: dict[str, float] = field(default_factory=dict)  # s, by stage

    @property
    def stops(self) -> bool:
        """Whether this is a safe stop: none of the candidates was followed."""
        return self.chosen < 0

    @property
    def states(self) -> Array:
        """`[H+1, n]` without the tail."""
        return self.reference.states[: self.moving + 1]

    @property
    def controls(self) -> Array:
        """`[H, m]` without the tail."""
        return self.reference.controls[: self.moving]
