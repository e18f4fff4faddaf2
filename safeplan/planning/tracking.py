"""Time-varying LQR along a reference: one feedback law for every system, from its Jacobians alone."""

import numpy as np

from safeplan.dynamics.system import System
from safeplan.types import Array


def lqr_gains(system: System, A: Array, B: Array) -> Array:
    """Gains `[..., N, m, n]` with u = u_ref + K (x - x_ref), by the Riccati recursion backwards along the reference.

    Args:
        A: `[..., N, n, n]`, B: `[..., N, n, m]` of the step map; leading axes are separate references.

    Weights are the system's `state_cost` and `control_cost`,
        the controls relative to their bounds.
    """
    scale = np.maximum(np.abs(system.control_low), np.abs(system.control_high))
    Q, R = np.diag(system.state_cost), np.diag(np.array(system.control_cost) / scale**2)
    N = A.shape[-3]
    P = np.broadcast_to(Q, (*A.shape[:-3], *Q.shape))
    out = np.empty((*A.shape[:-2], system.m, system.n))
    for _ in range(12):  # the tail goes on: start from where the recursion settles at its last step
        P = _back(P, A[..., -1, :, :], B[..., -1, :, :], Q, R)[0]
    for k in range(N - 1, -1, -1):
        P, out[..., k, :, :] = _back(P, A[..., k, :, :], B[..., k, :, :], Q, R)
    return out


def _back(P: Array, A: Array, B: Array, Q: Array, R: Array) -> tuple[Array, Array]:
    PB = P @ B
    K = -np.linalg.solve(R + np.swapaxes(B, -1, -2) @ PB, np.swapaxes(PB, -1, -2) @ A)
    P = Q + np.swapaxes(A, -1, -2) @ (P @ (A + B @ K))
    return (P + np.swapaxes(P, -1, -2)) / 2, K
