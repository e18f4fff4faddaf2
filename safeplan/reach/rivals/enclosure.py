"""Enclosures of the flow of many small boxes at once: Taylor steps of first order with a remainder [interval_analysis].

A set of states is c + M e + Q r: centre, image of the start cell's half widths, and the errors on the way, in an
orthogonal frame that turns with the flow [lohner]; |e| <= 1 and |r| <= `radius`, componentwise. One step of h:

    B holds the motion during the step: X + [0, h] f(B) lies in B (Picard)
    x(h) in c + h f(c) + (1 + h J(X)) (x - c) + h^2 / 2 (J f)(B)

J is enclosed over X by `slopes`. Its middle moves M and Q, its radius and the remainder's are added to r.
"""

from typing import NamedTuple

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.equations import Equations
from safeplan.reach.rivals.intervals import INTERVAL, Interval, hull, interval
from safeplan.reach.rivals.slopes import SLOPE, Slope
from safeplan.types import Array

TRIES = 6  # enlargements of the box B before a step is given up
GROW = 0.1  # by which share of what is missing


class Tube(NamedTuple):
    """`C` sets: centre `[n, C]`, image `[n, d, C]`, frame `[C, n, n]`, radius `[n, C]`, and which are lost `[C]`."""

    center: Array
    image: Array
    frame: Array
    radius: Array
    lost: Array

    @property
    def box(self) -> Interval:
        """The smallest box around each, `[n, C]`."""
        rad = np.abs(self.image).sum(1) + np.einsum("cij,jc->ic", np.abs(self.frame), self.radius)
        return Interval(self.center - rad, self.center + rad)


def begin(low: Array, high: Array, params: int) -> Tube:
    """Start cells, ends `[n, C]`; `params` further directions belong to the parameters."""
    n, C = low.shape
    image = np.zeros((n, n + params, C))
    image[np.arange(n), np.arange(n)] = (high - low) / 2
    frame = np.tile(np.eye(n), (C, 1, 1))
    return Tube((low + high) / 2, image, frame, np.zeros((n, C)), np.zeros(C, bool))


def advance(system: Equations, tube: Tube, u: tuple[float, ...], theta: Interval, h: float) -> Tube:
    """The sets `h` seconds later, parameters `theta [p, C]` constant; one that cannot be enclosed is lost for good."""
    with np.errstate(all="ignore"):
        return _advance(system, tube, u, theta, h)


def _advance(system: Equations, tube: Tube, u: tuple[float, ...], theta: Interval, h: float) -> Tube:
    n = len(tube.center)
    X, th = tube.box, INTERVAL.unpack(theta)

    def rate(x: Interval) -> Interval:
        return INTERVAL.pack(system.f(0.0, INTERVAL.unpack(x), u, th, INTERVAL))

    B, found = _during(rate, X, h)
    one = Slope(B, Interval(*(e[:, None] for e in _ends(rate(B)))))
    second = _slopes(system, one, u, [Slope(p, interval(0.0)) for p in th])  # J f, [n, 1, C]
    remainder = (h**2 / 2) * Interval(second.lo[:, 0], second.hi[:, 0])

    unit = np.eye(n + len(th))[:, :, None]  # direction by coordinate
    seeds = Slope(X, interval(np.broadcast_to(unit[:, :n], (n + len(th), n, 1)).transpose(1, 0, 2)))
    J = _slopes(system, seeds, u, [Slope(p, interval(unit[:, n + i])) for i, p in enumerate(th)])  # [n, d, C]

    mid = system.f(0.0, tuple(tube.center), u, tuple(theta.mid), NUMPY)
    center = tube.center + h * NUMPY.pack([np.broadcast_to(m, tube.lost.shape) for m in mid]) + remainder.mid
    drift = np.einsum("ijc,jkc->ikc", J.mid[:, :n], tube.image)
    drift[:, n:] += J.mid[:, n:] * theta.rad
    error = remainder.rad + h * np.einsum("ijc,jc->ic", J.rad, np.concatenate([X.rad, theta.rad]))
    frame, radius = _turn(tube.frame + h * np.einsum("ijc,cjk->cik", J.mid[:, :n], tube.frame), tube.radius, error)
    image = tube.image + h * drift
    sound = found & np.isfinite(center).all(0) & np.isfinite(image).all((0, 1)) & np.isfinite(radius).all(0)
    lost = tube.lost | ~sound
    return Tube(
        np.where(lost, 0.0, center),
        np.where(lost, 0.0, image),
        np.where(lost[:, None, None], np.eye(n), frame),
        np.where(lost, 0.0, radius),
        lost,
    )


def _ends(x: Interval) -> tuple[Array, Array]:
    return x.lo, x.hi


def _slopes(system: Equations, x: Slope, u: tuple, theta: list[Slope]) -> Interval:
    """Derivatives of f `[n, k, C]`."""
    parts = zip(INTERVAL.unpack(x.value), INTERVAL.unpack(x.tangent), strict=True)
    out = system.f(0.0, tuple(Slope(v, d) for v, d in parts), u, tuple(theta), SLOPE)
    k, C = x.tangent.lo.shape[1], x.value.lo.shape[1]
    tangents = [SLOPE.asarray(o).tangent for o in out]
    return Interval(*(np.stack([np.broadcast_to(getattr(t, e), (k, C)) for t in tangents]) for e in ("lo", "hi")))


def _during(rate, X: Interval, h: float) -> tuple[Interval, Array]:
    """A box that holds the motion for `h` seconds, and where one was found `[C]`."""
    span = Interval(np.array(0.0), np.array(h))
    B = X + span * rate(X)
    found: Array = np.zeros(X.lo.shape[1], bool)
    for _ in range(TRIES):
        wide = GROW * (B.hi - B.lo) + 1e-9
        B = Interval(B.lo - wide, B.hi + wide)
        new = hull(X, X + span * rate(B))
        found = np.all((new.lo >= B.lo) & (new.hi <= B.hi), axis=0)
        if found.all():
            return new, found
        B = Interval(np.where(found, B.lo, np.minimum(B.lo, new.lo)), np.where(found, B.hi, np.maximum(B.hi, new.hi)))
    return B, found


def _turn(moved: Array, radius: Array, error: Array) -> tuple[Array, Array]:
    """A new orthogonal frame `[C, n, n]` along the longest edges of the `moved` one, and the radii in it."""
    moved = np.where(np.isfinite(moved), moved, 0.0)
    length = np.linalg.norm(moved, axis=1) * radius.T
    order = np.argsort(-length, axis=1, kind="stable")
    frame = np.linalg.qr(np.take_along_axis(moved, order[:, None], axis=2)).Q
    back = np.swapaxes(frame, 1, 2)
    total = np.einsum("cij,jc->ic", np.abs(back @ moved), radius) + np.einsum("cij,jc->ic", np.abs(back), error)
    return frame, total
