"""One policy for all cost limits: the augmented batch against a slow twin, and the known answer of a toll road."""

import numpy as np
import pytest
import torch

from safeplan.data import Log
from safeplan.errors import ConfigError
from safeplan.feasibility import FisorConfig, with_budget
from safeplan.feasibility.budget import augment, draw_shares
from safeplan.feasibility.config import restored, stored
from safeplan.rng import torch_rng
from safeplan.training import fisor_from_log


def road(episodes: int = 400, length: int = 12, seed: int = 0) -> Log:
    """Tolls stand at positions 0 to 9; the driver pays (a > 0, reward 1) or waits (a < 0); that at 4 must be paid."""
    rng = np.random.default_rng(seed)
    s, a = np.tile(np.arange(length, dtype=np.float32), episodes), rng.uniform(-1, 1, episodes * length)
    pays = (a > 0) & (s < 10)
    costs = (pays | (s == 4)).astype(np.float32)
    end = np.tile(np.arange(length) == length - 1, episodes)
    obs = (s / 10)[:, None].astype(np.float32)
    return Log(obs, obs + np.float32(0.1), a[:, None].astype(np.float32), costs, costs, end, np.zeros_like(end))


def test_augmented_rows_are_those_of_an_environment_that_counts():
    log = road(5)
    budget, start = 4.0, 0.6
    share, rows = np.float32(start), []
    for k in range(12):
        after = np.float32(share - log.costs[k] / np.float32(budget))
        rows.append((share, after, 25.0 if after < -1e-6 else -1.0))
        share = after
    batch = {
        k: torch.from_numpy(getattr(log, k)[:12]) for k in ("observations", "next_observations", "costs", "actions")
    }
    got = augment(batch, budget, torch.tensor([r[0] for r in rows]), 25.0, -1.0)
    np.testing.assert_array_equal(got["observations"][:, 1], [r[0] for r in rows])
    np.testing.assert_allclose(got["next_observations"][:, 1], [max(r[1], 0.0) for r in rows])
    assert got["h"].tolist() == [r[2] for r in rows]
    assert got["actions"] is batch["actions"] and (got["h"] > 0).any()
    spent = augment({k: v[4:5] for k, v in batch.items()}, budget, torch.tensor([0.25]), 25.0, -1.0)
    assert spent["h"].tolist() == [-1.0]  # spent to the last bit is not overspent


def test_feasible_sets_are_nested_and_right():
    """Before the forced toll a budget of 1 suffices and one of less does not; after it none is needed."""
    fast = {"gamma": 0.95, "target_rate": 0.05, "lr": 2e-3, "tau_feasible": 0.95, "actor_steps": 1, "violating": 3.0}
    config = FisorConfig(batch=256, hidden=32, actor_width=16, actor_blocks=1, budget=4.0, **fast)
    learner, source = fisor_from_log(road(), config)
    for i in range(300):
        learner.update(source.batch(i, 0), torch_rng(0, i))
    before, after = np.full((3, 1), 0.2, np.float32), np.full((3, 1), 0.6, np.float32)
    left = np.array([0.3, 1.8, 4.0])
    assert (learner.agent.v_h(with_budget(before, left, 4.0)) <= 0).tolist() == [False, True, True]
    assert (learner.agent.v_h(with_budget(after, left, 4.0)) <= 0).all()
    # paying the toll of now with nothing left is infeasible, waiting is not
    q_h = learner.agent.q_h(with_budget(after[:2], np.full(2, 0.3), 4.0), np.array([[0.8], [-0.8]], np.float32))
    assert q_h[0] > 0 > q_h[1]


