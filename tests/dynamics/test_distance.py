"""Signed distances against brute force, and between backends."""

import casadi as ca
import numpy as np
import pytest
import torch

from safeplan.dynamics.backends import CASADI, NUMPY, TORCH
from safeplan.dynamics.bicycle import bicycle
from safeplan.dynamics.distance import box_and_normal, clearance, footprint_centers, inside_box, polytope, rounded_box
from safeplan.types import Goal, Obstacle, Scene

BOX = (0.4, -0.2, 0.7, 0.8, 0.3, 0.1)  # cx, cy, yaw, hx, hy, r


def outline(n=20001):
    cx, cy, yaw, hx, hy, r = BOX
    corners = np.array([[hx, hy], [-hx, hy], [-hx, -hy], [hx, -hy], [hx, hy]])
    t = np.linspace(0, 4, n)
    i = np.minimum(t.astype(int), 3)
    p = corners[i] + (t - i)[:, None] * (corners[i + 1] - corners[i])
    c, s = np.cos(yaw), np.sin(yaw)
    return np.stack([cx + c * p[:, 0] - s * p[:, 1], cy + s * p[:, 0] + c * p[:, 1]], -1), r


def test_rounded_box_is_the_distance_to_its_core_minus_the_radius():
    edge, r = outline()
    points = np.random.default_rng(0).uniform(-2, 2, (300, 2))
    ours = rounded_box(points[:, 0], points[:, 1], *BOX, NUMPY)
    brute = np.hypot(*(points[:, None] - edge[None]).transpose(2, 0, 1)).min(1)
    cx, cy, yaw, hx, hy, _ = BOX
    d = points - [cx, cy]
    q = np.abs(
        np.stack([np.cos(yaw) * d[:, 0] + np.sin(yaw) * d[:, 1], np.cos(yaw) * d[:, 1] - np.sin(yaw) * d[:, 0]], -1)
    )
    inside = (q < [hx, hy]).all(1)
    np.testing.assert_allclose(ours, np.where(inside, -brute, brute) - r, atol=2e-4)


def test_distance_is_the_same_on_every_backend():
    p = np.random.default_rng(1).uniform(-2, 2, (2, 40))
    ours = rounded_box(p[0], p[1], *BOX, NUMPY)
    t = torch.as_tensor(p)
    box = tuple(torch.tensor(v, dtype=t.dtype) for v in BOX)
    np.testing.assert_allclose(rounded_box(t[0], t[1], *box, TORCH).numpy(), ours, atol=1e-12)
    x, y = ca.SX.sym("x"), ca.SX.sym("y")
    F = ca.Function("F", [x, y], [rounded_box(x, y, *BOX, CASADI)])
    np.testing.assert_allclose([float(F(a, b)) for a, b in p.T], ours, atol=1e-12)


def test_polytope_is_exact_inside_and_a_lower_bound_outside():
    faces = [(1, 0, 1.0), (-1, 0, 1.0), (0, 1, 1.0), (0, -1, 1.0)]
    assert polytope(0.25, 0.0, faces, NUMPY) == pytest.approx(-0.75)
    assert polytope(2.0, 2.0, faces, NUMPY) <= np.hypot(1, 1)
    assert inside_box(0.5, 0.2, (0, 0, 1, 1), NUMPY) == pytest.approx(0.2)


def test_footprint_discs_cover_the_car():
    from safeplan.dynamics.bicycle import LENGTH, WHEELBASE, WIDTH

    car = bicycle()
    corners = [(WHEELBASE / 2 + a * LENGTH / 2, b * WIDTH / 2) for a in (-1, 1) for b in (-1, 1)]
    grid = [
        (x, y) for x in np.linspace(corners[0][0], corners[-1][0], 30) for y in np.linspace(-WIDTH / 2, WIDTH / 2, 9)
    ]
    for x, y in grid + corners:
        assert any(np.hypot(x - dx, y - dy) <= r + 1e-9 for dx, dy, r in car.footprint)
    centres = footprint_centers(car, (1.0, 2.0, np.pi / 2, 0.0), NUMPY)
    assert centres[1][:2] == pytest.approx((1.0, 2.0 + WHEELBASE / 2))


def test_clearance_shapes_and_walls():
    car = bicycle()
    scene = Scene((Obstacle(10, 0, r=1.0), Obstacle(0, 5, hx=1, hy=1)), Goal(20, 0, 1), (-5, -5, 30, 9))
    x = np.zeros((4, 6, 3))
    c = clearance(car, x, np.broadcast_to(scene.centers(np.zeros(1))[0], (6, 3, 2, 2)), scene)
    assert c.shape == (6, 3, 3)
    front = max(dx + r for dx, _, r in car.footprint)
    assert c[0, 0, 0] == pytest.approx(9 - front)
    assert c[0, 0, 2] == pytest.approx(min(5 + min(dx - r for dx, _, r in car.footprint), 5 - car.footprint[0][2]))


def test_normal_is_the_gradient():
    p = np.random.default_rng(2).uniform(-2, 2, (2, 200))
    box = tuple(np.array(v) for v in BOX)
    for shape in (box, (*box[:3], np.array(0.0), np.array(0.0), box[5])):
        sd, nx, ny = box_and_normal(p[0], p[1], *shape)
        np.testing.assert_allclose(sd, rounded_box(p[0], p[1], *shape, NUMPY), atol=1e-8)
        eps = 1e-6
        gx = (rounded_box(p[0] + eps, p[1], *shape, NUMPY) - rounded_box(p[0] - eps, p[1], *shape, NUMPY)) / (2 * eps)
        gy = (rounded_box(p[0], p[1] + eps, *shape, NUMPY) - rounded_box(p[0], p[1] - eps, *shape, NUMPY)) / (2 * eps)
        np.testing.assert_allclose(nx, gx, atol=1e-4)
        np.testing.assert_allclose(ny, gy, atol=1e-4)
