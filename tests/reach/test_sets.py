"""Sets: levels against brute-force distances, motion, angles, gradients, refusals."""

import numpy as np
import pytest
import torch

from safeplan.dynamics.backends import __getattr__ as backend
from safeplan.errors import ShapeError
from safeplan.reach.sets import Ball, Box, Polytope, Union, levels

SQUARE = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
REGIONS = {
    "ball": Ball([0.3, -0.2], 0.5),
    "box": Box([-0.4, -0.1], [0.2, 0.6]),
    "slab": Box([-0.4, -np.inf], [0.2, np.inf]),
    "polytope": Polytope(SQUARE, [0.2, 0.4, 1.2, 0.2]),
    "union": Union([Ball([1.0, 1.0], 0.3), Box([-1.0, -1.0], [-0.5, 0.0])]),
}
x = np.random.default_rng(0).uniform(-2, 2, (2, 400))


def brute(region, points):
    """Distance to the nearest point of the set on a fine grid."""
    g = np.linspace(-2.5, 2.5, 401)
    grid = np.stack(np.meshgrid(g, g)).reshape(2, -1)
    members = grid[:, region.level(grid) <= 0]
    return np.array([np.hypot(*(members - p[:, None])).min() for p in points.T])


@pytest.mark.parametrize("name", REGIONS)
def test_level_is_the_distance_outside_or_below_it(name):
    region = REGIONS[name]
    level, far = region.level(x), brute(region, x)
    assert (level <= far + 1e-9).all() and ((level > 0) == (far > 0.02))[np.abs(level) > 0.04].all()
    if name != "polytope":
        assert np.abs(level - far)[level > 0.02].max() < 0.02
    assert (level <= 0).any() and (level > 0).any()


@pytest.mark.parametrize("name", REGIONS)
def test_level_changes_no_faster_than_the_position(name):
    region = REGIONS[name]
    y = x + np.random.default_rng(1).normal(0, 0.1, x.shape)
    change = np.abs(region.level(x) - region.level(y))
    assert (change <= np.hypot(*(x - y)) + 1e-9).all()


def test_inside_a_box_and_a_ball_the_level_is_the_depth():
    assert Box([0, 0], [4, 2]).level(np.array([1.0, 1.5])) == pytest.approx(-0.5)
    assert Ball([0, 0], 2.0).level(np.array([0.6, 0.8])) == pytest.approx(-1.0)
    box = Polytope([[3, 0], [-1, 0], [0, 1], [0, -1]], [12, 0, 2, 0])
    np.testing.assert_allclose(box.level(x), np.where((i := Box([0, 0], [4, 2]).level(x)) <= 0, i, box.level(x)))


@pytest.mark.parametrize(
    "make",
    [
        lambda v: Ball([0.3, -0.2], 0.5, velocity=v),
        lambda v: Box([-0.4, -0.1], [0.2, 0.6], velocity=v),
        lambda v: Polytope(SQUARE, [0.2, 0.4, 1.2, 0.2], velocity=v),
    ],
)
def test_a_moving_set_is_a_standing_one_seen_from_its_centre(make):
    v, t = np.array([0.7, -0.3]), 1.7
    moving, standing = make(v), make(None)
    np.testing.assert_allclose(moving.level(x, t), standing.level(x - v[:, None] * t), atol=1e-12)
    assert moving.speed == pytest.approx(np.hypot(*v)) and standing.speed == 0
    assert Union([moving, standing]).speed == moving.speed


def test_angles_are_wrapped():
    turned = np.array([[0.0, 0.0], [np.pi - 0.1, 0.1 - np.pi + 4 * np.pi]])
    near_pi = Box([-1, np.pi - 0.2], [1, np.pi + 0.2], angles=(1,))
    assert (near_pi.level(turned) < 0).all()
    assert (Ball([np.pi], 0.2, axes=(1,), angles=(1,)).level(turned) < 0).all()
    assert Box([-1, np.pi - 0.2], [1, np.pi + 0.2]).level(turned[:, 1]) > 0


@pytest.mark.parametrize("name", REGIONS)
def test_gradients_flow_and_twins_agree(name):
    z = torch.as_tensor(x).requires_grad_(True)
    level = REGIONS[name].level(z, xp=backend("TORCH"))
    np.testing.assert_allclose(level.detach().numpy(), REGIONS[name].level(x), atol=1e-12)
    (g,) = torch.autograd.grad(level.sum(), z)
    assert torch.isfinite(g).all() and (g.norm(dim=0) <= 1 + 1e-9).all()


def test_degenerate_sets_have_an_answer():
    assert (Box([-np.inf] * 2, [np.inf] * 2).level(x) == -np.inf).all()
    assert (Box([0, 0], [0, 1]).level(x) > 0).all() and Box([0, 0], [0, 1]).level(np.array([0.0, 0.5])) <= 0
    assert np.isnan(REGIONS["ball"].level(np.array([np.nan, 0.0])))
    assert np.isnan(REGIONS["union"].level(np.array([np.nan, 0.0])))


def test_a_set_stays_what_it_was_made_as():
    """Levels come from numbers taken when it was made: what it was made of may change, its own arrays may not."""
    center = np.zeros(2)
    ball = Ball(center, 1.0)
    center[0] = 9.0
    assert ball.center[0] == 0.0 and ball.level(np.zeros((2, 1)))[0] == pytest.approx(-1.0)
    for made in (ball.center, ball.velocity, Box([0.0], [1.0]).high, Polytope([[1.0]], [0.0]).normals):
        with pytest.raises(ValueError, match="read-only"):
            made[0] = 1.0


def test_levels_of_a_flow():
    states = np.random.default_rng(0).normal(size=(3, 4, 5))
    region = Ball([0.0, 0.0], 1.0, axes=(3, 1), velocity=[1.0, 0.0])
    out = levels(region, np.array([0.0, 1.0, 2.0]), states)
    assert out.shape == (3, 5)
    assert out[2, 4] == pytest.approx(np.hypot(states[2, 3, 4] - 2.0, states[2, 1, 4]) - 1)
    with pytest.raises(ShapeError, match=r"axes are \(3, 1\), but the states have 3"):
        levels(region, np.zeros(3), states[:, :3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ball([0, 0], -1), "radius is -1"),
        (lambda: Ball([0, np.nan], 1), "center is .*not NaN"),
        (lambda: Ball([0, 0], 1, axes=(0,)), "axes has shape"),
        (lambda: Ball([0, 0], 1, axes=(1, 1)), r"axes are \(1, 1\)"),
        (lambda: Ball([0, 0], 1, velocity=[1, np.inf]), "velocity is"),
        (lambda: Box([0, 1], [1, 0]), "is above high"),
        (lambda: Box([-np.inf], [np.inf], angles=(0,)), "axis 0 is an angle"),
        (lambda: Polytope([[0, 0]], [1]), "none of them zero"),
        (lambda: Union([]), "no parts"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ShapeError, match=message):
        make()
