"""Teaching a flow map: every stored point of every trajectory is a start, every later one within reach a label."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeplan.errors import CheckpointError, ConfigError
from safeplan.nets.flow_net import FlowNet
from safeplan.nets.following_flow_net import FollowingFlowNet, SpreadTable, gathers, spread_table
from safeplan.reach.learned.flow import LearnedFlow
from safeplan.reach.learned.trajectories import Trajectories
from safeplan.rng import fold, torch_rng
from safeplan.schema import in_range
from safeplan.training.net_learner import NetLearner

GATHERED = 1e-3  # share of its spread with which a state ends: below it one scale is too coarse (at .003 it is not)


@dataclass(frozen=True)
class FlowConfig:
    """How a flow map is taught. With `reach` as many steps as the trajectories have and `restarts` off it is one map
    for the whole horizon, as the published network is."""

    hidden: tuple[int, ...] = (64, 64, 64)  # widths of the layers
    activation: str = "silu"  # silu | tanh | relu: smooth ones, since densities are derivatives
    reach: int = 10  # longest duration in steps of the trajectories' grid
    restarts: bool = True  # learn from every stored point, not from the first alone
    updates: int = 40_000  # in all; the learning rate falls to zero over them
    batch: int = 2048  # pairs an update
    lr: float = 3e-3  # of Adam, at first

    def __post_init__(self) -> None:
        in_range(self, "flow", {"count": "reach updates batch", "positive": "lr"})
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"flow.hidden={list(self.hidden)}: give at least one layer of at least 1")


class PairSource:
    """Batches of (state, parameters, begin, duration) -> (state, log-gain) for `train`, drawn from `(seed, step)`."""

    def __init__(self, data: Trajectories, config: FlowConfig, device: str | torch.device = "cpu") -> None:
        data.check()
        self.steps, self.stride, self.config = len(data.times) - 1, data.stride, config
        self.step_s = float(data.times[1] - data.times[0])
        self.most = config.reach + config.reach // 4  # a net is least exact at the ends of what it has seen
        if not config.restarts and config.reach < self.steps:
            raise ConfigError(
                f"flow.restarts=false with flow.reach={config.reach}: the flow would be asked from states that it "
                f"never started from; give a reach of {self.steps}, the whole trajectory"
            )
        self.labelled = data.gain is not None
        gain = data.gain if data.gain is not None else np.zeros((len(data.times), data.states.shape[2]))
        joint = np.concatenate([data.states, gain[:, None]], 1)
        self.values = torch.as_tensor(
            joint.transpose(2, 0, 1).copy(), dtype=torch.float32, device=device
        )  # [N, T, n+1]
        self.theta = torch.as_tensor(data.theta, dtype=torch.float32, device=device)
        self.digest = digest_of(data)

    def batch(self, step: int, seed: int) -> dict[str, Tensor]:
        """Pairs number `step`: x `[B, n]`, theta `[B, p]`, begin and tau `[B]` (s), target `[B, n + 1]`."""
        g, size = torch_rng(seed, "pairs", step), self.config.batch
        run = torch.randint(len(self.values), (size,), generator=g)
        share = torch.rand(2, size, generator=g)
        first = (share[0] * self.steps).long() if self.config.restarts else torch.zeros(size, dtype=torch.long)
        left = self.stride - first % self.stride  # up to where the parameters change
        span = torch.minimum(left, torch.clamp(self.steps - first, max=self.most))
        return self._pairs(run, first, 1 + (share[1] * span).long())

    def _pairs(self, run: Tensor, first: Tensor, span: Tensor) -> dict[str, Tensor]:
        """The pairs that begin at grid index `first` of trajectory `run` and last `span` steps, `[B]` each."""
        run, first, span = (v.to(self.values.device) for v in (run, first, span))
        a, b = self.values[run, first], self.values[run, first + span]
        theta = self.theta[run, torch.clamp(first // self.stride, max=self.theta.shape[1] - 1)]
        target = torch.cat([b[:, :-1], (b - a)[:, -1:]], 1)
        when = {"begin": first * self.step_s, "tau": span * self.step_s}
        return {"x": a[:, :-1], "theta": theta, **when, "target": target}

    def longest(self, seed: int, most: int = 20_000) -> dict[str, Tensor]:
        """Pairs of the longest duration, which set the scales of a net."""
        g, reach = torch_rng(seed, "scales"), min(self.config.reach, self.stride, self.steps)
        run = torch.randint(len(self.values), (most,), generator=g)
        if self.config.restarts:  # as many whole ones as fit into a stretch, in any stretch that is recorded whole
            stretch = torch.randint(max(self.steps // self.stride, 1), (most,), generator=g) * self.stride
            first = stretch + torch.randint(self.stride // reach, (most,), generator=g) * reach
        else:
            first = torch.zeros(most, dtype=torch.long)
        return self._pairs(run, first, torch.full((most,), reach))


class FlowLearner(NetLearner):
    """A flow net and its optimiser, behind the `Learner` protocol."""

    kind = "flow"
    net: FlowNet | FollowingFlowNet

    def __init__(
        self,
        net: FlowNet | FollowingFlowNet,
        config: FlowConfig,
        stretch_s: float,
        labelled: bool,
        facts: Mapping[str, Any],
    ) -> None:
        self.net, self.settings, self.labelled = net, config, labelled
        shape = {"n": net.n, "p": net.p, "segment_s": net.segment_s, "stretch_s": _json(stretch_s)}
        self.config: dict[str, Any] = {"flow": asdict(config), **shape, "labelled": labelled, "facts": dict(facts)}
        self.config["flow"]["hidden"] = list(config.hidden)
        if isinstance(net, FollowingFlowNet):
            self.config["follows"] = {"steps": net.table.steps, "step_s": net.table.step_s}
        self.optimiser = torch.optim.Adam(net.parameters(), lr=config.lr, fused=True)

    def update(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """One step of squared errors, each in units of its own change over a segment."""
        state, gain = self.net(batch["x"], batch["theta"], batch["tau"], batch["begin"])
        miss = torch.cat([state, gain[:, None]], 1) - batch["target"]
        error = miss / self.net.units(batch["tau"], batch["begin"])
        if not self.labelled:
            error = error[:, :-1]
        loss = error.square().sum(1).mean()
        self.step(loss, self.settings.lr * max(1 - self.updates / self.settings.updates, 1e-4))
        return {"loss": loss.detach()}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], meta: dict[str, Any]) -> LearnedFlow:
        """The flow on the tensors' device, ready for use."""
        try:
            config = FlowConfig(**{**meta["flow"], "hidden": tuple(meta["flow"]["hidden"])})
            table = SpreadTable(meta["n"], **meta["follows"]) if "follows" in meta else None  # absent: one scale
            net = _net(meta["n"], meta["p"], config, meta["segment_s"], table)
            net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items()})
            stretch = float("inf") if meta["stretch_s"] is None else float(meta["stretch_s"])
            flow = LearnedFlow(net, stretch, not meta["labelled"], meta["facts"])
        except (KeyError, TypeError, RuntimeError, ConfigError) as e:
            raise CheckpointError(f"checkpoint does not fit this version's flow ({e}). Train again") from e
        net.to(next(iter(tensors.values())).device).eval().requires_grad_(False)
        return flow


