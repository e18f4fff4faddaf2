"""Identify the hovercraft from recordings of motor signals and motion.

For a given motor lag the acceleration is linear in the thrust polynomials, so the velocity and the displacement over
a short window are integrals that are linear in them too: no differentiation of measurements. The craft's own
structure (one direction and one arm per pair, one centre of mass) is fitted on the triangular factor of that
regression, with windows weighted down that no parameters explain, such as those in which commands were lost.

N samples, W windows; the six motors are a1, a2, b1, b2, c1, c2, and the second of a pair pushes backwards.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from safeplan.dynamics.hovercraft import PAIRS, PARAMS
from safeplan.errors import DataError
from safeplan.strict_json import write

SIGN = np.array([1.0, -1.0] * 3)
PAIR = np.arange(6) // 2
LagOn = Literal["signal", "thrust"]


@dataclass(frozen=True)
class Recording:
    """Motion `state [N, 6]` (px, py, yaw, vx, vy, w) at `rate` Hz and `signals [N, 6]`, held until the next sample."""

    name: str
    rate: float
    state: np.ndarray
    signals: np.ndarray


def load_recordings(folder: Path) -> tuple[Recording, ...]:
    """The recordings of `recordings.npz` in `folder`.

    Raises:
        DataError: when the file or a part of it is missing, of the wrong shape, or not finite.
    """
    file = folder / "recordings.npz"
    if not file.is_file():
        raise DataError(f"{file}: no such file; restore it from the repository or make it with --from-original")
    out = []
    with np.load(file) as data:
        for name in sorted({k.split("/")[0] for k in data.files} - {"rate"}):
            try:
                rate, x, u = float(data["rate"]), data[f"{name}/X"].astype(float), data[f"{name}/U"] * 1e-4
            except KeyError as e:
                raise DataError(f"{file}: {e.args[0]}; make the file again with --from-original") from None
            if x.ndim != 2 or x.shape[1] != 6 or u.shape != x.shape:
                raise DataError(f"{file}: {name} has X {x.shape} and U {u.shape}, expected both [N, 6]; make it again")
            if not (np.isfinite(x).all() and np.isfinite(u).all()):
                raise DataError(f"{file}: {name} holds NaN or infinity; cut those samples out and make the file again")
            out.append(Recording(name, rate, x, u))
    if len(out) < 2:
        raise DataError(f"{file}: {len(out)} recordings, at least 2 are needed to hold one out")
    return tuple(out)


def lag(z: np.ndarray, tau: float, h: float) -> np.ndarray:
    """First-order lag of `z [N, ...]`, each value held for `h` s; settled at first, output k knows inputs < k."""
    from scipy.signal import lfilter

    keep = np.exp(-h / tau)
    return np.asarray(lfilter([0.0, 1.0 - keep], [1.0, -keep], z, axis=0, zi=z[:1])[0])


@dataclass(frozen=True)
class Craft:
    """One craft: polynomials `coeffs [6, 3]` (N per signal, its square, its cube), pair `angle [3]` (rad) and `arm [3]`
    (m), centre of mass `com [2]` (m, body frame, from the point that is tracked), linear drag and spin drag (1/s),
    standing torque (rad/s^2), motor lag `tau` (s), mass (kg), inertia (kg m^2).
    """

    coeffs: np.ndarray
    angle: np.ndarray
    arm: np.ndarray
    com: np.ndarray
    drag: float
    spin: float
    torque: float
    tau: float
    mass: float
    inertia: float

    def vector(self) -> np.ndarray:
        """All that is fitted at fixed lag, `[29]`."""
        return np.r_[self.coeffs.ravel(), self.angle, self.arm, self.com, self.drag, self.spin, self.torque]

    def at(self, p: np.ndarray) -> "Craft":
        """The craft whose `vector` is `p [29]`."""
        return replace(
            self, coeffs=p[:18].reshape(6, 3), angle=p[18:21], arm=p[21:24], com=p[24:26],
            drag=float(p[26]), spin=float(p[27]), torque=float(p[28]),
        )  # fmt: skip

    def effects(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients of the columns of `regression`: translation `[45]`, rotation `[20]`."""
        push = self.coeffs * SIGN[:, None]
        turn = (push * self.arm[PAIR, None] / self.inertia).ravel()
        # the tracked point moves around the centre of mass
        bx = (push * np.cos(self.angle)[PAIR, None] / self.mass).ravel() + self.com[1] * turn
        by = (push * np.sin(self.angle)[PAIR, None] / self.mass).ravel() - self.com[0] * turn
        return np.r_[bx, by, self.com, self.drag], np.r_[turn, self.spin, self.torque]

    def thrust(self, signals: np.ndarray) -> np.ndarray:
        """Static thrust of the pairs `[N, 3]` (N) at motor `signals [N, 6]`: first motor minus second."""
        each = ((self.coeffs[:, 2] * signals + self.coeffs[:, 1]) * signals + self.coeffs[:, 0]) * signals
        return each[:, 0::2] - each[:, 1::2]

    def system_parameters(self, belief: dict[str, dict[str, float]] | None = None, **rest: Any) -> dict[str, Any]:
        """What `hovercraft.hovercraft` takes; without a belief all spreads are 0."""
        mean = dict.fromkeys(PARAMS, 0.0) | {f"gain_{k}": 1.0 for k in PAIRS}
        mean |= {"tau": self.tau, "drag": self.drag, "spin": self.spin, "aw": self.torque}
        full = self.coeffs.sum(1).min()  # what every motor reaches
        return {
            "mass": self.mass,
            "inertia": self.inertia,
            "pair_direction": np.stack([np.cos(self.angle), np.sin(self.angle)], -1).tolist(),
            "pair_arm": self.arm.tolist(),
            "max_thrust": float(np.floor(full * 10) / 10),
            "thrust_coeffs": self.coeffs.tolist(),
            "center_of_mass": self.com.tolist(),  # from the tracked point, m; the system moves the centre of mass
            "state_sd": [0.0] * 9,
            "stretch_s": 0.25,
            "belief": belief or {k: {"mean": mean[k], "sd": 0.0} for k in PARAMS},
            **rest,
        }


