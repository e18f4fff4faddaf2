"""Start distributions that the density literature uses and `CutNormalBelief` does not cover."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safeplan.errors import ShapeError
from safeplan.types import Array, Draw


@dataclass(frozen=True)
class UniformBelief:
    """Independent uniforms: start state in `[x_low, x_high]` `[n]`, parameters in `[theta_low, theta_high]` `[p]`.

    Parameters are drawn once and hold for good. A coordinate whose ends are equal is known exactly.

    Raises:
        ShapeError: ends of different shapes, or a low end above its high end.
    """

    x_low: Array
    x_high: Array
    theta_low: Array
    theta_high: Array
    stretch_s: float = float("inf")

    def __post_init__(self) -> None:
        for what, low, high in (("x", self.x_low, self.x_high), ("theta", self.theta_low, self.theta_high)):
            if low.shape != high.shape or low.ndim != 1:
                raise ShapeError(
                    f"UniformBelief: {what}_low {low.shape} and {what}_high {high.shape} must be alike, 1-D"
                )
            if not (np.isfinite(high - low).all() and (low <= high).all()):
                raise ShapeError(
                    f"UniformBelief: {what}_low {low.tolist()} is not below {what}_high {high.tolist()}; give finite "
                    "ends, the lower one first"
                )

    @property
    def x_sd(self) -> Array:
        """`[n]` zeros: the feedback measures the state exactly."""
        return np.zeros(len(self.x_low))

    def dim(self, stretches: int) -> int:
        """Coordinates of the unit cube that `push` needs."""
        return len(self.x_low) + len(self.theta_low)

    def mean(self) -> tuple[Array, Array]:
        return (self.x_low + self.x_high) / 2, (self.theta_low + self.theta_high) / 2

    def push(self, u: Array, stretches: int) -> Draw:
        """Map the unit cube `u [P, dim]` to samples; measure preserving, so Sobol points may go in."""
        if u.ndim != 2 or u.shape[1] != self.dim(stretches):
            raise ShapeError(f"UniformBelief.push: u is {u.shape}, expected [P, {self.dim(stretches)}]")
        n = len(self.x_low)
        theta = self.theta_low + (self.theta_high - self.theta_low) * u[:, n:]
        return Draw(self.x_low + (self.x_high - self.x_low) * u[:, :n], np.repeat(theta[:, None], stretches, 1))

    def sample(self, n: int, stretches: int, rng: np.random.Generator) -> Draw:
        return self.push(rng.random((n, self.dim(stretches))), stretches)

    def log_prob(self, draw: Draw) -> Array:
        """Log-density `[P]` of a draw; -inf outside the box. Coordinates known exactly are left out."""
        return self.log_prob_x(draw) + _log_uniform(draw.theta[:, 0], self.theta_low, self.theta_high)

    def log_prob_x(self, draw: Draw) -> Array:
        """The part of the start state, given the parameters."""
        return _log_uniform(draw.x, self.x_low, self.x_high)


def _log_uniform(v: Array, low: Array, high: Array) -> Array:
    keep = high > low
    inside = ((v >= low) & (v <= high))[:, keep].all(1)
    return np.where(inside, -np.log((high - low)[keep]).sum(), -np.inf)


def uniform(
    x_low: Sequence[float],
    x_high: Sequence[float],
    theta_low: Sequence[float] = (),
    theta_high: Sequence[float] = (),
) -> UniformBelief:
    """`UniformBelief` from plain numbers."""
    a, b, c, d = (np.array(ends, float) for ends in (x_low, x_high, theta_low, theta_high))
    return UniformBelief(a, b, c, d)
