"""Trajectory diffusion as a learner of the training loop: windows of logs, conditioned on what was seen at their start.

After Diffuser [diffuser], with the start state pinned in training and classifier-free dropout of the condition [cfg].
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeplan.data import Log
from safeplan.diffusion import Denoiser, VPCosine, denoising_loss
from safeplan.dynamics.system import System
from safeplan.errors import CheckpointError, ConfigError, DataError
from safeplan.nets import TemporalUNet
from safeplan.schema import in_range
from safeplan.training.ema_learner import EmaLearner, learning_rate
from safeplan.training.sources import WindowSource
from safeplan.training.trajectory_codec import Codec, Layout, tokens
from safeplan.training.trajectory_model import TrajectoryModel, pinned

PAD_WEIGHT = 0.05  # rows after the end of an episode: held still, and of little weight


@dataclass(frozen=True)
class TrajectoryConfig:
    """Settings of the trajectory model and of its training."""

    horizon: int = 23  # steps of a sample; horizon + 1 a multiple of 4 wastes nothing
    width: int = 32  # channels of the U-Net's first level, a multiple of 8
    emb: int = 128  # size of its condition vector
    predict: str = "x0"  # x0 | v | eps
    batch: int = 128  # windows per update
    lr: float = 1e-3  # AdamW
    weight_decay: float = 1e-4
    warmup: int = 200  # updates until lr is reached
    decay_updates: int = 20_000  # cosine to a tenth of lr over so many updates; 0 keeps lr constant
    clip_grad: float = 1.0  # largest norm of the gradient
    ema_rate: float = 0.002  # of the weights that are used; larger at first
    drop: float = 0.15  # probability of training without the condition, for guidance
    safe_only: bool = True  # leave out windows with a cost
    temperature: float = 1.0  # windows weigh exp(temperature * standardised sum of rewards) ...
    weight_clip: float = 4.0  # ... cut at this many times more and less than 1

    def __post_init__(self) -> None:
        in_range(
            self,
            "trajectory",
            {
                "count": "horizon width emb batch",
                "count or 0": "warmup decay_updates",
                "positive": "lr clip_grad",
                "not negative": "weight_decay temperature",
                "in (0, 1]": "ema_rate",
                "in [0, 1)": "drop",
                "at least 1": "weight_clip",
            },
        )
        if self.width % 8:
            raise ConfigError(f"trajectory.width is {self.width}, expected a multiple of 8")
        if self.predict not in ("x0", "v", "eps"):
            raise ConfigError(f"trajectory.predict is {self.predict!r}, expected one of x0, v, eps")


class TrajectoryLearner(EmaLearner):
    """Network, its EMA and optimiser, behind the `Learner` protocol."""

    kind = "trajectory"

    def __init__(
        self, codec: Codec, config: TrajectoryConfig | None = None, *, seed: int = 0, device: str | torch.device = "cpu"
    ) -> None:
        self.settings, self.device = config or TrajectoryConfig(), torch.device(device)
        self.codec = Codec(codec.layout, {k: v.to(self.device) for k, v in codec.stats.items()})
        self.config: dict[str, Any] = {"trajectory": asdict(self.settings), "layout": codec.layout.to_dict()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = _network(codec.layout, self.settings).to(self.device)
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.denoiser = Denoiser(self.net, VPCosine(), self.settings.predict)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay, fused=True
        )
        self.updates = 0

    def update(self, batch: dict[str, Tensor], generator: torch.Generator) -> Mapping[str, Tensor]:
        """One step. Batch: states `[B, H+1, n]`, actions `[B, H+1, m]` in [-1, 1], alive `[B, H+1]` (1 until the state
        after the last action of the episode), and per window obs `[B, O]`, weights `[B]`."""
        c, layout = self.settings, self.codec.layout
        x0 = self.codec.encode("token", tokens(layout, batch["states"], batch["actions"]))
        keep = entry_weights(layout, batch["alive"].to(x0.dtype))
        cond = pinned(self.codec, batch["obs"])
        x0 = cond.pin.write(x0)  # type: ignore[union-attr]
        loss = denoising_loss(self.denoiser, x0, cond, batch["weights"], generator, drop=c.drop, entry_weights=keep)
        return self.descend(loss, c, learning_rate(c, self.updates))

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"net.{k}": v for k, v in self.ema.state_dict().items()}
        return tensors | {f"codec.{k}": v for k, v in self.codec.stats.items()}, self.config

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], meta: dict[str, Any]) -> TrajectoryModel:
        """The model on the tensors' device, ready to sample."""
        try:
            settings = TrajectoryConfig(**meta["trajectory"])
            layout = Layout.from_dict(meta["layout"])
            stats = {k.removeprefix("codec."): v for k, v in tensors.items() if k.startswith("codec.")}
            codec = Codec(layout, stats)
            net = _network(layout, settings).to(stats["token.mean"].device)
            net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        except (KeyError, TypeError, RuntimeError, ConfigError) as e:
            raise CheckpointError(f"checkpoint does not fit this version's trajectory model ({e}). Train again") from e
        return TrajectoryModel(net, codec, settings.predict)


