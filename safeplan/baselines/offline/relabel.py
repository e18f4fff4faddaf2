"""Wishes that no episode fulfils, relabelled on the best that there is: CDT's augmentation of a log."""

from typing import Any

import numpy as np

from safeplan.baselines.offline.facts import Facts, best_within, episode_sums
from safeplan.data import Log
from safeplan.rng import numpy_rng
from safeplan.types import Array

ABOVE = 0.1  # wishes go so far above the best return, in spreads of the log's returns (ours; theirs: a number per task)


def relabelled(log: Log, facts: Facts, share: float) -> tuple[Array, dict[str, Any]]:
    """First rows `[W]` of all windows, and `raise_return`, `raise_cost` `[W]` that are added to what is still to come.

    All rows of the log come first, raised by 0. Then, `share` times as many episodes: a cost wish is drawn between the
    least and the largest of the log, a return wish above what the log reaches within it, and the episode that does
    reach most there is asked to do its best for that wish: safety goes before return [cdt].
    """
    returns, costs, episodes = episode_sums(log, log.rewards), episode_sums(log, log.costs), log.episodes
    rng = numpy_rng(0, "cdt", "relabel")
    starts, up_return, up_cost = [np.arange(len(log))], [np.zeros(len(log))], [np.zeros(len(log))]
    top = returns.max() + ABOVE * (returns.max() - returns.min())
    for _ in range(round(share * len(episodes))):
        cost_wish = rng.uniform(costs.min(), costs.max())
        cost, best = best_within(facts.frontier, cost_wish)
        return_wish = rng.uniform(best, top)
        chosen = int(np.flatnonzero((costs == cost) & (returns == best))[0])
        rows = np.arange(*episodes[chosen])
        starts.append(rows)
        up_return.append(np.full(len(rows), (return_wish - best) / facts.return_scale))
        up_cost.append(np.full(len(rows), (cost_wish - cost) / facts.cost_scale))
    raised = {"raise_return": up_return, "raise_cost": up_cost}
    return np.concatenate(starts), {k: np.concatenate(v).astype(np.float32) for k, v in raised.items()}
