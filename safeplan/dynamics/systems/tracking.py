"""Tracking control of a unicycle, on the ground and with a height, in the frame of the vehicle [factest].

Error e = R(th)^T (p_ref - p), eth = th_ref - th, ez = z_ref - z. With gains k1 .. k4 the speeds are

    v = v_ref cos eth + k1 ex,   w = w_ref + v_ref (k2 ey + k3 sin eth),   vz = vz_ref + k4 ez

and V = (ex^2 + ey^2 + ez^2) / 2 + (1 - cos eth) / k2 falls: dV/dt = -k1 ex^2 - v_ref k3 sin^2(eth) / k2 - k4 ez^2.
Units: k1, k4 in 1/s, k2 in rad/m^2, k3 in rad/m. Components only, so that every backend runs it.
"""

from typing import Any, NamedTuple


class Gains(NamedTuple):
    """k1 .. k4 of the tracking law; k4 acts on the height and is not used on the ground."""

    k1: float
    k2: float
    k3: float
    k4: float = 0.0


def errors(pose: tuple, ref: tuple, xp: Any) -> tuple:
    """Planar errors (ex, ey, eth) of `pose` against `ref`, both (px, py, yaw) in the world; eth is not wrapped."""
    px, py, yaw = pose
    rx, ry, ryaw = ref
    c, s = xp.cos(yaw), xp.sin(yaw)
    return c * (rx - px) + s * (ry - py), -s * (rx - px) + c * (ry - py), ryaw - yaw


def _law(ex: Any, ey: Any, c: Any, s: Any, v_ref: Any, w_ref: Any, k: Gains) -> tuple:
    """(v, w) where c and s are cos and sin of eth."""
    return v_ref * c + k.k1 * ex, w_ref + v_ref * (k.k2 * ey + k.k3 * s)


def speeds(e: tuple, v_ref: Any, w_ref: Any, k: Gains, xp: Any) -> tuple:
    """Commanded (v, w) at planar errors `e`."""
    ex, ey, eth = e
    return _law(ex, ey, xp.cos(eth), xp.sin(eth), v_ref, w_ref, k)


def climb(ez: Any, vz_ref: Any, k: Gains) -> Any:
    """Commanded vertical speed."""
    return vz_ref + k.k4 * ez


def error_rates(e: tuple, v_ref: Any, w_ref: Any, k: Gains, growth: Any, xp: Any) -> tuple:
    """d/dt of (ex, ey, eth) under the law; `growth` (1/s) feeds the position error back onto itself, 0 in the ideal."""
    ex, ey, eth = e
    c, s = xp.cos(eth), xp.sin(eth)
    v, w = _law(ex, ey, c, s, v_ref, w_ref, k)
    return (
        w * ey - v + v_ref * c + growth * ex,
        -w * ex + v_ref * s + growth * ey,
        w_ref - w,
    )


def error_divergence(e: tuple, v_ref: Any, k: Gains, growth: Any, xp: Any) -> Any:
    """Divergence (1/s) of `error_rates`."""
    ex, _, eth = e
    return -k.k1 + 2 * growth - v_ref * k.k2 * ex - v_ref * k.k3 * xp.cos(eth)


def lyapunov(e: tuple, k: Gains, xp: Any, ez: Any = 0.0) -> Any:
    """V (m^2) at planar errors `e` and height error `ez`."""
    ex, ey, eth = e
    return (ex * ex + ey * ey + ez * ez) / 2 + (1.0 - xp.cos(eth)) / k.k2


def lyapunov_rate(e: tuple, v_ref: Any, k: Gains, xp: Any, ez: Any = 0.0) -> Any:
    """dV/dt (m^2/s) along the ideal loop; not above 0 while v_ref is not below 0."""
    ex, _, eth = e
    s = xp.sin(eth)
    return -k.k1 * ex * ex - v_ref * k.k3 * s * s / k.k2 - k.k4 * ez * ez
