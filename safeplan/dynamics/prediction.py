"""Open-loop prediction of recorded windows, and how large a belief's regions must be to cover them.

Everything is rolled out through the system `hovercraft` that the planner uses. A craft whose lag acts on the motor
signals has known thrust, so its thrust states are set at every step instead of integrated.

W windows, K steps of a recording, P particles, S stretches, G groups of spreads.
"""

from math import erf
from typing import Any

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.hovercraft import DISTURBANCES, PARAMS, hovercraft, hovercraft_belief
from safeplan.dynamics.identification import Craft, LagOn, Recording, lag
from safeplan.dynamics.system import System, rk4
from safeplan.types import CUT

INSTANT = 1e9  # a lag so long that thrust stands still within a step


def starts(rec: Recording, horizon_s: float, every_s: float, first_s: float = 0.5) -> np.ndarray:
    """First samples `[W]` of windows of `horizon_s` seconds, one every `every_s` seconds."""
    last = len(rec.state) - round(horizon_s * rec.rate) - 1
    return np.arange(round(first_s * rec.rate), last, max(1, round(every_s * rec.rate)))


def shift(state: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Motion `[..., 6]` of the point at body-frame `offset [2]` (m) from the point that `state [..., 6]` describes."""
    c, s, w = np.cos(state[..., 2]), np.sin(state[..., 2]), state[..., 5]
    dx, dy = c * offset[0] - s * offset[1], s * offset[0] + c * offset[1]
    out = state.copy()
    out[..., 0] += dx
    out[..., 1] += dy
    out[..., 3] -= w * dy
    out[..., 4] += w * dx
    return out


def roll(
    system: System,
    x: np.ndarray,
    theta: np.ndarray,
    u: np.ndarray,
    h: float,
    stretch: int,
    forced: bool,
    keep: list[int],
) -> np.ndarray:
    """States `[P, W, T, 9]` after each of the T steps in `keep`, from `x [P, W, 9]`, `theta [P, S, 9]`, `u [W, K, 3]`.

    A stretch lasts `stretch` steps. With `forced` the thrust states are `u` itself.
    """
    out, packed = [], np.array(np.moveaxis(x, -1, 0))
    for k in range(max(keep)):
        now = tuple(theta[:, min(k // stretch, theta.shape[1] - 1), :, None].swapaxes(0, 1))
        control = tuple(u[None, :, k].transpose(2, 0, 1))
        if forced:
            packed[6:] = control
        packed = rk4(system, k * h, packed, control, now, h, NUMPY)
        if k + 1 in keep:
            out.append(np.moveaxis(packed, 0, -1))
    return np.stack(out, 2)


def _commands(craft: Craft, rec: Recording, first: np.ndarray, steps: int, on: LagOn) -> tuple[np.ndarray, np.ndarray]:
    """Thrust at the starts `[W, 3]` and inputs of `roll` `[W, steps, 3]`."""
    h = 1.0 / rec.rate
    index = first[:, None] + np.arange(steps)
    if on == "thrust":
        u = craft.thrust(rec.signals)
        return lag(u, craft.tau, h)[first], u[index]
    known = craft.thrust(lag(rec.signals, craft.tau, h))
    return known[first], (known[index] + known[index + 1]) / 2


def predict(craft: Craft, rec: Recording, first: np.ndarray, keep: list[int], on: LagOn) -> np.ndarray:
    """Predicted motion `[W, len(keep), 6]` of the tracked point, `keep` samples after each of `first [W]`."""
    par = craft.system_parameters()
    theta = np.array([par["belief"][k]["mean"] for k in PARAMS])
    if on == "signal":
        theta[PARAMS.index("tau")] = INSTANT
    thrust, u = _commands(craft, rec, first, max(keep), on)
    x = np.concatenate([shift(rec.state[first], craft.com), thrust], -1)[None]
    path = roll(hovercraft(par), x, theta[None, None], u, 1.0 / rec.rate, max(keep), on == "signal", keep)[0]
    return shift(path[..., :6], -craft.com)


def particles(
    craft: Craft,
    par: dict[str, Any],
    rec: Recording,
    first: np.ndarray,
    keep: list[int],
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Motion `[n, W, len(keep), 6]` of the tracked point under draws from the belief in `par`, stretch by stretch."""
    stretch = round(par["stretch_s"] * rec.rate)
    draw = hovercraft_belief(np.zeros(9), par).sample(n, -(-max(keep) // stretch), rng)
    thrust, u = _commands(craft, rec, first, max(keep), "thrust")
    x = np.concatenate([shift(rec.state[first], craft.com), thrust], -1) + draw.x[:, None]
    path = roll(hovercraft(par), x, draw.theta, u, 1.0 / rec.rate, stretch, False, keep)
    return shift(path[..., :6], -craft.com)


def covered(cloud: np.ndarray, truth: np.ndarray, level: float = 0.9) -> np.ndarray:
    """Whether `truth [W, 6]` lies in the region of probability `level` of `cloud [P, W, 6]`: position, yaw, `[W, 2]`.

    The position region is the ellipse of the cloud's covariance that holds a share `level` of the cloud.
    """
    out = []
    for part in (slice(0, 2), slice(2, 3)):
        mean = cloud[..., part].mean(0)
        d = cloud[..., part] - mean
        inverse = np.linalg.inv(np.einsum("pwi,pwj->wij", d, d) / len(d))
        far = np.einsum("pwi,wij,pwj->pw", d, inverse, d)
        e = truth[:, part] - mean
        out.append(np.einsum("wi,wij,wj->w", e, inverse, e) <= np.quantile(far, level, axis=0))
    return np.stack(out, -1)


# ---------------------------------------------------------------- calibration
# groups of spreads that are scaled together: start state entries, then parameters
GROUPS: dict[str, tuple[str, ...]] = {
    "velocity": ("vx", "vy"),
    "spin_rate": ("w",),
    "gain": ("gain_a", "gain_b", "gain_c"),
    "thrust": ("fa", "fb", "fc"),
    "push": ("ax", "ay"),
    "twist": ("aw",),
    "fixed": ("px", "py", "yaw", "tau", "drag", "spin"),
}
# variance of a standard normal cut at +-CUT, which is what a belief draws
VARIANCE = 1 - 2 * CUT * np.exp(-(CUT**2) / 2) / np.sqrt(2 * np.pi) / erf(CUT / np.sqrt(2))


def sensitivities(craft: Craft, par: dict[str, Any], rec: Recording, first: np.ndarray, keep: list[int]) -> np.ndarray:
    """Covariance `[G, W, len(keep), 3, 3]` of the predicted pose that each group of `GROUPS` causes, linearised.

    Scaled for a spread of 1 in every group but "fixed", which has the spreads in `par`.
    """
    system = hovercraft(par)
    names = [q.name for q in system.states]
    stretch = round(par["stretch_s"] * rec.rate)
    S = -(-max(keep) // stretch)
    sd = dict(zip(names, par["state_sd"], strict=True)) | {k: par["belief"][k]["sd"] for k in PARAMS}
    mean = np.array([par["belief"][k]["mean"] for k in PARAMS])
    moves = [(g, n, s) for g, ns in GROUPS.items() for n in ns for s in (range(S) if n in DISTURBANCES else [None])]
    x, theta = np.zeros((len(moves) + 1, 1, 9)), np.tile(mean, (len(moves) + 1, S, 1))
    small = 1e-3
    for j, (_, n, s) in enumerate(moves, 1):
        if n in names:
            x[j, 0, names.index(n)] = small
        else:
            theta[j, slice(None) if s is None else s, PARAMS.index(n)] += small
    thrust, u = _commands(craft, rec, first, max(keep), "thrust")
    x = np.concatenate([shift(rec.state[first], craft.com), thrust], -1) + x
    path = shift(roll(system, x, theta, u, 1.0 / rec.rate, stretch, False, keep)[..., :6], -craft.com)[..., :3]
    slope = (path[1:] - path[0]) / small
    out = np.zeros((len(GROUPS), *slope.shape[1:], 3))
    for d, (g, n, _) in zip(slope, moves, strict=True):
        scale = VARIANCE * (sd[n] if g == "fixed" else 1.0) ** 2
        out[list(GROUPS).index(g)] += scale * d[..., :, None] * d[..., None, :]
    return out


def calibrate(
    caused: np.ndarray,
    error: np.ndarray,
    bins: np.ndarray,
    guess: dict[str, float],
    low: dict[str, float],
    high: dict[str, float],
) -> dict[str, float]:
    """Spreads of the groups of `GROUPS` (but "fixed") under which 90 % regions hold 90 % of `error [W, T, 3]` (pose).

    For every horizon, each of `bins [W]` (how hard the motors work), position and yaw apart, the 90 % quantile of the
    squared Mahalanobis distance is brought to that of chi-square, in the least-squares sense on a log scale.

    Args:
        caused: `sensitivities [G, W, T, 3, 3]`.
        guess: where to begin; a weak pull (a factor e costs 0.2) keeps what the data do not tell.
        low, high: smallest and largest spread of each group.
    """
    from scipy.optimize import least_squares
    from scipy.stats import chi2

    names = [g for g in GROUPS if g != "fixed"]
    bounds = np.log([[low[g] for g in names], [high[g] for g in names]])
    begin = np.log([guess[g] for g in names])

    def residual(p: np.ndarray) -> np.ndarray:
        cov = np.einsum("g,gwtij->wtij", np.r_[np.exp(2 * p), 1.0], caused)
        out = []
        for part, freedom in ((slice(0, 2), 2), (slice(2, 3), 1)):
            e = error[..., part]
            far = np.einsum("wti,wti->wt", e, np.linalg.solve(cov[..., part, part], e[..., None])[..., 0])
            for b in np.unique(bins):
                out += list(np.log(np.quantile(far[bins == b], 0.9, axis=0) / chi2.ppf(0.9, freedom)))
        return np.r_[out, 0.2 * (p - begin)]

    inside = np.clip(begin, bounds[0] + 1e-3, bounds[1] - 1e-3)
    p = least_squares(residual, inside, bounds=bounds, diff_step=1e-3).x
    return dict(zip(names, np.exp(p).tolist(), strict=True))
