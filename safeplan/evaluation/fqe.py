"""What would this policy return and cost, when there is a log and no simulator? Fitted-Q evaluation with intervals.

Every member of an ensemble learns Q of the policy on its own bootstrap sample of the log's episodes [fqe]. The interval
is of the bootstrap: it covers the accident of which episodes were logged. It does not cover what no log can tell: where
the policy goes and the log never went, Q is an extrapolation, and the estimate is biased by an unknown amount. Compare
with `Support` before an estimate is believed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from tqdm.auto import tqdm

from safeplan.data import Log, Normalizer
from safeplan.errors import ConfigError, DataError, ShapeError
from safeplan.evaluation.stats import CONFIDENCE, Interval
from safeplan.nets import ema_update
from safeplan.nets.ensemble import EnsembleMLP
from safeplan.rng import fold, numpy_rng, torch_rng
from safeplan.schema import in_range
from safeplan.types import Array

Act = Callable[[Array, torch.Generator], Array]  # observations [B, S] -> actions [B, A] in [-1, 1]
SIGNALS = ("rewards", "costs")
SETTLED = 0.95  # share of a value that must have reached the estimate


@dataclass(frozen=True)
class FqeConfig:
    """Settings of the evaluation.

    Raises:
        ConfigError: one is out of range, or the targets move too little for what `gamma` asks to look ahead.
    """

    gamma: float = 0.99  # discount of what is estimated
    members: int = 8  # bootstrap samples
    updates: int = 5000
    batch: int = 512
    hidden: int = 256
    lr: float = 3e-4
    target_rate: float = 0.1
    chunk: int = 4096  # states whose actions are drawn at once

    def __post_init__(self) -> None:
        names = {"inside (0, 1)": "gamma", "in (0, 1]": "target_rate", "positive": "lr"}
        in_range(self, "fqe", names | {"count": "members updates batch hidden chunk"})
        if self.members < 2:
            raise ConfigError(f"fqe.members is {self.members}, expected at least 2: their spread is the interval")
        if self.settled < SETTLED:
            raise ConfigError(
                f"fqe: {self.updates} updates at target_rate {self.target_rate:g} carry {self.settled:.0%} of a value "
                f"at gamma {self.gamma:g} into the estimate, expected at least {SETTLED:.0%}; give more of either"
            )

    @property
    def settled(self) -> float:
        """Share of a constant value that the targets reach from 0: they close (1 - gamma) target_rate an update."""
        return 1 - (1 - self.target_rate * (1 - self.gamma)) ** self.updates


@dataclass(frozen=True)
class Estimate:
    """Expected discounted sum from the log's first states: estimate and interval, and each member's `[M]`."""

    value: Interval
    members: Array
    gamma: float
    signal: str


@dataclass(frozen=True)
class Choices:
    """A policy's actions in all next states of a log, `after [N, A]`, and in its first states, `begun [E, A]`."""

    after: Array
    begun: Array


def choices(log: Log, act: Act, *, seed: int = 0, chunk: int = 4096) -> Choices:
    """Ask the policy once, for `fqe` of both signals: worth it where acting is slow. `chunk`: states asked at once.

    Raises:
        ShapeError: the policy's actions do not have the shape of the log's.
    """
    size, first = log.actions.shape[1], log.episodes[:, 0]
    return Choices(
        _choices(act, log.next_observations, size, chunk, torch_rng(seed, "fqe", "act")),
        _choices(act, log.observations[first], size, chunk, torch_rng(seed, "fqe", "first")),
    )