def test_what_is_overspent_is_told_apart_by_how_long_it_lasts():
    """As without budgets: of two rows that overspend, the one after which costs end is the lesser violation."""
    found = {}
    for recovery in (0.0, 0.97):
        config = FisorConfig(batch=4, hidden=16, actor_width=8, actor_blocks=1, budget=4.0, recovery=recovery)
        agent = fisor_from_log(road(5), config)[0].agent
        last = [*agent.nets["q_h"].parameters()][-1]
        obs, h, masks = torch.zeros(2, 2), torch.full((2,), config.violating), torch.ones(2)
        values = torch.tensor([20.0, -0.9])  # V_h of what follows
        pulls = []
        for row in (slice(0, 1), slice(1, 2)):
            agent._value = lambda name, o, v=values[row]: v
            loss = agent.loss_q_h(obs[row], torch.zeros(1, 1), h[row], masks[row], obs[row])
            pulls.append(torch.autograd.grad(loss, last)[0].sum().item())
        found[recovery] = pulls
    assert found[0.0][0] == pytest.approx(found[0.0][1]) and found[0.97][0] < found[0.97][1] - 0.1


def test_shares_cover_everything_and_favour_small_ones():
    for draw in (draw_shares(4000, torch_rng(0)), draw_shares(4000, device="cpu")):
        assert draw.min() == 0 and 0.98 < draw.max() <= 1
        assert float((draw == 0).float().mean()) == pytest.approx(0.1, abs=0.02)  # as after a limit is spent
        assert float((draw[draw > 0] < 0.25).float().mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("normalize", [False, True])
def test_networks_see_the_root_of_what_is_left_and_policies_of_before_its_share(normalize):
    config = FisorConfig(batch=4, hidden=16, actor_width=8, actor_blocks=1, budget=4.0, normalize=normalize)
    policy = fisor_from_log(road(5), config)[0].agent
    obs = torch.tensor([[0.3, 0.0], [0.3, 0.25], [0.3, 1.0]])
    seen = policy.encode(obs.requires_grad_())
    assert seen[:, 1].tolist() == pytest.approx([0.0, 0.5, 1.0], abs=1e-5)
    assert torch.autograd.grad(seen.sum(), obs)[0].isfinite().all()  # where nothing is left, too
    before = {k: v for k, v in stored(config).items() if k not in ("budget_root", "normalize_clip")}
    policy.config = restored(before)
    assert not policy.config.budget_root and torch.equal(policy.encode(obs)[:, 1], obs[:, 1])
    assert restored(stored(config)) == config and restored(stored(FisorConfig())) == FisorConfig()
    assert "budget_root" not in stored(FisorConfig())  # without budgets nothing has changed


def test_normalised_observations_are_clipped_and_those_of_policies_of_before_are_not():
    config = FisorConfig(batch=4, hidden=16, actor_width=8, actor_blocks=1, normalize=True)
    policy = fisor_from_log(road(5), config)[0].agent
    far = torch.tensor([[0.5], [100.0], [-100.0]])
    assert policy.encode(far)[1:].flatten().tolist() == [5.0, -5.0] and abs(policy.encode(far)[0].item()) < 1
    assert policy.encode(torch.tensor([[float("inf")], [float("nan")]])).isfinite().any().item() is False
    policy.config = restored({k: v for k, v in stored(config).items() if k != "normalize_clip"})
    assert policy.config.normalize_clip == 0 and policy.encode(far)[1].item() > 100
    assert restored(stored(config)) == config and "normalize_clip" not in stored(FisorConfig())
    assert torch.equal(fisor_from_log(road(5), FisorConfig(batch=4))[0].agent.encode(far), far)


def test_refusals():
    with pytest.raises(ConfigError, match=r"policy\.budget=LARGEST"):
        with_budget(np.zeros((1, 2)), 1.0, 0.0)
    with pytest.raises(ConfigError, match="limit 50 is not within"):
        with_budget(np.zeros((2, 2)), np.array([1.0, 50.0]), 40.0)
    with pytest.raises(ConfigError, match="limit nan is not within"):
        with_budget(np.zeros((2, 2)), np.array([1.0, np.nan]), 40.0)
    with pytest.raises(ConfigError, match=r"fisor\.lead is 3 and fisor\.budget 1: .* Set one of them to 0"):
        FisorConfig(budget=1.0, lead=3)
    with pytest.raises(ConfigError, match="violation=column"):
        FisorConfig(budget=1.0, violation="column")
    np.testing.assert_array_equal(with_budget(np.zeros(2), -9.0, 4.0), np.float32([0, 0, 0]))
