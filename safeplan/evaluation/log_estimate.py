"""What a policy would return and cost, from a log alone: fitted-Q estimates, the driver's own, and their support."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from safeplan.baselines.offline.rival import Rival
from safeplan.data import Log
from safeplan.data.support import Support
from safeplan.errors import ConfigError
from safeplan.evaluation.fqe import SIGNALS, Act, Choices, FqeConfig, choices, discounted, fqe
from safeplan.evaluation.stats import Interval, mean_of_runs
from safeplan.feasibility import FisorPolicy
from safeplan.feasibility.one_step import OneStepPolicy
from safeplan.rng import numpy_rng
from safeplan.types import Array

ALPHA = 0.01  # share of pairs like the log's own that are called unlike them too
PROBED = 5000  # states asked about


@dataclass(frozen=True)
class LogEstimate:
    """Discounted sums by signal, `rewards` and `costs`.

    policy: of the policy, from the log's first states. driver: mean of the logged episodes, `flown_on`. unlike: share
    of the log's next states in which the policy's action is unlike any logged there; `ALPHA` of the driver's own are.
    """

    policy: dict[str, Interval]
    driver: dict[str, Interval]
    unlike: float
    gamma: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        plain = {k: {s: v._asdict() for s, v in getattr(self, k).items()} for k in ("policy", "driver")}
        return asdict(self) | plain


def estimate(policy: Any, log: Log, config: FqeConfig | None = None, *, seed: int = 0) -> LogEstimate:
    """Estimates for what `training.load` gives.

    Raises:
        ConfigError: a policy that acts by more than the state. ShapeError: one that is of other states than the log's.
        DataError: a log of too few episodes.
    """
    config, act = config or FqeConfig(), acting(policy)
    chosen = choices(log, act, seed=seed, chunk=config.chunk)
    found = {s: fqe(log, chosen, s, config, seed=seed).value for s in SIGNALS}
    driver = {s: mean_of_runs(flown_on(log, s, config.gamma)) for s in SIGNALS}
    return LogEstimate(found, driver, unlike(log, chosen, seed), config.gamma)


def flown_on(log: Log, signal: str, gamma: float) -> Array:
    """Discounted sums `[E]` of the logged episodes as if those that did not end by themselves went on as they were.

    An estimate is of an endless flight; an episode that timed out stands for one with its own discounted mean.
    """
    sums, ends = discounted(log, signal, gamma), log.episodes
    whole = log.terminals[ends[:, 1] - 1]
    seen = 1.0 - gamma ** np.diff(ends, axis=1)[:, 0]  # share of the discounted weight that was logged
    return np.where(whole, sums, sums / seen)


def acting(policy: Any) -> Act:
    """The policy as a function of the state alone. Raises ConfigError."""
    if isinstance(policy, FisorPolicy | OneStepPolicy):
        if policy.budget > 0:
            raise ConfigError("estimate: this policy acts by what is left of a budget too, which no log holds")
        return policy.act
    if isinstance(policy, Rival):
        if policy.kind in ("cdt", "trebi"):
            raise ConfigError(
                f"estimate: {policy.kind} remembers its episode, and fitted-Q evaluation asks states alone"
            )
        return lambda obs, g: policy.act(obs, policy.start(len(obs), policy.facts.cost_limit), g)[0]
    raise ConfigError(
        f"estimate: {type(policy).__name__} does not choose actions of a log. Give a FISOR or a rival of it"
    )


def unlike(log: Log, chosen: Choices, seed: int = 0) -> float:
    """Share of states in which the policy acts as the log never did; by distance in states and actions together."""
    pairs = replace(
        log,
        observations=np.concatenate([log.observations, log.actions], -1),
        next_observations=np.concatenate([log.next_observations, chosen.after], -1),
    )
    rng = numpy_rng(seed, "estimate", "support")
    support = Support.fit(pairs, rng)
    rows = rng.choice(len(log), min(PROBED, len(log)), replace=False)
    return float(support.outside(pairs.next_observations[rows], ALPHA).mean())
