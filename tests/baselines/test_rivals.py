"""What all rivals promise: acts as it did before it was saved, depends on generators alone, resumes bit for bit."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

import safeplan
from safeplan.baselines.offline import RIVALS, TABLE, make
from safeplan.errors import CapabilityError, CheckpointError, ConfigError, DataError, SafeplanError, ShapeError
from safeplan.evaluation.rollout import rollout
from safeplan.rng import torch_rng
from safeplan.training import KINDS, train
from tests.baselines.toy import H, Road, descend, road_log

LOG = road_log(30)
LIMIT = 6.0
SMALL: dict[str, dict] = {
    "bc": {"hidden": 16},
    "bc_safe": {"hidden": 16},
    "bcq_lag": {"hidden": 16, "cvae_hidden": 16, "samples": 3, "candidates": 3},
    "cpq": {"actor_hidden": 16, "critic_hidden": 16, "cvae_hidden": 16, "samples": 3},
    "coptidice": {"hidden": 16},
    "cdt": {"context": 3, "width": 16, "heads": 2, "blocks": 1},
    "trebi": {"horizon": 4, "width": 16, "blocks": 1, "heads": 2, "value_hidden": 16, "steps": 3, "candidates": 2},
}


def small(name, log=LOG, limit=LIMIT, seed=0, **changes):
    return make(name, log, limit, seed, batch=16, **{**SMALL[name], **changes})


def acted(policy, seed=0, steps=3):
    """Actions `[steps, B, A]` over a few steps, with memory, on fixed observations."""
    obs = np.random.default_rng(5).uniform(-1, 1, (steps, 4, 2)).astype(np.float32)
    state, out = policy.start(4, LIMIT), []
    for k in range(steps):
        actions, state = policy.act(obs[k], state, torch_rng(seed, "act", k))
        state = policy.record(state, np.full(4, 0.3), np.array([0.0, 1.0, 2.0, 0.0]))
        out.append(actions)
    return np.stack(out)


def test_the_table_is_complete():
    assert set(SMALL) == set(RIVALS) == set(TABLE)
    for name, home in TABLE.items():
        cls = getattr(import_module(home[0]), home[1])
        assert cls.kind == name and KINDS[name] == home


@pytest.mark.parametrize("name", RIVALS)
def test_saved_and_loaded_it_acts_the_same(name, tmp_path):
    learner, source = small(name)
    train(learner, source, tmp_path, updates=3)
    policy = safeplan.load(tmp_path)
    np.testing.assert_array_equal(acted(policy), acted(learner))
    actions = acted(policy)
    assert actions.shape == (3, 4, 1) and actions.dtype == np.float32 and (np.abs(actions) <= 1).all()
    with pytest.raises(CapabilityError, match="cannot be trained"):
        policy.update(source.batch(0, 0), torch_rng(0))
    episodes = rollout([Road() for _ in range(2)], policy, episodes=2, limit=LIMIT, seed=0, max_steps=H)
    assert episodes.lengths.tolist() == [H, H]


@pytest.mark.parametrize("name", RIVALS)
def test_everything_random_comes_from_the_generator(name):
    def run(noise):
        torch.manual_seed(noise)
        learner, source = small(name)
        before = torch.get_rng_state()
        descend(learner, source, 2)
        actions = acted(learner)
        assert torch.equal(before, torch.get_rng_state())
        return learner, actions

    (a, x), (b, y) = run(0), run(1)
    for p, q in zip(a.nets.state_dict().values(), b.nets.state_dict().values(), strict=True):
        assert torch.equal(p, q)
    np.testing.assert_array_equal(x, y)
    other, _ = small(name, seed=1)
    assert not np.array_equal(acted(other), acted(small(name)[0]))


@pytest.mark.parametrize("name", RIVALS)
def test_resuming_is_bit_exact(name, tmp_path):
    def run(folder, *stops):
        for updates in stops:
            learner, source = small(name)
            train(learner, source, tmp_path / folder, updates=updates, checkpoint_every=2, log_every=2)
        return learner

    whole, parts = run("a", 4), run("b", 2, 4)
    for (k, v), w in zip(whole.nets.state_dict().items(), parts.nets.state_dict().values(), strict=True):
        assert torch.equal(v, w), k
    assert whole.updates == parts.updates == 4
    np.testing.assert_array_equal(acted(whole), acted(parts))


@pytest.mark.parametrize("name", RIVALS)
def test_what_does_not_fit_is_refused(name, tmp_path):
    learner, source = small(name)
    batch = source.batch(0, 0)
    with pytest.raises(ShapeError, match=f"{name}: observations are"):
        learner.update({**batch, "observations": batch["observations"][..., :1]}, torch_rng(0))
    state = learner.start(2, LIMIT)
    with pytest.raises(ShapeError, match=r"observations are \(2, 3\), expected \[B, 2\]"):
        learner.act(np.zeros((2, 3)), state, torch_rng(0))
    with pytest.raises(DataError, match="hold NaN"):
        learner.act(np.full((2, 2), np.nan), state, torch_rng(0))
    if "rewards" in batch:
        sick = LOG.rewards.copy()
        sick[:] = np.nan
        with pytest.raises(DataError, match="'rewards' holds NaN"):
            small(name, log=replace(LOG, rewards=sick))
    with pytest.raises(ConfigError, match=rf"{name}\.btch is unknown. Did you mean 'batch'"):
        make(name, LOG, LIMIT, btch=3)
    with pytest.raises(ConfigError, match=r"\.batch is 0, expected a whole number"):
        make(name, LOG, LIMIT, batch=0)
    tensors, meta = learner.export()
    first = next(k for k in tensors if not k.startswith("normalizer"))
    with pytest.raises(CheckpointError, match="Train again"):
        type(learner).restore({k: v for k, v in tensors.items() if k != first}, meta)
    if learner.limited:
        with pytest.raises(ConfigError, match="trained for the cost limit 6, asked for 7"):
            learner.start(1, 7.0)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    learner, source = small("bc")
    source.columns["actions"][:] = float("nan")
    with pytest.raises(SafeplanError, match="loss_actor is not finite"):
        train(learner, source, tmp_path, updates=1)


def test_an_unknown_rival_is_named():
    with pytest.raises(ConfigError, match=r"'cpo' is unknown. .*Choose one of: bc, "):
        make("cpo", LOG, 1.0)
