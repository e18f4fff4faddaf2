import math

import pytest
import torch

from safeplan.diffusion import EDM, FisorVP, Flow, Grid, VPCosine, VPLinear
from safeplan.diffusion.convert import KINDS, from_x0, noise_of, target, to_x0
from safeplan.errors import ConfigError

PATHS = [VPLinear(), VPCosine(), Flow(), EDM(), FisorVP(), Flow(shift=3.0)]


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_time_inverts_at_and_grid_falls_to_the_data(path):
    grid = path.grid(5)
    assert grid.steps == 5 and grid.a[-1] == 1.0 and grid.s[-1] == 0.0
    a, s = torch.tensor(grid.a, dtype=torch.float64), torch.tensor(grid.s, dtype=torch.float64)
    back_a, back_s = path.at(path.time(a, s))
    # another frame with the same sigma must land on the same point
    again_a, again_s = path.at(path.time(3.0 * a, 3.0 * s))
    for got, want in ((back_a, a), (back_s, s), (again_a, a), (again_s, s)):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", [VPLinear(), VPCosine(), FisorVP()], ids=repr)
def test_variance_preserving(path):
    a, s = path.at(torch.linspace(0, path.t_max, 9, dtype=torch.float64))
    torch.testing.assert_close(a**2 + s**2, torch.ones_like(a))


def test_fisor_table_is_the_published_one():
    a, _ = FisorVP().at(torch.arange(5.0, dtype=torch.float64))
    a2 = a**2
    torch.testing.assert_close(
        a2, torch.tensor([0.80413, 0.43518, 0.15850, 0.03885, 0.00641]).double(), atol=6e-6, rtol=0
    )
    betas = 1 - a2 / torch.cat([torch.ones(1).double(), a2[:-1]])
    torch.testing.assert_close(
        betas, torch.tensor([0.19587, 0.45882, 0.63578, 0.75488, 0.83503]).double(), atol=6e-6, rtol=0
    )
    t = FisorVP().time(*FisorVP().at(torch.arange(5.0)))
    torch.testing.assert_close(t, torch.arange(5.0), atol=1e-5, rtol=0)


def test_cosine_and_flow_start_at_infinite_sigma():
    for path in (VPCosine(), Flow()):
        assert path.grid(4).sigma[0] == math.inf
        assert path.grid(4).sigma[-1] == 0.0


def test_karras_grid_matches_the_formula():
    sigma = EDM().grid(18).sigma
    assert sigma[0] == pytest.approx(80.0) and sigma[17] == pytest.approx(0.002) and sigma[18] == 0
    assert sigma[9] == pytest.approx((80 ** (1 / 7) + 9 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7)


def test_grid_below_and_bad_grids():
    grid = EDM().grid(8)
    assert grid.below(1.0).sigma[0] <= 1.0 and grid.below(1.0).steps < grid.steps
    with pytest.raises(ConfigError, match="fall strictly"):
        Grid((1.0, 1.0), (0.1, 0.2))
    with pytest.raises(ConfigError, match="at least 1"):
        VPCosine().grid(0)
    with pytest.raises(ConfigError, match="5"):
        FisorVP().grid(6)
    with pytest.raises(ConfigError, match="2 of each"):
        Grid((1.0,), (0.0,))


def test_fisor_subgrid_and_draws_are_reproducible():
    assert FisorVP().grid(1).steps == 1
    for path in PATHS:
        g1, g2 = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
        t = path.draw(64, g1)
        assert torch.equal(t, path.draw(64, g2)) and t.shape == (64,)
        a, s = path.at(t)
        assert torch.isfinite(a).all() and (s > 0).all()
    assert set(FisorVP().draw(200, torch.Generator().manual_seed(0)).tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frame", ["vp", "ve", "flow"])
def test_conversions_round_trip(kind, frame):
    g = torch.Generator().manual_seed(0)
    x0, n = torch.randn(6, 3, generator=g).double(), torch.randn(6, 3, generator=g).double()
    t = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    a, s = {"vp": (torch.cos(t), torch.sin(t)), "ve": (torch.ones(6).double(), 3 * t), "flow": (1 - t, t)}[frame]
    x = a[:, None] * x0 + s[:, None] * n
    out = target(kind, x0, n, a, s, 0.7)
    torch.testing.assert_close(to_x0(kind, out, x, a, s, 0.7), x0, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(from_x0(kind, x0, x, a, s, 0.7), out, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(noise_of(x, x0, a, s), n, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_conversions_are_finite_at_both_ends_and_in_half_precision(kind):
    for a, s in ((0.0, 1.0), (1.0, 0.0)):
        a, s = torch.tensor(a, dtype=torch.float64), torch.tensor(s, dtype=torch.float64)
        x = torch.randn(4, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = to_x0(kind, 0.5 * x, x, a, s)
        assert y.dtype == torch.float32
        y.sum().backward()
        assert torch.isfinite(y).all() and torch.isfinite(x.grad).all()
        assert torch.isfinite(from_x0(kind, x.detach(), x.detach(), a, s)).all()
    half = torch.ones(2, 2, dtype=torch.bfloat16)
    assert to_x0(kind, half, half, torch.tensor(0.6), torch.tensor(0.8)).dtype == torch.float32
