import pytest
import torch

from safeplan.diffusion import Cond, Denoiser, VPCosine, ddim, denoising_loss
from safeplan.errors import ShapeError
from safeplan.nets import MLP, EnsembleMLP, FisorMLP, TemporalUNet, ema_update

LEAVES = {"goal": 2, "walls": 4, "obstacles": (6, 8)}


def leaves(n, g):
    return {
        "goal": torch.randn(n, 2, generator=g),
        "walls": torch.randn(n, 4, generator=g),
        "obstacles": torch.randn(n, 6, 8, generator=g),
    }


def awake(net, scale=0.05):
    """Give every parameter a random value: zero-initialised outputs would hide what a test looks for."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(scale * torch.randn(p.shape, generator=g))
    return net.eval()


def test_fisor_mlp_has_the_published_size_and_clock():
    net = FisorMLP(2, 72)
    assert sum(p.numel() for p in net.parameters()) == 1_655_586  # 1.66 M at S = 72, A = 2
    net.eval()
    x, obs = torch.randn(3, 2), {"obs": torch.randn(3, 72)}
    assert net(x, torch.zeros(3), obs).shape == (3, 2)
    assert not torch.allclose(net(x, torch.zeros(3), obs), net(x, torch.full((3,), 4.0), obs))
    sd = net.blocks[0].up.weight.std().item()
    assert sd == pytest.approx(256**-0.5, rel=0.02) and net.blocks[0].up.bias.eq(0).all()
    net.train()
    assert not torch.equal(net(x, torch.zeros(3), obs), net(x, torch.zeros(3), obs))  # dropout
    assert not net.nullable


def test_fisor_mlp_matches_its_formula():
    net = awake(FisorMLP(1, 2, width=8, blocks=1, time_features=4, time_width=6))
    x, obs, t = torch.randn(5, 1), torch.randn(5, 2), torch.arange(5.0)
    phase = 2 * torch.pi * t[:, None] * net.w
    f = torch.nn.functional
    temb = net.time[2](f.mish(net.time[0](torch.cat([phase.cos(), phase.sin()], 1))))
    h = net.inp(torch.cat([x, obs, temb], 1))
    b = net.blocks[0]
    h = h + b.down(f.mish(b.up(f.layer_norm(h, (8,), b.norm.weight, b.norm.bias, 1e-6))))
    torch.testing.assert_close(net(x, t, {"obs": obs}), net.out(f.mish(h)))


def test_ensemble_equals_its_members():
    net = awake(EnsembleMLP(5, 1, (16, 16), members=3))
    x = torch.randn(7, 5)
    out = net(x)
    assert out.shape == (3, 7, 1)
    for k in range(3):
        h = x
        for i, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
            h = h @ w[k] + b[k]
            h = torch.relu(h) if i < 2 else h
        torch.testing.assert_close(out[k], h)
    torch.testing.assert_close(net(x.expand(3, 7, 5)), out)
    assert not torch.allclose(out[0], out[1])


def test_mlp_and_ema():
    a, b = MLP(3, 2, (8,)), MLP(3, 2, (8,))
    assert a(torch.zeros(4, 3)).shape == (4, 2)
    want = [0.9 * p.clone() + 0.1 * q for p, q in zip(a.parameters(), b.parameters(), strict=True)]
    ema_update(a, b, 0.1)
    for p, w in zip(a.parameters(), want, strict=True):
        torch.testing.assert_close(p, w)


def test_unet_shapes_zero_output_and_size():
    net = TemporalUNet(12, LEAVES)
    assert 3e5 < sum(p.numel() for p in net.parameters()) < 5e5
    g = torch.Generator().manual_seed(0)
    for h in (4, 20, 24):
        out = net(torch.randn(2, h, 12, generator=g), torch.rand(2), leaves(2, g))
        assert out.shape == (2, h, 12) and out.eq(0).all()
    with pytest.raises(ShapeError, match="divisible by 4"):
        net(torch.zeros(2, 22, 12), torch.rand(2), leaves(2, g))
    assert not TemporalUNet(3).nullable and TemporalUNet(3)(torch.zeros(1, 4, 3), torch.zeros(1)).shape == (1, 4, 3)


def test_unet_hears_time_and_every_leaf_and_null_hides_a_leaf():
    net, g = awake(TemporalUNet(3, LEAVES, width=16, emb=32)), torch.Generator().manual_seed(1)
    x, t, cond = torch.randn(4, 8, 3, generator=g), torch.rand(4, generator=g), leaves(4, g)
    base = net(x, t, cond)
    assert not torch.allclose(net(x, t + 0.1, cond), base)
    for k in cond:
        other = {**cond, k: cond[k] + 1}
        assert not torch.allclose(net(x, t, other), base)
        off = {k: torch.ones(4, dtype=torch.bool)}
        torch.testing.assert_close(net(x, t, other, off), net(x, t, cond, off))
        assert not torch.allclose(net(x, t, cond, off), base)
    # the set of obstacles has no order, rows do not mix
    shuffled = {**cond, "obstacles": cond["obstacles"][:, torch.randperm(6, generator=g)]}
    torch.testing.assert_close(net(x, t, shuffled), base)
    one = net(x[1:2], t[1:2], {k: v[1:2] for k, v in cond.items()})
    torch.testing.assert_close(one, base[1:2], rtol=1e-4, atol=1e-5)


def test_unet_learns_a_toy_and_samples_it():
    """Straight lines to a conditioned end point: 120 updates bring the end within reach of the condition."""
    torch.manual_seed(0)
    net = TemporalUNet(1, {"goal": 1}, width=16, emb=32)
    d, g = Denoiser(net, VPCosine(), "x0"), torch.Generator().manual_seed(0)
    opt = torch.optim.Adam(net.parameters(), 3e-3)
    ramp = torch.linspace(0, 1, 8)[None, :, None]
    for _ in range(120):
        goal = torch.randn(32, 1, generator=g)
        loss = denoising_loss(d, ramp * goal[:, None], Cond({"goal": goal}), None, g)
        opt.zero_grad()
        loss.backward()
        opt.step()
    goal = torch.tensor([[-1.0], [0.0], [1.0]])
    x = ddim(d, torch.randn(3, 8, 1, generator=g), VPCosine().grid(8), {"goal": goal})
    assert (x - ramp * goal[:, None]).abs().max() < 0.35
