"""The flow of a system whose states gather: a network in coordinates that follow their mean and their spread.

A controller that pulls the states to its reference shrinks their spread by decades over the horizon, some states more
than others. A network with one scale for the whole horizon is then off by many times the spread at the end, though by
little of the spread at the start. So x = mean(t) + spread(t) z, and the network knows the flow of z, which is of order
one at every time. The log-gain follows its own mean.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from safeplan.nets.flow_net import FlowNet

SMOOTHING = 10.0  # of the log-spread, a penalty on curvature in grid steps: waves under some ten steps go
FINEST = 1e-6  # of a state's magnitude: the least spread, which single precision still resolves
SMALLEST = 1e-7  # of a state's largest spread


class SpreadTable(nn.Module):
    """`t [B] (s) -> (mean [B, n], log of spread [B, n], mean log-gain [B])`: cubics between even times from 0 on,
    constant after the last.

    Args:
        n: states. steps: intervals of the table. step_s: length of one (s).
    """

    cubics: Tensor

    def __init__(self, n: int, steps: int, step_s: float) -> None:
        super().__init__()
        self.n, self.steps, self.step_s = n, steps, float(step_s)
        # highest power first, of the share of an interval that has passed
        self.register_buffer("cubics", torch.zeros(steps, 4, 2 * n + 1))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place = (t / self.step_s).clamp(0.0, self.steps)
        k = place.detach().long().clamp(max=self.steps - 1)
        a, b, c, d = self.cubics[k].unbind(1)
        s = (place - k)[:, None]
        value = ((a * s + b) * s + c) * s + d
        return value[:, : self.n], value[:, self.n : -1], value[:, -1]


def spread_table(times: Any, states: Any, gain: Any | None = None) -> SpreadTable:
    """Mean and spread of trajectories: times `[T]` (s, even, from 0), states `[T, n, N]`, log-gain `[T, N]` or None.

    The spread at t is the largest standard deviation from t on, so that it only falls: what grows from a point, or
    comes and goes, keeps one scale. Its logarithm is smoothed; the means are hit exactly at the times.
    """
    from scipy.interpolate import CubicSpline, make_smoothing_spline

    sd = np.asarray(states, float).std(2)
    largest = _from_here_on(np.abs(states).max(2))
    spread = _from_here_on(sd)
    spread = np.maximum(spread, FINEST * largest + SMALLEST * spread[0])
    log_spread = np.log(np.where(sd.max(0) > 0, spread, 1.0))
    place = np.arange(len(times), dtype=float)
    if len(times) >= 5:  # what the smoother needs
        columns = [make_smoothing_spline(place, column, lam=SMOOTHING)(place) for column in log_spread.T]
        log_spread = np.stack(columns, 1)
    mean_gain = np.zeros(len(times)) if gain is None else np.mean(gain, 1)
    curve = CubicSpline(place, np.concatenate([np.mean(states, 2), log_spread, mean_gain[:, None]], 1))
    table = SpreadTable(sd.shape[1], len(times) - 1, float(times[1] - times[0]))
    table.cubics.copy_(torch.as_tensor(curve.c.transpose(1, 0, 2).copy()))
    return table


def gathers(states: Any, share: float) -> bool:
    """Whether some state of `[T, n, N]` ends with less than this share of its largest standard deviation."""
    sd = np.asarray(states, float).std(2)
    return bool((sd[-1] < share * sd.max(0)).any())


def _from_here_on(values: np.ndarray) -> np.ndarray:
    """Largest value `[T, n]` from each time on."""
    return np.maximum.accumulate(values[::-1], 0)[::-1]


class FollowingFlowNet(nn.Module):
    """`(x [P, n], theta [P, p], tau [P], begin [P] or [1]) -> (state [P, n], log-gain [P])`: `FlowNet` from `begin` on.

    Exact at tau = 0 as that is.

    Args:
        core: the flow of z; its last parameter is the time at which it begins, from -1 to 1 over the table.
        table: mean and spread.
    """

    def __init__(self, core: FlowNet, table: SpreadTable) -> None:
        super().__init__()
        self.core, self.table = core, table
        self.n, self.p, self.segment_s = core.n, core.p - 1, core.segment_s
        self.horizon_s = table.steps * table.step_s

    @property
    def scale(self) -> Tensor:
        return self.core.scale

    def units(self, tau: Tensor, begin: Tensor) -> Tensor:
        """What an error at `begin + tau` counts in, `[P, n + 1]`."""
        spread = self.table(begin + tau)[1].exp()
        return torch.cat([spread, torch.ones_like(spread[:, :1])], 1) * self.core.scale.clamp_min(1e-9)

    @torch.no_grad()
    def fit_scales(self, x: Tensor, theta: Tensor, tau: Tensor, begin: Tensor, target: Tensor) -> None:
        """Scales of the core, from pairs as `forward` has them and their targets `[M, n + 1]`."""
        (m0, l0, g0), (m1, l1, g1) = self.table(begin), self.table(begin + tau)
        z, ahead = (x - m0) / l0.exp(), (target[:, : self.n] - m1) / l1.exp()
        rest = target[:, self.n] - (g1 - g0)
        inputs = torch.cat([z, theta, self._clock(begin, theta)], 1)
        self.core.fit_scales(inputs, torch.cat([ahead - z, rest[:, None]], 1))
        self.core.scale[: self.n].clamp_(min=0.01)  # where the spread says all, the rest is noise

    def forward(self, x: Tensor, theta: Tensor, tau: Tensor, begin: Tensor | None = None) -> tuple[Tensor, Tensor]:
        begin = torch.zeros_like(tau[:1]) if begin is None else begin
        (m0, l0, g0), (m1, l1, g1) = self.table(begin), self.table(begin + tau)
        z = (x - m0) * torch.exp(-l0)
        ahead, gain = self.core(z, torch.cat([theta, self._clock(begin, theta)], 1), tau)
        carried = x + (m1 - m0) + torch.expm1(l1 - l0) * (x - m0)  # mean and spread alone; x itself at tau = 0
        return carried + torch.exp(l1) * (ahead - z), gain + (g1 - g0)

    def _clock(self, begin: Tensor, theta: Tensor) -> Tensor:
        return (2 * begin / self.horizon_s - 1).expand(len(theta))[:, None]
