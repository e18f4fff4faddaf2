"""The dual of COptiDICE against a linear programme over the visits of a small Markov decision process."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from safeplan.baselines.offline import make
from safeplan.baselines.offline.coptidice import CostBound, advantage, conjugate, weights
from tests.baselines.toy import H, descend, road_log

GAMMA, STATES = 0.9, 4
# rows (state, action): a goes on or stays; going through state 1 pays and costs
NOW = np.repeat(np.arange(STATES), 2)
AFTER = np.array([1, 2, 3, 0, 0, 3, 0, 2])
REWARD = np.array([0.0, 0.0, 1.0, 0.8, 0.1, 0.2, 0.3, 0.0])
COST = np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
START = np.array([1.0, 0.0, 0.0, 0.0])


def programme(limit):
    """Visits `[8]` of the best policy: a linear programme."""
    flow = np.zeros((STATES, 8))
    for row in range(8):
        flow[NOW[row], row] += 1
        flow[AFTER[row], row] -= GAMMA
    found = linprog(-REWARD, COST[None], [limit], flow, (1 - GAMMA) * START, bounds=(0, None))
    assert found.status == 0
    return found.x, -found.fun


def solve_dual(limit, alpha):
    """Visits and multiplier from nu and lambda that minimise the dual on a log that holds every row equally often."""
    r, c = torch.from_numpy(REWARD), torch.from_numpy(COST)
    start, ones = torch.from_numpy(START), torch.ones(8, dtype=torch.float64)

    def dual(x):
        nu, lam = x[:STATES], x[STATES]
        e = advantage(r - lam * c, nu[NOW], nu[AFTER], ones, GAMMA)
        return (1 - GAMMA) * (start * nu).sum() + conjugate(e, alpha).mean() + lam * limit, e

    def slope(x):
        x = torch.tensor(x, requires_grad=True)
        value = dual(x)[0]
        value.backward()
        assert x.grad is not None
        return value.item(), x.grad.numpy()

    bounds = [(None, None)] * STATES + [(0.0, None)]
    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(slope, np.zeros(STATES + 1), jac=True, bounds=bounds, method="L-BFGS-B", options=options)
    w = weights(dual(torch.from_numpy(found.x))[1], alpha)
    return (w / 8).numpy(), found.x[STATES]


@pytest.mark.parametrize("limit", [0.0, 0.1, 1.0])
def test_weights_give_the_visits_of_the_linear_programme(limit):
    visits, best = programme(limit)
    mine, multiplier = solve_dual(limit, alpha=2e-3)
    assert mine @ REWARD == pytest.approx(best, abs=0.02)
    assert mine @ COST <= limit + 0.01
    np.testing.assert_allclose(mine, visits, atol=0.03)
    assert mine.sum() == pytest.approx(1.0, abs=0.01)  # as visits do
    assert (multiplier > 1e-3) == (limit < 1.0)  # the last limit does not bind


def test_a_strong_divergence_keeps_the_log():
    """alpha to infinity: every weight 1 that the flow allows; here weights spread far less than the best ones."""
    loose, tight = (solve_dual(1.0, alpha)[0] for alpha in (100.0, 2e-3))
    assert loose.std() < 0.5 * tight.std()


def test_weights_maximise_what_the_conjugate_is():
    e = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    conjugate(e, 0.5).sum().backward()
    torch.testing.assert_close(e.grad, weights(e.detach(), 0.5))
    w = torch.linspace(1e-6, 12, 200001, dtype=torch.float64)
    f = torch.where(w < 1, torch.xlogy(w, w) - w + 1, 0.5 * (w - 1).square())
    for value in (-2.0, -0.1, 0.0, 0.7, 2.5):
        gain = value * w - 0.5 * f
        assert float(gain.max()) == pytest.approx(float(conjugate(torch.tensor(value), 0.5)), abs=1e-6)


def test_the_cost_bound_is_above_the_plain_estimate_and_tilts_to_cost():
    torch.manual_seed(0)
    bound, n = CostBound(2, 8), 64
    for p in bound.chi.parameters():
        torch.nn.init.zeros_(p)
    obs, w = torch.randn(n, 2), torch.rand(n)
    costs = (torch.rand(n) > 0.5).float()
    plain = float((w * costs).mean())
    rows = (obs, obs, obs, torch.ones(n), costs, w)
    optimiser = torch.optim.Adam([bound.log_tau], 0.05)
    values = {}
    for slack in (1e-4, 0.05):
        for _ in range(300):
            optimiser.zero_grad()
            dual, tilt = bound(*rows, 0.9, slack)
            dual.backward()
            optimiser.step()
        values[slack] = float((tilt * w * costs).mean())
        kl = float((tilt * tilt.log()).mean())
        assert kl == pytest.approx(slack, rel=0.1, abs=1e-4)
        assert float(dual.detach()) == pytest.approx(values[slack], abs=0.01)
    assert plain < values[1e-4] < values[0.05] and values[1e-4] == pytest.approx(plain, abs=0.02)
    assert float(tilt.mean()) == pytest.approx(1.0, abs=1e-5)


def test_visits_flow_out_at_time_outs():
    """The toy's last states are the first of no row: with what follows counted, the dual would have no bottom."""
    log = road_log(20)
    learner, source = make("coptidice", log, np.inf, batch=64, hidden=16, gamma=0.9, critic_lr=2e-2)
    assert source.columns["masks"].bool().tolist() == (~log.ends).tolist()
    assert make("cpq", log, np.inf)[1].columns["masks"].all()
    first = source.columns["initial"][:, 1]
    assert first.eq(1.0).all()  # episodes begin with all of their time left
    losses = [float(descend(learner, source, 40)["loss_nu"]) for _ in range(3)]
    assert min(losses) > -0.5
    assert learner.step_limit == np.inf
    limited, _ = make("coptidice", log, 3.0, hidden=16, gamma=0.9)
    assert limited.step_limit == pytest.approx(3.0 * (1 - 0.9**H) / H)
