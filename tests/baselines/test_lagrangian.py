"""Multipliers follow the excess; without a limit the constrained critics' methods are their unconstrained forms."""

import math

import numpy as np
import pytest
import torch

from safeplan.baselines.offline import make
from safeplan.baselines.offline.multiplier import AscentMultiplier, PidMultiplier
from safeplan.baselines.offline.values import soft_lower, twin_loss
from safeplan.rng import torch_rng
from tests.baselines.toy import descend, road_log

LOG = road_log(30)
TINY = {
    "bcq_lag": {"hidden": 16, "cvae_hidden": 16, "samples": 3, "candidates": 3},
    "cpq": {"actor_hidden": 16, "critic_hidden": 16, "cvae_hidden": 16, "samples": 3},
    "coptidice": {"hidden": 16},
}


def small(name, limit, **changes):
    return make(name, LOG, limit, batch=16, **{**TINY[name], **changes})


def same(a, b, names):
    one, two = a.nets.state_dict(), b.nets.state_dict()
    keys = [k for k in one if k.split(".")[0] in names]
    return len(keys) > 0 and all(torch.equal(one[k], two[k]) for k in keys)


@pytest.mark.parametrize("make_one", [lambda: PidMultiplier(0.1, 0.01, 0.05), lambda: AscentMultiplier(0.1)])
def test_a_multiplier_rises_with_the_excess_and_falls_back_to_zero(make_one):
    multiplier = make_one()
    up = [float(multiplier.step(torch.tensor(1.0))) for _ in range(10)]
    assert 0 < up[1] < up[4] < up[9]
    down = [float(multiplier.step(torch.tensor(-1.0))) for _ in range(20)]
    assert down[-1] == 0.0 and min(down) == 0.0 and down[0] < up[-1]
    never = make_one()
    assert [float(never.step(torch.tensor(-math.inf))) for _ in range(3)] == [0.0] * 3
    assert all(torch.isfinite(v) for v in never.state_dict().values())
    assert float(never.step(torch.tensor(1.0))) > 0  # and it still works


def test_the_pid_rule_matches_its_formula():
    multiplier, errors = PidMultiplier(0.1, 0.01, 0.05), [0.5, -0.2, 0.3, 1.0, -2.0]
    integral = before = 0.0
    for e in errors:
        integral = max(integral + e, 0.0)
        want = max(0.1 * max(e, 0) + 0.01 * integral + 0.05 * max(e - before, 0), 0)
        before = e
        assert float(multiplier.step(torch.tensor(e))) == pytest.approx(want, abs=1e-7)


def test_ascent_is_cut_at_its_ends():
    multiplier = AscentMultiplier(1.0, high=2.0, start=1.0)
    assert [float(multiplier.step(torch.tensor(e))) for e in (0.5, 9.0, -9.0)] == [1.5, 2.0, 0.0]


def test_twin_heads():
    q, y = torch.tensor([[1.0, 2.0], [3.0, -2.0]]), torch.tensor([1.0, 0.0])
    assert float(twin_loss(q, y)) == pytest.approx(0.5 * (0 + 4) + 0.5 * (4 + 4))
    assert soft_lower(q, 0.75).tolist() == [1.5, -1.0]


def test_bcq_lag_without_a_limit_is_bcq():
    free, source = small("bcq_lag", math.inf)
    bcq, _ = small("bcq_lag", 0.0, kp=0.0, ki=0.0, kd=0.0)
    bound, _ = small("bcq_lag", 0.0, kp=1.0)
    for learner in (free, bcq, bound):
        found = descend(learner, source, 3)
        assert (float(found["multiplier"]) > 0) == (learner is bound)
    assert same(free, bcq, ("cvae", "perturb", "q", "c")) and not same(free, bound, ("perturb",))
    obs = np.zeros((3, 2))
    np.testing.assert_array_equal(*(p.act(obs, None, torch_rng(0))[0] for p in (free, bcq)))


def test_bcq_lag_keeps_near_the_log():
    """Proposals are the CVAE's, moved by at most `reach`."""
    learner, _ = small("bcq_lag", math.inf)
    obs = torch.randn(50, 2, generator=torch_rng(1))
    moved = learner.propose(obs, "perturb", torch_rng(2))
    z = learner.normal((50, 2), torch_rng(2)).clamp(-0.5, 0.5)
    assert (moved - learner.cvae.decode(obs, z)).abs().max() <= 0.05 + 1e-6


def test_bcq_lag_picks_by_reward_less_weighted_cost():
    learner, _ = small("bcq_lag", 0.0)
    obs = torch.zeros(40, 2)
    costs = []
    for weight in (0.0, 1e4):
        learner.multiplier.value.fill_(weight)
        costs.append(learner.best(obs, 20, "perturb", torch_rng(3))[1].mean())
    assert costs[1] < costs[0]


def test_cpq_without_a_limit_masks_nothing():
    free, source = small("cpq", math.inf)
    loose, _ = small("cpq", 1e9, alpha_max=0.0)
    tight, _ = small("cpq", 0.0)
    for learner in (free, loose, tight):
        found = descend(learner, source, 3)
        assert (float(found["safe"]) == 1.0) == (learner is not tight)
    assert same(free, loose, ("actor", "q", "c")) and not same(free, tight, ("actor",))


def test_cpq_raises_the_cost_of_strangers():
    """The penalty's gradient moves the cost value of the policy's strange actions up, and alpha stays in its range."""
    runs = []
    for alpha_max in (0.0, 50.0):
        learner, source = small("cpq", 6.0, alpha_max=alpha_max, alpha_lr=10.0, actor_lr=1e-9)
        found = descend(learner, source, 60)
        runs.append(float(found["strange_cost"]))
        assert 0 <= float(found["alpha"]) <= alpha_max
    assert runs[1] > runs[0] + 0.5


def test_cpq_learns_nothing_where_all_is_unsafe():
    """The mask of the policy, and that of the targets: behind it no future counts."""
    learner, source = small("cpq", 0.0)
    for name in ("c", "c_target"):
        torch.nn.init.constant_(learner.nets[name].biases[-1], 100.0)
    before = {k: v.clone() for k, v in learner.nets["actor"].state_dict().items()}
    torch.nn.init.constant_(learner.nets["q_target"].biases[-1], 1e6)
    found = learner.update(source.batch(0, 0), torch_rng(0))
    assert float(found["safe"]) == 0.0 and float(found["loss_q"]) < 100.0
    assert all(torch.equal(v, before[k]) for k, v in learner.nets["actor"].state_dict().items())


def test_coptidice_without_a_limit_has_no_multiplier():
    free, source = small("coptidice", math.inf)
    never, _ = small("coptidice", 1e9, multiplier_start=0.0)
    tight, _ = small("coptidice", 0.0)
    for learner in (free, never, tight):
        found = descend(learner, source, 3)
        assert (float(found["multiplier"]) > 0) == (learner is tight)
    assert same(free, never, ("actor", "nu")) and not same(free, tight, ("nu",))


@pytest.mark.parametrize(("name", "key"), [("bcq_lag", "lower_share"), ("cpq", "strangers"), ("coptidice", "alpha")])
def test_settings_out_of_range_are_named(name, key):
    from safeplan.errors import ConfigError

    with pytest.raises(ConfigError, match=rf"{name}\.{key} is -1\.0, expected"):
        small(name, 1.0, **{key: -1.0})
