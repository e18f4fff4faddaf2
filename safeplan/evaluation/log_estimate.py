"""What a policy would return and cost, from a log alone: fitted-Q estimates, the driver's own, and their support."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from safeplan.baselines.offline.rival import Rival
from safeplan.data import Log, Normalizer
from safeplan.data.support import Ranks, folds, rows
from safeplan.errors import ConfigError
from safeplan.evaluation.fqe import SIGNALS, Act, Choices, FqeConfig, choices, discounted, fqe
from safeplan.evaluation.stats import Interval, mean_of_runs
from safeplan.feasibility import FisorPolicy
from safeplan.feasibility.one_step import OneStepPolicy
from safeplan.rng import numpy_rng
from safeplan.types import Array

ALPHA = 0.01  # share of the driver's own actions that are called unlike the log too, more where episodes are few
PROBED = 5000  # states asked about
NEAR = 16  # logged states whose actions an action is compared with


@dataclass(frozen=True)
class LogEstimate:
    """Discounted sums by signal, `rewards` and `costs`.

    policy: of the policy, from the log's first states. driver: mean of the logged episodes, `flown_on`. unlike: share
    of logged states in which the policy's action is unlike those of other episodes there; `chance` of the driver's are.
    """

    policy: dict[str, Interval]
    driver: dict[str, Interval]
    unlike: float
    chance: float
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
    return LogEstimate(found, driver, *unlike(log, chosen, seed), config.gamma)


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


def unlike(log: Log, chosen: Choices, seed: int = 0) -> tuple[float, float]:
    """Share of states in which the policy acts as nobody did there, and the share expected of the driver itself.

    An action's distance to the nearest of those that other episodes took in the NEAR most similar states, in standard
    deviations, against the same of the action that was logged: each episode is held out from what it is compared with.
    """
    rng, episodes = numpy_rng(seed, "estimate", "support"), log.episodes
    states, actions = Normalizer.fit(log.observations), Normalizer.fit(log.actions)
    each = max(1, PROBED // len(episodes))
    own, other, owners = [], [], []
    for kept, out in folds(log, rng):
        known = rows(episodes[kept], rng)
        tree = KDTree(states.encode(log.observations[known]))
        for e in out:
            before = np.arange(episodes[e, 0], episodes[e, 1] - 1)  # what follows is a state of the log
            before = before if len(before) <= each else rng.choice(before, each, replace=False)
            _, near = tree.query(states.encode(log.observations[before + 1]), k=min(NEAR, len(known)))
            there = actions.encode(log.actions[known[np.reshape(near, (len(before), -1))]])
            for distances, taken in ((own, log.actions[before + 1]), (other, chosen.after[before])):
                distances.append(np.linalg.norm(there - actions.encode(taken)[:, None], axis=-1).min(1))
            owners.append(np.full(len(before), e))
    ranks = Ranks.of(np.concatenate(own), np.concatenate(owners))
    chance = max(ALPHA, ranks.least)
    return float((ranks.p_value(np.concatenate(other)) <= chance).mean()), chance