def _net(n: int, p: int, config: FlowConfig, segment_s: float, table: SpreadTable | None) -> FlowNet | FollowingFlowNet:
    """With random weights and no scales yet; one that follows the spread when there is a table of it."""
    if table is None:
        return FlowNet(n, p, config.hidden, segment_s, activation=config.activation)
    return FollowingFlowNet(FlowNet(n, p + 1, config.hidden, segment_s, activation=config.activation), table)


def _json(stretch_s: float) -> float | None:
    return stretch_s if np.isfinite(stretch_s) else None


def digest_of(data: Trajectories) -> str:
    """Hash of all arrays of a set of trajectories."""
    import hashlib

    sha = hashlib.sha256(repr(data.stretch_s).encode())
    for array in (data.times, data.states, data.theta, *([] if data.gain is None else [data.gain])):
        sha.update(str(array.shape).encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def flow_from_trajectories(
    data: Trajectories,
    config: FlowConfig | None = None,
    *,
    seed: int = 0,
    follow: bool | None = None,
    device: str | torch.device = "cpu",
    facts: Mapping[str, Any] | None = None,
) -> tuple[FlowLearner, PairSource]:
    """Learner and source for `train`. Without `data.gain` the log-gain comes from the net's Jacobian.

    Args:
        follow: scale the states by their mean and spread at each time; the default is to where some state gathers to
            less than a thousandth of its spread.

    Raises:
        ShapeError, DataError: faults of the trajectories (`Trajectories.check`).
    """
    config = config or FlowConfig()
    source = PairSource(data, config, device)
    reach = min(config.reach, source.stride, source.steps)
    if follow is None:
        follow = gathers(data.states, GATHERED)
    table = spread_table(data.times, data.states, data.gain) if follow else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, "flow", "init") % 2**63)
        net = _net(data.states.shape[1], data.theta.shape[2], config, reach * source.step_s, table).to(device)
    far = source.longest(seed)
    if isinstance(net, FollowingFlowNet):
        net.fit_scales(**far)
    else:
        change = far["target"] - torch.cat([far["x"], torch.zeros_like(far["tau"])[:, None]], 1)
        net.fit_scales(torch.cat([far["x"], far["theta"]], 1), change)
    return FlowLearner(net, config, data.stretch_s, source.labelled, facts or {}), source
