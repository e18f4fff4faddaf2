"""How good an estimate of a reachable density is: random boxes, log-gain and state errors, the published KL score."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.systems import Case
from safeplan.errors import DataError
from safeplan.reach.rivals.runs import draw
from safeplan.reach.sets import Box
from safeplan.types import Array, Draw

SIDES = (0.01, 0.16)  # half a side as a share of the range that holds 98 % of the states, log-uniform
LIKELY = (0.003, 0.3)  # probabilities of the boxes that are kept [density_corl's published comparison has none]


@dataclass(frozen=True)
class Boxes:
    """K boxes in two coordinates (one, where the system has no more) at time `t`, and their probabilities.

    Args:
        lo, hi: corners `[K, d]`. axes: `[K, d]` states that they are about. p: `[K]`, from `n_true` Sobol particles.
    """

    t: float
    lo: Array
    hi: Array
    axes: Array
    p: Array
    n_true: int

    def regions(self) -> list[Box]:
        """As sets."""
        return [Box(lo, hi, axes=tuple(map(int, a))) for lo, hi, a in zip(self.lo, self.hi, self.axes, strict=True)]

    def count(self, x: Array) -> Array:
        """Share `[K]` of the states `x [n, P]` in each box."""
        inside = (
            np.mean(((x[a] >= lo[:, None]) & (x[a] <= hi[:, None])).all(0))
            for lo, hi, a in zip(self.lo, self.hi, self.axes, strict=True)
        )
        return np.fromiter(inside, float, len(self.p))

    def score(self, estimate: Array) -> dict[str, float]:
        """Relative RMS and median error, and how many independent draws have that RMS on these boxes."""
        r = (np.asarray(estimate) - self.p) / self.p
        rms = float(np.sqrt(np.mean(r**2)))
        equals = float(np.mean((1 - self.p) / self.p) / max(rms, 1e-12) ** 2)
        return {"box_rms": rms, "box_median": float(np.median(np.abs(r))), "equals_mc": equals}

    def save(self, path: Path) -> None:
        """Write one `.npz` (temporary name, then rename)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.with_name(path.name + ".tmp.npz")
        arrays: Any = self.arrays()
        np.savez_compressed(temp, **arrays)
        temp.replace(path)

    def arrays(self) -> dict[str, Any]:
        """What is written: the layout that `load` reads."""
        return {"t": self.t, "lo": self.lo, "hi": self.hi, "axes": self.axes, "p_true": self.p, "n_true": self.n_true}

    @classmethod
    def load(cls, path: str | Path) -> "Boxes":
        """Boxes of a `.npz` with t, lo `[K, d]`, hi `[K, d]`, p_true `[K]`; `axes` (default the first d) and `n_true`.

        Raises:
            DataError: missing, unreadable, without a key, or with arrays that do not fit each other.
        """
        try:
            with np.load(path, allow_pickle=False) as f:
                a = {k: f[k] for k in f.files}
        except (OSError, ValueError) as e:
            raise DataError(f"boxes {path}: cannot be read ({e}). Give a .npz with t, lo, hi and p_true") from e
        missing = [k for k in ("t", "lo", "hi", "p_true") if k not in a]
        if missing:
            raise DataError(f"boxes {path}: {', '.join(missing)} missing; it has {', '.join(a)}")
        lo, hi, p = a["lo"].astype(float), a["hi"].astype(float), a["p_true"].astype(float)
        K, d = lo.shape if lo.ndim == 2 else (0, 0)
        axes = a.get("axes", np.tile(np.arange(d), (K, 1))).astype(int)
        if not K or hi.shape != (K, d) or p.shape != (K,) or axes.shape != (K, d) or not (lo <= hi).all():
            raise DataError(
                f"boxes {path}: lo {lo.shape}, hi {hi.shape}, p_true {p.shape}; expected [K, d], [K, d], [K]"
            )
        if not ((p > 0) & (p <= 1)).all():
            raise DataError(f"boxes {path}: p_true must lie in (0, 1]; relative errors are taken of it")
        return cls(float(a["t"]), lo, hi, axes, p, int(a.get("n_true", 0)))


def random_boxes(x: Array, t: float, count: int, rng: np.random.Generator) -> Boxes:
    """Boxes around random states of `x [n, N]`, in a random pair of coordinates each, kept when 0.003 < p < 0.3.

    Raises:
        DataError: fewer than `count` found in 100 times as many tries.
    """
    n = len(x)
    reach = np.subtract(*np.percentile(x, [99, 1], axis=1))
    moving = np.flatnonzero(reach > 0)
    found: list[tuple[Array, Array, Array, float]] = []
    for _ in range(100 * count):
        axes = np.sort(rng.choice(moving, min(2, n, len(moving)), replace=False))
        middle = x[axes, rng.integers(x.shape[1])]
        half = reach[axes] * np.exp(rng.uniform(np.log(SIDES[0]), np.log(SIDES[1]), len(axes)))
        p = float(np.mean((np.abs(x[axes] - middle[:, None]) <= half[:, None]).all(0)))
        if LIKELY[0] < p < LIKELY[1]:
            found.append((middle - half, middle + half, axes, p))
        if len(found) == count:
            lo, hi, axes_, p_ = (np.array(v) for v in zip(*found, strict=True))
            return Boxes(t, lo, hi, axes_, p_, x.shape[1])
    raise DataError(f"random_boxes: {len(found)} of {count} boxes found; the states at t = {t:g} are too concentrated")