def fqe(
    log: Log,
    act: Act | Choices,
    signal: str = "rewards",
    config: FqeConfig | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Estimate for the policy `act`, which is asked once for an action in every next state of the log, or was before.

    Time-outs bootstrap, terminals end. No value leaves the range of an endless flight at the log's least or largest
    signal: where the policy acts as nobody did, Q would else feed on its own extrapolation without bound.

    Raises:
        DataError: an unknown signal, or a log of one episode (nothing to draw a bootstrap sample from).
        ShapeError: the policy's actions do not have the shape of the log's.
    """
    c = config or FqeConfig()
    if signal not in SIGNALS:
        raise DataError(f"fqe: signal {signal!r}; use {' or '.join(SIGNALS)}")
    episodes = log.episodes
    if len(episodes) < 2:
        raise DataError("fqe: the log has one episode; an interval needs at least two")
    normalizer = Normalizer.fit(log.observations)
    counts = numpy_rng(seed, "fqe", "bootstrap").multinomial(
        len(episodes), np.full(len(episodes), 1 / len(episodes)), c.members
    )
    weights = np.repeat(counts, np.diff(episodes, axis=1)[:, 0], axis=1)  # [M, N], in the order of the rows

    def inputs(obs: Array, actions: Array) -> Tensor:
        return torch.from_numpy(np.concatenate([normalizer.encode(obs), actions], -1)).to(device)

    first = episodes[:, 0]
    chosen = act if isinstance(act, Choices) else choices(log, act, seed=seed, chunk=c.chunk)
    if len(chosen.after) != len(log) or len(chosen.begun) != len(first):
        raise ShapeError(f"fqe: choices in {len(chosen.after)} states are of another log, which has {len(log)}")
    x, after, start = (
        inputs(log.observations, log.actions),
        inputs(log.next_observations, chosen.after),
        inputs(log.observations[first], chosen.begun),
    )
    signals = torch.from_numpy(getattr(log, signal)).to(device)
    size = float(signals.square().mean().sqrt())
    scale = max(float(signals.std()), 0.1 * size) or 1.0  # a signal that hardly varies is far from 0 in its spread
    ends = (0.0, float(signals.min()), float(signals.max()))
    low, high = (end / (scale * (1 - c.gamma)) for end in (min(ends), max(ends)))
    mask = torch.from_numpy(1 - log.terminals.astype(np.float32)).to(device)
    w = torch.from_numpy(weights.astype(np.float32)).to(device)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(fold(seed, "fqe", "init"))
        q, target = (EnsembleMLP(x.shape[1], 1, (c.hidden, c.hidden), c.members).to(device) for _ in range(2))
    target.load_state_dict(q.state_dict())
    optimiser = torch.optim.Adam(q.parameters(), lr=c.lr, fused=True)
    draw = torch_rng(seed, "fqe", "rows")
    for _ in tqdm(range(c.updates), desc=f"fqe {signal}", disable=None, leave=False):
        rows = torch.randint(len(x), (c.batch,), generator=draw).to(device)
        with torch.no_grad():
            y = signals[rows] / scale + c.gamma * mask[rows] * target(after[rows])[..., 0].clamp(low, high)
        loss = (w[:, rows] * (q(x[rows])[..., 0] - y).square()).mean(1).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        ema_update(target, q, c.target_rate)
    with torch.no_grad():
        values = scale * q(start)[..., 0].clamp(low, high).cpu().double().numpy()
    members = (counts * values).sum(1) / counts.sum(1)
    centre, spread = float(members.mean()), float(members.std(ddof=1))
    half = float(stats.t.ppf(0.5 + confidence / 2, c.members - 1)) * spread
    within = Interval(centre, max(centre - half, low * scale), min(centre + half, high * scale))
    return Estimate(within, members, c.gamma, signal)


def discounted(log: Log, signal: str, gamma: float) -> Array:
    """Discounted sums `[E]` of the logged episodes: what the estimate is of, for the behaviour itself."""
    values = getattr(log, signal).astype(np.float64)
    return np.array([values[a:b] @ gamma ** np.arange(b - a) for a, b in log.episodes])


def _choices(act: Act, obs: Array, size: int, chunk: int, generator: torch.Generator) -> Array:
    parts = [np.asarray(act(obs[i : i + chunk], generator), np.float32) for i in range(0, len(obs), chunk)]
    chosen = np.concatenate(parts)
    if chosen.shape != (len(obs), size):
        raise ShapeError(f"fqe: the policy's actions are {chosen.shape}, expected {(len(obs), size)}")
    return chosen
