"""Particles, density and risk against exact answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.stats import norm

from safeplan.dynamics.hovercraft import hovercraft, hovercraft_belief
from safeplan.dynamics.system import Quantity, System
from safeplan.dynamics.unicycle import unicycle, unicycle_belief
from safeplan.errors import CapabilityError, ShapeError
from safeplan.reach import (
    between,
    collision_risk,
    draw_particles,
    measurement_noise,
    pair_clearance,
    rollout,
    sobol_draw,
    stretches,
)
from safeplan.reach.density import characteristics, sampled_data
from safeplan.types import CutNormalBelief, Draw, Goal, Obstacle, Reference, Scene

A = np.array([[0.0, 1.0], [-2.0, -0.3]])


def linear(substeps=4):
    """xdot = A x + (0, u): exact flow known."""
    return System(
        "linear",
        (Quantity("px"), Quantity("py")),
        (Quantity("u", low=-5, high=5),),
        (Quantity("d"),),
        lambda t, x, u, theta, xp: (x[1] + 0 * u[0], -2.0 * x[0] - 0.3 * x[1] + u[0] + theta[0]),
        ((0.0, 0.0, 0.1),),
        lambda x, xp: x,
        (1.0, 1.0),
        (1.0,),
        dt=0.1,
        substeps=substeps,
        accel_bound=8.0,
    )


def still(n=2, m=1, steps=10, gains=None):
    g = np.zeros((steps, m, n)) if gains is None else np.tile(gains, (steps, 1, 1))
    return Reference(np.zeros((steps + 1, n)), np.zeros((steps, m)), g, 0.1)


def belief(sd=0.3, n=2, p=1):
    return CutNormalBelief(np.zeros(n), np.full(n, sd), np.zeros(p), np.zeros(p), np.zeros(p, bool), 0.5, cut=4.0)


def test_rollout_follows_the_exact_flow():
    draw = belief().sample(20, 2, np.random.default_rng(0))
    flow = rollout(linear(), draw, still(), 0.5)
    np.testing.assert_allclose(flow.states[-1], expm(A) @ draw.x.T, atol=1e-6)
    assert flow.times[-1] == pytest.approx(1.0)


def test_one_reference_each_equals_one_by_one():
    rng = np.random.default_rng(1)
    system, P = unicycle(), 3
    refs = [
        Reference(rng.normal(size=(9, 4)), rng.uniform(-1, 1, (8, 2)), 0.1 * rng.normal(size=(8, 2, 4)), 0.05)
        for _ in range(P)
    ]
    draw = unicycle_belief(np.zeros(4)).sample(P, 2, rng)
    joint = Reference(*(np.stack([getattr(r, k) for r in refs]) for k in ("states", "controls", "gains")), 0.05)
    together = rollout(system, draw, joint, 0.5).states
    for i, r in enumerate(refs):
        alone = rollout(system, Draw(draw.x[i : i + 1], draw.theta[i : i + 1]), r, 0.5).states
        np.testing.assert_allclose(together[..., i], alone[..., 0], atol=1e-12)


def test_torch_twin_moves_the_same_particles():
    system = hovercraft()
    x = np.zeros(9)
    draw = hovercraft_belief(x).sample(6, 4, np.random.default_rng(0))
    rng = np.random.default_rng(2)
    ref = Reference(np.zeros((9, 9)), rng.uniform(-0.3, 0.3, (8, 3)), 0.2 * rng.normal(size=(8, 3, 9)), 0.1)
    flow = rollout(system, draw, ref, 0.25)
    twin = sampled_data(system, torch.as_tensor(draw.x), torch.as_tensor(draw.theta), ref, 0.25)
    np.testing.assert_allclose(twin.states.numpy(), flow.states[:: system.substeps], atol=1e-10)


def test_density_along_characteristics_is_the_linear_one():
    x0 = torch.as_tensor(belief().sample(5, 1, np.random.default_rng(0)).x)
    theta = torch.zeros(5, 1, 1, dtype=x0.dtype)
    for flow in (characteristics(linear(), x0, theta, still(), 1.0), sampled_data(linear(), x0, theta, still(), 1.0)):
        np.testing.assert_allclose(flow.gain[-1].numpy(), -np.trace(A) * 1.0, atol=1e-6)


def test_feedback_changes_volume_as_the_determinant_says():
    K = np.array([[-1.0, -0.5]])
    x0 = torch.as_tensor(belief(0.1).sample(5, 1, np.random.default_rng(0)).x)
    theta = torch.zeros(5, 1, 1, dtype=x0.dtype)
    inside = characteristics(linear(), x0, theta, still(gains=K), 1.0)
    np.testing.assert_allclose(inside.gain[-1].numpy(), -(np.trace(A) + K[0, 1]), atol=1e-6)
    held = sampled_data(linear(), x0, theta, still(gains=K), 1.0)
    h = 0.1
    aug = expm(np.block([[A, np.array([[0.0], [1.0]])], [np.zeros((1, 3))]]) * h)
    J = aug[:2, :2] + aug[:2, 2:] @ K
    np.testing.assert_allclose(held.gain[-1].numpy(), -10 * np.log(abs(np.linalg.det(J))), atol=1e-5)


def test_open_loop_uses_the_formula_and_vjps_agree():
    system = hovercraft()
    b = hovercraft_belief(np.zeros(9))
    d = b.sample(4, 2, np.random.default_rng(0))
    x, th = torch.as_tensor(d.x), torch.as_tensor(d.theta)
    ref = still(9, 3, 4)
    fast = characteristics(system, x, th, ref, 0.25, open_loop=True)
    slow = characteristics(system, x, th, ref, 0.25)  # zero gains: the same field through VJPs
    torch.testing.assert_close(fast.gain, slow.gain, rtol=1e-8, atol=1e-8)


def test_risk_of_a_half_plane_is_the_normal_tail():
    """Mass beyond a wall at distance c from a centred normal is Phi(-c / sd), and Sobol comes nearer than chance."""
    system, sd, c = linear(), 0.3, 0.45
    scene = Scene((), Goal(0, 0, 1), (-99.0, -99.0, c + 0.1, 99.0))
    exact = norm.cdf(-c / sd)
    truncated = (exact - norm.cdf(-4)) / (1 - 2 * norm.cdf(-4))
    errors = {"sobol": [], "iid": []}
    b = belief(sd)
    for seed in range(20):
        for kind in errors:
            draw = sobol_draw(b, 512, 1, seed) if kind == "sobol" else b.sample(512, 1, np.random.default_rng(seed))
            flow = rollout(system, draw, still(steps=1), 0.5)
            flow = flow._replace(times=flow.times[:1], states=flow.states[:1])
            k = pair_clearance(system, flow, scene.sample(512, flow.times, np.random.default_rng(0)), scene)
            errors[kind].append(collision_risk(k, flow.times).estimate - truncated)
    rms = {k: np.sqrt(np.mean(np.square(v))) for k, v in errors.items()}
    assert rms["iid"] < 0.02 and rms["sobol"] < 0.5 * rms["iid"]


def test_between_bounds_the_clearance_on_a_finer_grid():
    coarse, fine = linear(1), linear(40)
    scene = Scene(
        (Obstacle(0.3, 0.2, r=0.1, vx=-0.4, vy=0.2), Obstacle(-0.5, 0.1, hx=0.2, hy=0.1, yaw=0.5)),
        Goal(0, 0, 1),
        (-3, -3, 3, 3),
    )
    draw = belief(0.5).sample(200, 1, np.random.default_rng(0))
    out = []
    for system in (coarse, fine):
        flow = rollout(system, draw, still(), 0.5)
        centers = scene.sample(200, flow.times, np.random.default_rng(0))
        c = pair_clearance(system, flow, centers, scene)
        out.append((flow, centers, c))
    low = between(coarse, *out[0][:2], scene)
    true = np.stack([out[1][2][:, 40 * k : 40 * k + 41].min(axis=1) for k in range(10)], axis=1)
    assert (low <= true + 1e-9).all()
    assert np.median((true - low)[np.isfinite(low)]) < 0.03
    far = replace(scene, obstacles=(*scene.obstacles, Obstacle(90.0, 0.0, r=0.1)))
    again = between(coarse, out[0][0], far.sample(200, out[0][0].times, np.random.default_rng(0)), far)
    assert (again[..., 2] == np.inf).all() and (again[..., [0, 1, 3]] == low).all()


def test_belief_errors_name_the_shape():
    with pytest.raises(ShapeError, match=r"u is \(4, 3\), expected \[P, 3\]|u is \(4, 3\)"):
        belief(p=2).push(np.zeros((4, 3)), 1)
    with pytest.raises(CapabilityError, match="not a power of two; use 128"):
        sobol_draw(belief(), 100, 1, 0)

    class Bare:
        stretch_s = 1.0

        def mean(self):
            return np.zeros(2), np.zeros(1)

        def sample(self, n, stretches, rng):
            return Draw(rng.normal(size=(n, 2)), np.zeros((n, stretches, 1)))

    with pytest.raises(CapabilityError, match="Bare has no `push`"):
        sobol_draw(Bare(), 64, 1, 0)
    assert draw_particles(Bare(), 100, 1, 0).x.shape == (100, 2)


def test_stretches_count():
    assert stretches(1.0, 0.25) == 4 and stretches(1.01, 0.25) == 5 and stretches(0.0, 0.25) == 1


def test_obstacles_that_turn_between_checks_are_covered():
    """Stretches that do not divide into checked times leave kinks; the bound must stay below the truth."""
    coarse, fine = replace(linear(1), accel_bound=1e-6), replace(linear(50), accel_bound=1e-6)
    scene = Scene((Obstacle(0.4, 0.0, r=0.1, sigma_v=0.6),), Goal(0, 0, 1), (-9, -9, 9, 9), stretch_s=0.225)
    draw = Draw(np.zeros((300, 2)), np.zeros((300, 1, 1)))
    out = []
    for system in (coarse, fine):
        flow = rollout(system, draw, still(), 0.5)
        centers = scene.sample(300, flow.times, np.random.default_rng(0))
        out.append((between(system, flow, centers, scene), pair_clearance(system, flow, centers, scene)))
    true = np.stack([out[1][1][:, 50 * k : 50 * k + 51].min(axis=1) for k in range(10)], axis=1)
    near = np.isfinite(out[0][0])
    assert (out[0][0] <= true + 1e-9)[near].all()


def test_nan_is_a_collision():
    c = np.full((4, 3, 2), 0.5)
    c[1, 2, 0] = np.nan
    assert collision_risk(c, np.arange(3.0)).estimate == 0.25


def test_feedback_sees_noise():
    b = belief(0.1)
    draw = b.sample(2000, 2, np.random.default_rng(0))
    noise = measurement_noise(b, draw, 10, np.random.default_rng(1))
    assert noise.shape == (10, 2, 2000)
    np.testing.assert_allclose(noise[0], -draw.x.T)
    ref = still(gains=np.array([[-2.0, -1.0]]))
    clean, loud = (rollout(linear(), draw, ref, 0.5, n).states[-1].std() for n in (None, noise))
    assert loud > 1.05 * clean
    with pytest.raises(CapabilityError, match="x_sd"):  # nobody is told that the state is seen exactly
        measurement_noise(object(), draw, 10, np.random.default_rng(1))  # type: ignore[arg-type]


def test_noise_in_flight_has_the_cut_of_the_belief():
    wide = CutNormalBelief(np.zeros(2), np.ones(2), np.zeros(1), np.ones(1), np.zeros(1, bool), 0.5, cut=4.0)
    draw = wide.sample(4000, 1, np.random.default_rng(0))
    assert 2.5 < np.abs(measurement_noise(wide, draw, 10, np.random.default_rng(1))[1:]).max() <= 4.0
