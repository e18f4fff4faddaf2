"""Every system: the same numbers on every backend, the right divergence, the promised order of integration."""

from dataclasses import replace

import casadi as ca
import numpy as np
import pytest
import torch

from safeplan.dynamics.backends import CASADI, NUMPY, TORCH
from safeplan.dynamics.bicycle import bicycle, bicycle_belief
from safeplan.dynamics.hovercraft import hovercraft, hovercraft_belief
from safeplan.dynamics.system import Quantity, System, rk4, step
from safeplan.dynamics.unicycle import unicycle, unicycle_belief
from safeplan.errors import ConfigError

SYSTEMS = {"hovercraft": hovercraft, "bicycle": bicycle, "point_robot": unicycle}
BELIEFS = {"hovercraft": hovercraft_belief, "bicycle": bicycle_belief, "point_robot": unicycle_belief}


def draw(system: System, rng: np.random.Generator, n: int):
    x = rng.normal(size=(system.n, n)) * 0.5 + 0.7
    u = rng.uniform(system.control_low[:, None], system.control_high[:, None], size=(system.m, n))
    theta = BELIEFS[system.name](np.zeros(system.n)).sample(n, 1, rng).theta[:, 0].T
    return x, u, theta


@pytest.mark.parametrize("name", SYSTEMS)
def test_backends_agree(name):
    system = SYSTEMS[name]()
    x, u, theta = draw(system, np.random.default_rng(0), 7)
    reference = step(system, 0.0, x, tuple(u), tuple(theta), NUMPY)
    t = [torch.as_tensor(a) for a in (x, u, theta)]
    ours = step(system, 0.0, t[0], tuple(t[1]), tuple(t[2]), TORCH).numpy()
    np.testing.assert_allclose(ours, reference, rtol=1e-10, atol=1e-12)
    for kind in (ca.SX, ca.MX):
        sym = [kind.sym(k, s) for k, s in (("x", system.n), ("u", system.m), ("p", system.p))]
        out = step(system, 0.0, sym[0], CASADI.unpack(sym[1]), CASADI.unpack(sym[2]), CASADI)
        F = ca.Function("F", sym, [out])
        got = np.hstack([np.asarray(F(x[:, i], u[:, i], theta[:, i])) for i in range(7)])
        np.testing.assert_allclose(got, reference, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", SYSTEMS)
def test_divergence_against_finite_differences(name):
    system = SYSTEMS[name]()
    if system.divergence is None:
        from safeplan.reach.density import divergence

        def formula(x, u, theta):
            z = torch.as_tensor(x)
            held, drawn = tuple(torch.as_tensor(u)), tuple(torch.as_tensor(theta))

            def f(y):
                return TORCH.pack(system.f(0.0, TORCH.unpack(y), held, drawn, TORCH))

            return divergence(f, z).detach().numpy()
    else:

        def formula(x, u, theta):
            return system.divergence(0.0, tuple(x), tuple(u), tuple(theta), NUMPY)

    x, u, theta = draw(system, np.random.default_rng(1), 50)
    eps, total = 1e-6, np.zeros(50)
    for i in range(system.n):
        d = np.zeros_like(x)
        d[i] = eps
        plus = NUMPY.pack(system.f(0.0, tuple(x + d), tuple(u), tuple(theta), NUMPY))
        minus = NUMPY.pack(system.f(0.0, tuple(x - d), tuple(u), tuple(theta), NUMPY))
        total += (plus[i] - minus[i]) / (2 * eps)
    np.testing.assert_allclose(np.broadcast_to(formula(x, u, theta), 50), total, rtol=1e-6, atol=1e-6)


def test_rk4_is_of_fourth_order():
    system = hovercraft()
    x, u, theta = draw(system, np.random.default_rng(2), 1)

    def end(n):
        z = x
        for _ in range(n):
            z = rk4(system, 0.0, z, tuple(u), tuple(theta), 0.1 / n, NUMPY)
        return z

    exact = end(1600)
    errors = [np.abs(end(n) - exact).max() for n in (40, 80)]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.25)


def test_hovercraft_step_is_accurate_enough_at_its_substeps():
    system = hovercraft()
    x, u, theta = draw(system, np.random.default_rng(3), 100)
    x[2:6] *= 0.3
    x[6:] = np.random.default_rng(4).uniform(-0.4, 0.4, (3, 100))
    fine = x
    for _ in range(100):
        fine = rk4(system, 0.0, fine, tuple(u), tuple(theta), 0.001, NUMPY)
    ours = step(system, 0.0, x, tuple(u), tuple(theta), NUMPY)
    assert np.abs(ours - fine)[:2].max() < 2e-3  # m, after one step
    assert np.abs(ours - fine)[3:5].max() < 5e-2  # m/s


@pytest.mark.parametrize("name", SYSTEMS)
def test_beliefs_fit_their_systems(name):
    system, belief = SYSTEMS[name](), BELIEFS[name](np.zeros(SYSTEMS[name]().n))
    assert belief.theta_mean.shape == (system.p,)
    np.testing.assert_allclose(belief.theta_mean, system.theta)
    d = belief.sample(500, 4, np.random.default_rng(0))
    assert d.x.shape == (500, system.n) and d.theta.shape == (500, 4, system.p)
    spread = np.ptp(d.theta, axis=1) > 0
    moves = belief.per_stretch & (belief.theta_sd > 0)
    assert spread[:, moves].all() and not spread[:, ~belief.per_stretch].any()
    assert np.isfinite(belief.log_prob(d)).all()
    outside = d._replace(x=d.x + 10 * (belief.x_sd + 1e-3))
    assert (belief.log_prob(outside) == -np.inf).all() or not (belief.x_sd > 0).any()


