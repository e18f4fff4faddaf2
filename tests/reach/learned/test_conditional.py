"""Conditional densities from data: the linear one is exact in a linear world, the flow beats it in another."""

import pytest
import torch

from safeplan.errors import ShapeError
from safeplan.reach.learned.conditional import ConditionalFlow, inside_region, linear_gaussian

G = lambda s=0: torch.Generator().manual_seed(s)  # noqa: E731


def linear_world(n, seed):
    g = G(seed)
    c = torch.randn(n, 3, generator=g)
    noise = torch.randn(n, 2, generator=g) @ torch.tensor([[0.5, 0.3], [0.0, 0.2]])
    return c, c @ torch.tensor([[1.0, 0.0], [0.5, -2.0], [0.0, 1.0]]) + 0.7 + noise


def crooked_world(n, seed):
    """Two branches, and a spread that grows with the context."""
    g = G(seed)
    c = torch.rand(n, 1, generator=g)
    side = torch.where(torch.rand(n, 1, generator=g) < 0.5, -1.0, 1.0)
    return c, side * (0.5 + c) + (0.05 + 0.2 * c) * torch.randn(n, 1, generator=g)


def test_linear_gaussian_finds_the_linear_world():
    model = linear_gaussian(*linear_world(20_000, 0))
    assert torch.allclose(model.weight[:3], torch.tensor([[1.0, 0.0], [0.5, -2.0], [0.0, 1.0]]), atol=0.02)
    assert torch.allclose(model.weight[3], torch.tensor(0.7), atol=0.02)
    want = torch.tensor([[0.25, 0.15], [0.15, 0.13]])
    assert torch.allclose(model.factor @ model.factor.T, want, atol=0.01)
    c, y = linear_world(500, 1)
    twin = torch.distributions.MultivariateNormal(model.mean(c), want).log_prob(y)
    assert abs(float((model.log_prob(c, y) - twin).mean())) < 0.03
    share = inside_region(model, c, y, 0.8, G()).float().mean()
    assert 0.74 < float(share) < 0.86


def test_untrained_flow_is_near_the_linear_model_and_training_beats_it():
    c, y = crooked_world(2500, 0)
    held = torch.arange(2500) % 5 == 0
    model = ConditionalFlow.fit(c, y, held, updates=400, lr=5e-3, hidden=(32,))
    again = ConditionalFlow.fit(c, y, held, updates=1, hidden=(32,))
    new_c, new_y = crooked_world(1000, 1)
    linear = float(linear_gaussian(c, y).log_prob(new_c, new_y).mean())
    assert abs(float(again.log_prob(new_c, new_y).mean()) - linear) < 0.6
    assert float(model.log_prob(new_c, new_y).mean()) > linear + 0.4
    inside = inside_region(model, new_c, new_y, 0.9, G()).float().mean()
    assert 0.84 < float(inside) < 0.95
    drawn = model.sample(torch.full((1, 1), 0.5), 500, G())
    assert (
        drawn.shape == (500, 1, 1) and float((drawn.abs() < 0.4).float().mean()) < 0.1
    )  # nothing between the branches


def test_density_integrates_to_one():
    c, y = crooked_world(800, 0)
    model = ConditionalFlow.fit(c, y, torch.arange(800) % 4 == 0, updates=60, lr=5e-3, hidden=(16,))
    grid = torch.linspace(-8, 8, 4001)[:, None]
    mass = model.log_prob(torch.full_like(grid, 0.3), grid).exp().sum() * 16 / 4000
    assert float(mass) == pytest.approx(1.0, abs=5e-3)


def test_refusals():
    c, y = linear_world(10, 0)
    with pytest.raises(ShapeError, match="expected"):
        linear_gaussian(c, y[:5])
    with pytest.raises(ShapeError, match="1 values"):
        linear_gaussian(c, torch.where(torch.arange(20).view(10, 2) == 3, torch.nan, y))
    with pytest.raises(ShapeError, match="some of them true"):
        ConditionalFlow.fit(c, y, torch.zeros(10, dtype=torch.bool))