def starts(case: Case, n: int, seed: int, sampler: str = "sobol") -> Draw:
    """`n` starts of a case with parameters for its horizon; any n, since the first of more Sobol points are taken."""
    if sampler == "iid":
        return draw(case, n, seed, sampler)
    d = draw(case, 1 << (n - 1).bit_length(), seed)
    return Draw(d.x[:n], d.theta[:n])


# ---------------------------------------------------------------- the published score
Gain = Callable[[Array, Array, Array], Array]  # x0 [N, n], theta [N, S, p], times [T] -> log-gain [T, N]


@dataclass(frozen=True)
class Halves:
    """What the published score looks at: support and test points at ten times, by two integrators.

    Parameters that are drawn once count as states, as in the published benchmarks. Densities are those of the start
    times the gain; for uniform starts that is the gain, up to a constant. An integrator that loses points to infinity
    is left out.
    """

    times: Array
    support: Draw
    start: Array  # log-density [N] at the start of the support points
    states: Mapping[str, tuple[Array, Array]]  # integrator -> states of support and test, [T, n + p, N] each
    density: Mapping[str, tuple[Array, Array]]  # integrator -> log-density of support and test, [T, N] each

    def score(self, truth: str, log_p: Callable[[int, Array, Array], Array]) -> float:
        """Mean over the times of the self-normalised KL of an estimate, `log_p(k, support states, test states)`."""
        from safeplan.reach.kl import self_normalised_kl

        s, t = self.states[truth]
        q = self.density[truth][1]
        scores = [self_normalised_kl(np.clip(log_p(k, s[k].T, t[k].T), -83, 83), q[k]) for k in range(len(self.times))]
        return float(np.mean(scores))


def carried(log_density: Array) -> Callable[[int, Array, Array], Array]:
    """Log-density `[T, N]` at the support points, taken to the test points from the nearest of them."""
    from safeplan.reach.kl import carry_over

    return lambda k, support, test: carry_over(support, log_density[k], test)


def halves(case: Case, drawn: Draw) -> Halves:
    """Starts, the first half of them support, at ten times evenly from 0 on: exact (RK4) and by Euler."""
    from safeplan.reach.learned.trajectories import simulate

    n = len(drawn.x)
    fine = simulate(case.loop, drawn, case.reference, case.start.stretch_s, points=10**9)
    euler_x, euler_g = euler(case, drawn)
    steps = np.arange(10) * max(1, (case.steps + 1) // 10)
    at = steps * case.loop.substeps
    h = n // 2
    assert fine.gain is not None
    belief: Any = case.start
    start = belief.log_prob(drawn)
    theta = np.broadcast_to(drawn.theta[:, 0].T, (len(at), case.loop.p, n))
    states, density = {}, {}
    for name, x, gain in (("rk4", fine.states[at], fine.gain[at]), ("euler", euler_x[steps], euler_g[steps])):
        if np.isfinite(x).all():
            joint = np.concatenate([x, theta], axis=1)
            states[name] = joint[..., :h], joint[..., h:]
            density[name] = (gain + start)[:, :h], (gain + start)[:, h:]
    return Halves(steps * case.loop.dt, Draw(drawn.x[:h], drawn.theta[:h]), start[:h], states, density)


def euler(case: Case, start: Draw) -> tuple[Array, Array]:
    """Explicit Euler steps of `dt`, the published labels: states `[T, n, N]`, log-gain `[T, N]`, factors 1 - dt div.

    A factor that is not positive has no logarithm; it counts as 1e-36, the published clip.
    """
    loop, x, gain = case.loop, start.x.T, np.zeros(len(start.x))
    u, theta = tuple(np.full(len(start.x), v) for v in case.command), tuple(start.theta[:, 0].T)
    xs, gs = [x], [gain]
    assert loop.divergence is not None
    with np.errstate(all="ignore"):  # Euler steps may run to infinity
        for _ in range(case.steps):
            div = loop.divergence(0.0, tuple(x), u, theta, NUMPY)
            gain = gain + np.log(np.maximum(1 - loop.dt * div, 1e-36))
            x = x + loop.dt * NUMPY.pack(loop.f(0.0, tuple(x), u, theta, NUMPY))
            xs.append(x)
            gs.append(gain)
    return np.array(xs), np.array(gs)