def test_backends_wrap_alike():
    a = np.random.default_rng(0).uniform(-40, 40, 200)
    z = torch.tensor([*a, np.nan, np.pi, 0.0], dtype=torch.float64, requires_grad=True)
    out = TORCH.wrap(z)
    np.testing.assert_allclose(out.detach().numpy(), NUMPY.wrap(z.detach().numpy()), atol=1e-13)
    (slope,) = torch.autograd.grad(out[:-3].sum(), z)
    assert (slope[:-3] == 1).all()


def test_angles_are_wrapped_in_differences():
    system = hovercraft()
    a, b = np.zeros(9), np.zeros(9)
    a[2], b[2] = 3.1, -3.1
    assert system.difference(a, b)[2] == pytest.approx(6.2 - 2 * np.pi)


def test_system_refuses_wrong_costs():
    s = bicycle()
    with pytest.raises(ConfigError, match="state_cost has 1 entries, expected 4"):
        replace(s, state_cost=(1.0,))
    with pytest.raises(ConfigError, match="footprint of several discs needs `yaw`"):
        replace(s, yaw=None)
    with pytest.raises(ConfigError, match="accel_bound = nan; give the largest"):
        replace(s, accel_bound=float("nan"))
    with pytest.raises(ConfigError, match="control 'acc' needs finite bounds"):
        replace(s, controls=(Quantity("acc"), s.controls[1]))


def test_constant_control_gives_the_known_hovercraft_speed():
    system = hovercraft()
    theta = system.theta.copy()
    theta[4:] = 0.0
    x = np.zeros(9)
    x[6:] = theta[:3] * 0.2  # thrust already there: pure spin, since the pairs balance
    y = step(system, 0.0, x, (0.2, 0.2, 0.2), tuple(theta), NUMPY)
    from safeplan.dynamics.hovercraft import parameters

    c = parameters()
    torque = sum(arm * f for arm, f in zip(c["pair_arm"], x[6:], strict=True))
    assert y[5] == pytest.approx(torque / c["inertia"] * 0.1, rel=1e-6)


def test_quantity_defaults():
    assert Quantity("v").nominal == 0.0 and Quantity("v").high == np.inf


@pytest.mark.parametrize("name", SYSTEMS)
def test_acceleration_bound_holds_at_the_extremes(name):
    """Footprint points within the speed bounds and the cut of the belief stay below accel_bound."""
    system = SYSTEMS[name]()
    rng, n, h = np.random.default_rng(0), 4000, 1e-3
    belief = BELIEFS[name](np.zeros(system.n))
    top = [q.high if np.isfinite(q.high) else 1.0 for q in system.states]
    x = rng.uniform(-1, 1, (system.n, n)) * np.array(top)[:, None]
    if name != "hovercraft":
        x = np.abs(x)
    theta = (belief.theta_mean + belief.cut * belief.theta_sd * rng.choice([-1, 1], (n, system.p))).T
    u = np.where(rng.random((system.m, n)) < 0.5, system.control_low[:, None], system.control_high[:, None])
    if name == "hovercraft":  # thrust follows the commands
        x[6:] = theta[:3] * u
        x[5] = np.clip(x[5], -3, 3)
    path = [x]
    for _ in range(2):
        path.append(rk4(system, 0.0, path[-1], tuple(u), tuple(theta), h, NUMPY))
    from safeplan.dynamics.distance import footprint_centers

    points = [footprint_centers(system, tuple(p), NUMPY) for p in path]
    for i in range(len(system.footprint)):
        a = np.hypot(*((points[2][i][k] - 2 * points[1][i][k] + points[0][i][k]) / h**2 for k in (0, 1)))
        assert a.max() < system.accel_bound, f"disc {i}: {a.max():.1f}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"position": (0, 9)}, "position is (0, 9), expected two different indices of states, 0 to 3"),
        ({"position": (1, 1)}, "position is (1, 1)"),
        ({"position": (-1, 0)}, "position is (-1, 0)"),
        ({"yaw": 4}, "yaw is 4"),
        ({"footprint": ()}, "footprint is (), expected at least one disc"),
        ({"footprint": ((0.0, 0.0, 0.0),)}, "r > 0"),
        ({"footprint": ((0.0, 0.0, float("nan")),)}, "footprint is (0.0, 0.0, nan)"),
        ({"yaw": None, "footprint": ((0.1, 0.0, 0.2),)}, "one disc off the centre"),
        ({"dt": 0.0}, "dt is 0.0, expected seconds above 0"),
        ({"dt": float("inf")}, "dt is inf"),
        ({"substeps": 0}, "substeps is 0, expected a whole number of at least 1"),
        ({"substeps": 1.5}, "substeps is 1.5"),
        ({"state_cost": (1.0, 1.0, -1.0, 1.0)}, "state_cost is (1.0, 1.0, -1.0, 1.0)"),
        ({"control_cost": (1.0, 0.0)}, "control_cost is (1.0, 0.0), expected finite numbers above 0"),
        ({"regulate": (1.0,)}, "regulate has 1 entries, expected 4"),
        ({"accel_bound": float("nan")}, "accel_bound = nan"),
        ({"controls": ()}, "controls is (), expected at least one Quantity"),
        ({"states": (1, 2, 3, 4)}, "is 1, expected each a Quantity"),
        ({"params": (Quantity("gain", nominal=float("nan")),)}, "gain.nominal is nan"),
        ({"f": None}, "f is None, expected a function"),
    ],
)
def test_systems_out_of_range_are_refused(changes, words):
    with pytest.raises(ConfigError) as caught:
        replace(bicycle(), **changes)
    assert words in str(caught.value) and "system 'bicycle'" in str(caught.value)
