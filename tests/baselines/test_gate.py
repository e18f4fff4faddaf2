"""The gate against numbers known in advance, and every rival through it on the toy task."""

import math
from functools import cache

import numpy as np
import pytest

from safeplan.baselines.offline import make
from safeplan.baselines.offline.facts import episode_sums
from safeplan.baselines.offline.gate import gate
from safeplan.errors import ConfigError, DataError
from safeplan.evaluation.rollout import rollout
from tests.baselines.toy import HURRY, H, Road, descend, road_log

LOG = road_log(200, noise=0.15)
RETURNS = episode_sums(LOG, LOG.rewards)
COSTS = episode_sums(LOG, LOG.costs)
CRITICS = {"batch": 128, "gamma": 0.9, "reward_scale": 1.0}
FAST = {**CRITICS, "target_rate": 0.05, "cvae_hidden": 32, "critic_lr": 3e-3}
SEQUENCE = {"batch": 64, "width": 16, "blocks": 1, "heads": 2}
TRAINED: dict[str, tuple[int, dict]] = {  # updates and settings: larger steps than the defaults, as updates are few
    "bc": (200, {"batch": 128, "hidden": 32, "lr": 5e-3}),
    "bc_safe": (200, {"batch": 128, "hidden": 32, "lr": 5e-3}),
    "bcq_lag": (180, {**FAST, "hidden": 32, "samples": 4, "candidates": 20, "reach": 0.2, "ki": 0.02}),
    "cpq": (180, {**FAST, "actor_hidden": 32, "critic_hidden": 32, "samples": 2, "actor_lr": 3e-3}),
    "coptidice": (200, {**CRITICS, "hidden": 32, "alpha": 0.1, "actor_lr": 5e-3, "critic_lr": 5e-3}),
    "cdt": (80, {**SEQUENCE, "context": 4, "lr": 1e-2, "warmup": 10}),
    "trebi": (200, {**SEQUENCE, "horizon": 4, "value_hidden": 32, "lr": 5e-3}),
}


@cache
def episodes(method, limit):
    """20 episodes of `method`, trained and run for `limit`."""
    updates, settings = TRAINED[method]
    learner, source = make(method, LOG, limit, **settings)
    descend(learner, source, updates)
    return rollout([Road() for _ in range(20)], learner, episodes=20, limit=limit, seed=1, max_steps=H)


@pytest.mark.parametrize("method", TRAINED)
def test_every_rival_passes_on_the_toy_task(method):
    limit = 3.0 if method == "bc_safe" else math.inf
    found = gate(method, LOG, episodes(method, limit).returns, limit=limit)
    assert found.passed, found


@pytest.mark.parametrize("method", ["bcq_lag", "coptidice", "cdt", "trebi"])
def test_a_limit_is_felt_on_the_toy_task(method):
    """CPQ is not here: its mask does not lead back to what is safe."""
    free, tight = episodes(method, math.inf), episodes(method, 1.0)
    assert tight.costs.mean() < 0.5 * free.costs.mean(), (tight.costs.mean(), free.costs.mean())
    assert tight.returns.mean() > RETURNS.min()


def test_clones_are_held_to_what_they_were_shown():
    mean, spread = RETURNS.mean(), np.ptp(RETURNS)
    assert gate("bc", LOG, np.full(5, mean)).passed and gate("bc", LOG, np.full(5, mean)).reference == mean
    for off in (-0.11, 0.11):
        assert not gate("bc", LOG, np.full(5, mean + off * spread)).passed
        assert gate("bc", LOG, np.full(5, mean + off * spread), within=0.12).passed
    safe = RETURNS[COSTS <= 2].mean()
    assert gate("bc_safe", LOG, np.full(5, safe), limit=2.0).reference == pytest.approx(safe)


def test_the_others_are_held_to_the_best_tenth():
    best = np.sort(RETURNS)[-20:].mean()
    needed = RETURNS.min() + 0.9 * (best - RETURNS.min())
    found = gate("cpq", LOG, np.full(3, needed + 1e-9))
    assert found.passed and found.reference == pytest.approx(best) and found.needed[0] == pytest.approx(needed)
    assert not gate("cpq", LOG, np.full(3, needed - 1e-3)).passed
    assert gate("cpq", LOG, np.full(3, RETURNS.min() + 0.51 * (best - RETURNS.min())), share=0.5).passed
    assert best > HURRY * H  # only who hurries passes


def test_questions_without_an_answer_are_refused():
    with pytest.raises(ConfigError, match="'cpo' is unknown"):
        gate("cpo", LOG, np.zeros(3))
    with pytest.raises(ConfigError, match="cpq is judged without a limit, got limit=5"):
        gate("cpq", LOG, np.zeros(3), limit=5.0)
    for bad in (np.zeros(0), np.array([1.0, np.nan]), np.zeros((2, 2))):
        with pytest.raises(DataError, match="returns of bc are"):
            gate("bc", LOG, bad)
    with pytest.raises(DataError, match="costs at most -1"):
        gate("bc_safe", LOG, np.zeros(3), limit=-1.0)