def trajectory_from_log(
    log: Log,
    system: System,
    config: TrajectoryConfig | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> tuple[TrajectoryLearner, WindowSource]:
    """Learner and source for `train`.

    Windows may run past the end of their episode (the last state is held), so that arrivals are seen from close by.

    Raises:
        ShapeError: observations that are not those of `system`. DataError: no window without a cost.
    """
    config = config or TrajectoryConfig()
    layout = Layout.of(system, config.horizon, log.observations.shape[1])
    if log.actions.shape[1] != system.m:
        there = log.actions.shape[1]
        raise DataError(f"trajectory: the log has {there} actions, system {system.name!r} has {system.m} controls")
    columns, starts, rows, cost, reward = _held(log, layout)
    if config.safe_only:
        starts, rows, cost, reward = (v[cost == 0] for v in (starts, rows, cost, reward))
        if not len(starts):
            raise DataError(
                "trajectory: every window of the log has a cost. Record safe stretches, or set safe_only=false"
            )
    z = (reward - reward.mean()) / max(float(reward.std()), 1e-9)
    clip = math.log(config.weight_clip)
    weights = np.exp(np.clip(config.temperature * z, -clip, clip))
    labels = {"obs": log.observations[rows], "weights": (weights / weights.mean()).astype(np.float32)}
    source = WindowSource(columns, starts, layout.horizon + 1, config.batch, log.digest(), device, labels)
    sample = {k: torch.as_tensor(v) for k, v in columns.items()}
    pick = np.linspace(0, len(starts) - 1, min(len(starts), 4000)).astype(int)
    index = torch.as_tensor(starts[pick])[:, None] + torch.arange(layout.horizon + 1)
    fitted = tokens(layout, sample["states"][index], sample["actions"][index])[:, 1 : layout.horizon + 1].flatten(0, 1)
    codec = Codec.fit(layout, fitted, torch.as_tensor(labels["obs"]))
    return TrajectoryLearner(codec, config, seed=seed, device=device), source


def entry_weights(layout: Layout, alive: Tensor) -> Tensor:
    """Loss weights `[B, L, D]` from `alive [B, H+1]`: a state counts while alive, an action when its outcome does."""
    dead = layout.length - alive.shape[1]
    state = torch.nn.functional.pad(alive, (0, dead))
    action = torch.nn.functional.pad(alive[:, 1:], (0, dead + 1))
    both = torch.cat([state[..., None].expand(-1, -1, layout.n), action[..., None].expand(-1, -1, layout.m)], -1)
    return PAD_WEIGHT + (1 - PAD_WEIGHT) * both


def _network(layout: Layout, c: TrajectoryConfig) -> TemporalUNet:
    return TemporalUNet(layout.n + layout.m, layout.leaf_sizes, c.width, c.emb)


def _held(log: Log, layout: Layout) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Columns with every episode's last state held for H + 1 rows; and per window: first row there, first row in the
    log, sum of costs, sum of rewards."""
    n, h = layout.n, layout.horizon
    states, actions, alive, starts, rows, cost, reward = [], [], [], [], [], [], []
    at = 0
    for a, b in log.episodes:
        size = b - a
        last = np.repeat(log.next_observations[b - 1 : b, :n], h + 1, 0)
        states.append(np.concatenate([log.observations[a:b, :n], last]))
        actions.append(np.concatenate([log.actions[a:b], np.zeros((h + 1, log.actions.shape[1]), np.float32)]))
        alive.append(np.concatenate([np.ones(size + 1, np.float32), np.zeros(h, np.float32)]))
        starts.append(at + np.arange(size))
        rows.append(np.arange(a, b))
        for out, column in ((cost, log.costs), (reward, log.rewards)):
            total = np.concatenate([[0.0], np.cumsum(column[a:b].astype(float)), np.full(h, 0.0)])
            total[size + 1 :] = total[size]
            out.append(total[np.arange(size) + h] - total[:size])
        at += size + h + 1
    columns = {"states": np.concatenate(states), "actions": np.concatenate(actions), "alive": np.concatenate(alive)}
    return columns, *(np.concatenate(v) for v in (starts, rows, cost, reward))  # type: ignore[return-value]