def published(file: Path) -> Craft:
    """The craft of the published `holohover_params_new.yaml`, whose lag acts on the motor signals.

    Raises:
        DataError: when the file is missing or lacks a key.
    """
    import yaml

    try:
        q = yaml.safe_load(file.read_text())
        ends = [f"{k}_{i}" for k in PAIRS for i in (1, 2)]
        vec = np.array([q[f"learned_motor_vec_{e}"][:2] for e in ends])
        pos = np.array([q[f"motor_pos_{e}"][:2] for e in ends]) - np.array(q["CoM"][:2])
        coeffs = np.array([q[f"signal_to_thrust_coeffs_motor_{i}"] for i in range(1, 7)])
        mass, inertia, com, tau = q["mass"], q["inertia"], np.array(q["CoM"][:2]), q["motor_tau"]
    except (OSError, KeyError, TypeError) as e:
        raise DataError(f"{file}: cannot read published parameters ({e!r}); restore it from the repository") from None
    arm = SIGN * (pos[:, 0] * vec[:, 1] - pos[:, 1] * vec[:, 0])
    angle = np.arctan2(vec[0::2, 1], vec[0::2, 0])
    return Craft(coeffs, angle, arm.reshape(3, 2).mean(1), com, 0.0, 0.0, 0.0, tau, mass, inertia)


