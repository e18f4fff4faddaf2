"""The U-Net: perturbed rows by hand, the null label, what an evaluation costs."""

import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.imaging import ImageConfig, LabelUNet
from safeplan.imaging.attention import MaskedSelfAttention
from tests.synthetic_images import tiny_net


@pytest.fixture(scope="module")
def net() -> LabelUNet:
    return tiny_net()


@pytest.fixture(scope="module")
def batch():
    g = torch.Generator().manual_seed(0)
    return torch.randn(4, 1, 32, 32, generator=g), torch.linspace(0.1, 0.9, 4), {"label": torch.tensor([0, 1, 2, 3])}


# ---------------------------------------------------------------- perturbed attention
def attention(cross: int | None = None):
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    return Attention(query_dim=16, cross_attention_dim=cross, heads=2, dim_head=8).eval().requires_grad_(False)


def test_processor_is_diffusers_own_and_v_in_masked_rows():
    attn, x = attention(), torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(1))
    plain = attn(x)
    attn.set_processor(MaskedSelfAttention(2))
    torch.testing.assert_close(attn(x), plain, rtol=0, atol=0)
    by_hand = x @ attn.to_v.weight.T @ attn.to_out[0].weight.T + attn.to_out[0].bias
    mask = torch.tensor([True, False, True])
    out = attn(x, perturbed={2: mask})
    assert torch.equal(out[1], plain[1])
    torch.testing.assert_close(out[mask], by_hand[mask])
    assert torch.equal(attn(x, perturbed={1: mask}), plain)  # another layer's rows


def test_processor_serves_cross_attention():
    attn, g = attention(cross=6), torch.Generator().manual_seed(1)
    x, tokens = torch.randn(3, 5, 16, generator=g), torch.randn(3, 2, 6, generator=g)
    plain = attn(x, tokens)
    attn.set_processor(MaskedSelfAttention(-1))
    assert torch.equal(attn(x, tokens, perturbed={0: torch.ones(3, dtype=torch.bool)}), plain)


def test_mask_touches_masked_rows_only(net, batch):
    x, t, leaves = batch
    plain = net(x, t, leaves)
    rows = torch.tensor([True, False, False, True])
    out = net(x, t, leaves, perturb={("pag",): rows})
    assert torch.equal(out[1:3], plain[1:3])
    assert ((out - plain).flatten(1).abs().amax(1) > 1e-6).tolist() == rows.tolist()
    none = net(x, t, leaves, perturb={("pag",): torch.zeros(4, dtype=torch.bool)})
    assert torch.equal(none, plain)


def test_masked_rows_are_those_of_a_net_with_identity_maps(net, batch, monkeypatch):
    """By hand: every chosen layer replaced by its V and output projections."""
    x, t, leaves = batch
    rows = torch.tensor([False, True, True, False])
    mixed = net(x, t, leaves, perturb={("pag", 0, 2): rows})
    modules = dict(net.unet.named_modules())
    for i in (0, 2):
        attn = modules[net.layers[i]]
        identity = lambda h, *_, a=attn, **__: a.to_out[0](a.to_v(h))  # noqa: E731
        monkeypatch.setattr(attn, "forward", identity)
    torch.testing.assert_close(mixed[rows], net(x, t, leaves)[rows])


def test_branches_of_two_layers_share_a_forward(net, batch):
    x, t, leaves = batch
    a, b = torch.tensor([True, True, False, False]), torch.tensor([False, False, True, False])
    both = net(x, t, leaves, perturb={("pag", 0): a, ("pag", 1): b})
    torch.testing.assert_close(both[a], net(x, t, leaves, perturb={("pag", 0): ~b})[a])
    torch.testing.assert_close(both[b], net(x, t, leaves, perturb={("pag", 1): ~a})[b])
    assert torch.equal(both[3], net(x, t, leaves)[3])


def test_unknown_layers_are_named(net, batch):
    x, t, leaves = batch
    with pytest.raises(CapabilityError, match=r"layer 9; there are 0 down_blocks"):
        net(x, t, leaves, perturb={("pag", 9): torch.ones(4, dtype=torch.bool)})
    assert [n.split("_")[0] for n in net.layers] == ["down", "mid", "up", "up"]


# ---------------------------------------------------------------- label
def test_null_label_is_the_learned_one(batch):
    net = tiny_net()
    x, t, leaves = batch
    null = {"label": torch.tensor([True, False, True, False])}
    before = net(x, t, leaves, null)
    other = net(x, t, {"label": torch.tensor([3, 1, 0, 3])}, null)  # what a switched-off label was does not matter
    assert torch.equal(before[:3], other[:3])
    assert torch.equal(before[0], net(x, t, {"label": torch.full((4,), net.classes)})[0])
    with torch.no_grad():
        net.unet.class_embedding.weight[net.classes] += 1.0
    after = net(x, t, leaves, null)
    assert ((after - before).flatten(1).abs().amax(1) > 1e-6).tolist() == null["label"].tolist()


def test_label_and_time_matter(net, batch):
    x, t, leaves = batch
    base = net(x, t, leaves)
    assert not torch.allclose(base[0], net(x, t, {"label": torch.tensor([1, 1, 2, 3])})[0], atol=1e-6)
    assert not torch.allclose(base, net(x, t + 0.3, leaves), atol=1e-6)


def test_shapes_are_checked(net, batch):
    x, t, leaves = batch
    for bad in (x[:, 0], x.repeat(1, 3, 1, 1), x[..., :30]):
        with pytest.raises(ShapeError, match="divisible by 8"):
            net(bad, t, leaves)
    with pytest.raises(ShapeError, match=r"leaves are none, expected label \[4\]"):
        net(x, t, {})
    for bad in ({"width": 12}, {"patch": 3}, {"predict": "eps"}, {"drop": 1.0}, {"batch": 0}):
        with pytest.raises(ConfigError, match="image: "):
            ImageConfig(**bad)


# ---------------------------------------------------------------- cost, dependencies
def test_an_evaluation_costs_at_most_a_fifth_of_a_gflop():
    net = LabelUNet(1, 10)
    with FlopCounterMode(display=False) as count, torch.no_grad():
        out = net(torch.ones(1, 1, 32, 32), torch.zeros(1), {"label": torch.zeros(1)})
    assert 0.05e9 < count.get_total_flops() <= 0.2e9
    assert sum(p.numel() for p in net.parameters()) < 2.5e6
    assert out.abs().max() == 0  # starts at the mean of the data
    assert len(net.layers) >= 1


def test_without_diffusers_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers.models.unets.unet_2d_condition", None)
    with pytest.raises(CapabilityError, match=r'pip install "safeplan\[image\]"'):
        LabelUNet(1, 10)
