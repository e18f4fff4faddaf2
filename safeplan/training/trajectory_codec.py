"""How trajectories and observations become what the trajectory network sees, and back to physical units.

A token is [state, control]; position and angles are relative to the start state, so that the model knows no place.
Layout of an observation: `safeplan.dynamics.observe`. L is H + 1 rounded up to a multiple of 4; D = n + m.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from safeplan.dynamics.observe import FAR, OBSTACLE
from safeplan.dynamics.system import System
from safeplan.errors import ConfigError, ShapeError

REACH = 5.0  # encoded conditions are cut at so many standard deviations: an empty slot lies far away
FLOOR = 1e-3  # smallest spread of a column, in its unit


@dataclass(frozen=True)
class Layout:
    """Sizes and meaning of the columns; JSON through `asdict`. `moved` are the states that are taken relative."""

    n: int
    m: int
    horizon: int
    slots: int
    position: tuple[int, int]
    angles: tuple[int, ...]
    control_low: tuple[float, ...]
    control_high: tuple[float, ...]

    @staticmethod
    def of(system: System, horizon: int, obs_size: int) -> "Layout":
        """Raises ShapeError when `obs_size` is not that of an observation of `system`."""
        slots, rest = divmod(obs_size - system.n - 6, OBSTACLE)
        if rest or slots < 1:
            raise ShapeError(
                f"trajectory: observations have {obs_size} entries, expected {system.n} + 6 + {OBSTACLE} per slot: "
                f"record them with safeplan.dynamics.observe for system {system.name!r}"
            )
        if horizon < 1:
            raise ConfigError(f"trajectory: horizon {horizon}, expected at least 1 step")
        return Layout(
            system.n, system.m, horizon, slots, system.position,
            tuple(i for i, q in enumerate(system.states) if q.angle),
            tuple(map(float, system.control_low)), tuple(map(float, system.control_high)),
        )  # fmt: skip

    @staticmethod
    def from_dict(d: Mapping[str, Any]) -> "Layout":
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in d.items()}
        return Layout(**fields)

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def length(self) -> int:
        """L."""
        return -(-(self.horizon + 1) // 4) * 4

    @property
    def moved(self) -> list[int]:
        return [*self.position, *self.angles]

    @property
    def rest(self) -> list[int]:
        return [i for i in range(self.n) if i not in self.moved]

    @property
    def leaf_sizes(self) -> dict[str, int | tuple[int, int]]:
        """Leaves of the condition, as `TemporalUNet` takes them."""
        start = len(self.rest) + 2 * len(self.angles)
        return {"start": max(start, 1), "goal": 2, "walls": 4, "obstacles": (self.slots, OBSTACLE)}


def tokens(layout: Layout, states: Tensor, actions: Tensor) -> Tensor:
    """Unnormalised tokens `[B, L, D]` of states `[B, H+1, n]` and actions `[B, H+1, m]`; the last row is repeated."""
    rel = states.clone()
    rel[..., list(layout.position)] -= states[:, :1, list(layout.position)]
    for i in layout.angles:
        turn = torch.diff(states[..., i], dim=1)
        turn = torch.atan2(torch.sin(turn), torch.cos(turn)).cumsum(1)
        rel[..., i] = torch.cat([torch.zeros_like(turn[:, :1]), turn], 1)
    x = torch.cat([rel, actions], -1)
    more = layout.length - x.shape[1]
    return torch.cat([x, x[:, -1:].expand(-1, more, -1)], 1) if more else x


def leaves(layout: Layout, obs: Tensor) -> dict[str, Tensor]:
    """Unnormalised condition from observations `[B, O]`."""
    size = layout.n + 6 + layout.slots * OBSTACLE
    if obs.ndim != 2 or obs.shape[1] != size:
        raise ShapeError(f"trajectory: observations are {tuple(obs.shape)}, expected [B, {size}]")
    x, goal, walls, slots = obs.split([layout.n, 2, 4, layout.slots * OBSTACLE], 1)
    yaw = x[:, list(layout.angles)]
    start = torch.cat([x[:, layout.rest], torch.cos(yaw), torch.sin(yaw)], 1)
    if start.shape[1] == 0:
        start = torch.zeros_like(x[:, :1])
    return {"start": start, "goal": goal, "walls": walls, "obstacles": slots.unflatten(1, (layout.slots, OBSTACLE))}


class Codec:
    """Normalisation of tokens and conditions, fitted on logs; `stats` are its tensors, by name."""

    def __init__(self, layout: Layout, stats: Mapping[str, Tensor]):
        self.layout, self.stats = layout, dict(stats)
        low, high = stats["token.mean"].new_tensor([layout.control_low, layout.control_high])
        self._low, self._high = low, high

    @staticmethod
    def fit(layout: Layout, token_rows: Tensor, obs: Tensor) -> "Codec":
        """From token rows `[R, D]` and observations `[N, O]`; a column that never changes keeps its unit."""
        stats = _spread("token", token_rows)
        for name, leaf in leaves(layout, obs).items():
            rows = leaf[leaf[..., -1] < FAR] if name == "obstacles" else leaf
            rows = leaf.flatten(0, -2) if not len(rows) else rows
            stats |= _spread(name, rows)
            stats[f"{name}.low"], stats[f"{name}.high"] = rows.amin(0), rows.amax(0)
        return Codec(layout, stats)

    def encode(self, name: str, x: Tensor) -> Tensor:
        return (x - self.stats[f"{name}.mean"]) / self.stats[f"{name}.std"]

    def condition(self, obs: Tensor) -> dict[str, Tensor]:
        """Normalised leaves."""
        return {k: self.encode(k, v).clamp(-REACH, REACH) for k, v in leaves(self.layout, obs).items()}

    def start(self, obs: Tensor) -> Tensor:
        """Normalised token `[B, D]` of the start state; its control part means nothing."""
        x = obs[:, : self.layout.n].clone()
        x[:, self.layout.moved] = 0.0
        return self.encode("token", torch.cat([x, x.new_zeros(len(x), self.layout.m)], 1))

    def decode(self, x: Tensor, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Absolute states `[B, H+1, n]` and controls `[B, H, m]` (not cut at their bounds) of normalised tokens."""
        y = (x * self.stats["token.std"] + self.stats["token.mean"])[:, : self.layout.horizon + 1]
        base = torch.zeros_like(obs[:, : self.layout.n])
        base[:, self.layout.moved] = obs[:, self.layout.moved]
        states, actions = y.split([self.layout.n, self.layout.m], -1)
        controls = self._low + (actions[:, :-1] + 1) / 2 * (self._high - self._low)
        return states + base[:, None], controls

    def support(self, obs: Tensor) -> Tensor:
        """`[B]`: worst feature's distance from the middle of the logs' range, 1 at its edge; inf for NaN.

        Place does not count, nor do empty obstacle slots.
        """
        worst = obs.new_zeros(len(obs))
        for name, leaf in leaves(self.layout, obs).items():
            low, high = self.stats[f"{name}.low"], self.stats[f"{name}.high"]
            off = (leaf - (low + high) / 2).abs() / ((high - low) / 2).clamp_min(FLOOR)
            if name == "obstacles":
                off = torch.where(leaf[..., -1:] < FAR, off, torch.zeros_like(off))
            worst = torch.maximum(worst, off.flatten(1).amax(1))
        return torch.where(torch.isfinite(obs).all(1), worst, torch.full_like(worst, torch.inf))


def _spread(name: str, rows: Tensor) -> dict[str, Tensor]:
    mean, std = rows.double().mean(0), rows.double().std(0, unbiased=False)
    std = torch.where(std > FLOOR, std, torch.ones_like(std))
    return {f"{name}.mean": mean.float(), f"{name}.std": std.float()}