def regression(rec: Recording, tau: float, steps: int, on: LagOn, stride: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Rows (features, target) of all windows of `steps` samples: translation `[4W, 46]`, rotation `[2W, 21]`.

    Targets: change of velocity over the window, and displacement beyond constant velocity divided by half the window
    (both m/s, rad/s), so that their errors are alike in size.
    """
    h = 1.0 / rec.rate
    x, u = rec.state, rec.signals
    if on == "signal":
        s = lag(u, tau, h)
        force = np.stack([s, s**2, s**3], -1).reshape(len(x), 18)
    else:
        force = lag(np.stack([u, u**2, u**3], -1).reshape(len(x), 18), tau, h)
    c, s, w = np.cos(x[:, 2:3]), np.sin(x[:, 2:3]), x[:, 5:6]
    one = np.ones_like(w)
    columns = (
        np.concatenate([c * force, -s * force, c * w**2, -s * w**2, -x[:, 3:4]], 1),
        np.concatenate([s * force, c * force, s * w**2, c * w**2, -x[:, 4:5]], 1),
        np.concatenate([force, -w, one], 1),
    )
    i = np.arange(int(0.5 * rec.rate), len(x) - steps, stride)
    T = steps * h

    def integral(z: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros_like(z[:1]), np.cumsum((z[1:] + z[:-1]) * (h / 2), 0)])

    rows = []
    for k, columns_k in enumerate(columns):
        once = integral(columns_k)
        twice = integral(once)
        dv = np.c_[once[i + steps] - once[i], x[i + steps, 3 + k] - x[i, 3 + k]]
        moved = x[i + steps, k] - x[i, k] - T * x[i, 3 + k]
        rows += [dv, np.c_[twice[i + steps] - twice[i] - T * once[i], moved] * (2 / T)]
    return np.concatenate(rows[:4]), np.concatenate(rows[4:])


class Regressions:
    """The regressions of many recordings at many lags, computed once each."""

    def __init__(self, recordings: tuple[Recording, ...], horizons: tuple[float, ...], on: LagOn, stride: int = 3):
        self.recordings, self.horizons, self.stride = recordings, horizons, stride
        self.on: LagOn = on
        self._rows: dict[tuple[int, float], list[tuple[np.ndarray, np.ndarray]]] = {}

    def rows(self, i: int, tau: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """`regression` of recording `i` per horizon, scaled by the spread of its targets."""
        if (i, tau) not in self._rows:
            rec, out = self.recordings[i], []
            for T in self.horizons:
                pair = regression(rec, tau, round(T * rec.rate), self.on, self.stride)
                scaled = [a / (np.std(a[:, -1]) * np.sqrt(len(a))) for a in pair]
                out.append((scaled[0].astype(np.float32), scaled[1].astype(np.float32)))  # many are kept
            self._rows[i, tau] = out
        return self._rows[i, tau]

    def loss(self, craft: Craft, i: int) -> np.ndarray:
        """Mean absolute error of translation and rotation, relative to the spread of the targets, `[2]`."""
        errors = [
            [np.abs(a @ np.r_[g, -1.0]).mean() * np.sqrt(len(a)) for a, g in zip(pair, craft.effects(), strict=True)]
            for pair in self.rows(i, craft.tau)
        ]
        return np.mean(errors, 0)

    def fit(self, which: list[int], prior: Craft, tau: float, ridge: float = 1e-2, rounds: int = 4) -> Craft:
        """The craft at lag `tau` that explains recordings `which`, held towards `prior` by `ridge`."""
        from scipy.optimize import least_squares

        p0, wide = prior.vector(), _SPREAD
        craft = replace(prior, tau=tau)
        for round_ in range(rounds):
            factors = []
            for k in (0, 1):
                gram = 0.0
                for i in which:
                    for pair in self.rows(i, tau):
                        a = pair[k]
                        e = np.abs(a @ np.r_[craft.effects()[k], -1.0])
                        # Cauchy weights: windows in which commands were lost tell nothing about the motors
                        weight = 1 / (1 + (e / (2.5 * 1.4826 * np.median(e))) ** 2) if round_ else np.ones(len(e))
                        gram = gram + ((a * weight[:, None]).T @ a.astype(float)) / len(which)
                val, vec = np.linalg.eigh(gram)
                factors.append(np.sqrt(np.maximum(val, 0))[:, None] * vec.T)

            def residual(p: np.ndarray, factors: list[np.ndarray] = factors, craft: Craft = craft) -> np.ndarray:
                parts = [r @ np.r_[g, -1.0] for r, g in zip(factors, craft.at(p).effects(), strict=True)]
                return np.concatenate([*parts, ridge * (p - p0) / wide])

            craft = craft.at(least_squares(residual, craft.vector(), x_scale=wide).x)
        return craft

    def fit_lag(self, which: list[int], prior: Craft, taus: np.ndarray, ridge: float = 1e-2) -> Craft:
        """`fit` at the lag of `taus` that explains recordings `which` best."""
        crafts = [self.fit(which, prior, float(t), ridge) for t in taus]
        return min(crafts, key=lambda c: float(np.mean([self.loss(c, i).sum() for i in which])))


# what one craft may plausibly differ from another: the unit of the ridge
_SPREAD = np.r_[np.tile([0.05, 0.2, 0.2], 6), [0.05] * 3, [0.004] * 3, [0.002] * 2, 0.3, 0.5, 5.0]


def healthy(crafts: list[Craft], limit: float = 0.3) -> list[bool]:
    """Which crafts have no motor whose thrust at signal 0.6 differs from the median craft's by more than `limit`."""
    at = np.array([0.6, 0.36, 0.216])
    strength = np.array([c.coeffs @ at for c in crafts])
    return np.all(np.abs(strength / np.median(strength, 0) - 1) < limit, axis=1).tolist()


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _short(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_short(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def save_json(file: Path, content: dict[str, Any]) -> None:
    """Write `content`, numbers to six digits, under a temporary name, then rename."""
    write(file, _short(content))
