"""Perturbed attention by rows against the processors of diffusers, bit for bit."""

import pytest
import torch

pytest.importorskip("diffusers", reason="the extra safeplan[image] is not installed")

from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    PAGCFGIdentitySelfAttnProcessor2_0,
    PAGIdentitySelfAttnProcessor2_0,
)

from safeplan.errors import CapabilityError
from safeplan.nets.diffusers_pag import IdentityRows, PAGRows
from tests.tiny_diffusers import draws, unet

LAYOUTS = {
    "tokens": ({}, (16, 16)),
    "image with norm and residual": (
        {"norm_num_groups": 4, "residual_connection": True, "rescale_output_factor": 1.5},
        (16, 4, 4),
    ),
}


@pytest.mark.parametrize(("options", "shape"), LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("branches", [2, 3])
def test_same_bits_as_diffusers(options, shape, dtype, branches):
    torch.manual_seed(0)
    attn = Attention(16, heads=2, dim_head=8, **options).to(dtype).eval()
    x = torch.randn(2 * branches, *shape, dtype=dtype)
    plain = attn.processor
    attn.set_processor(PAGIdentitySelfAttnProcessor2_0() if branches == 2 else PAGCFGIdentitySelfAttnProcessor2_0())
    want = attn(x)
    rows = torch.arange(2 * branches) >= 2 * (branches - 1)  # they perturb the last chunk
    attn.set_processor(IdentityRows(plain, rows))
    assert torch.equal(attn(x), want)
    attn.set_processor(plain)
    assert not torch.equal(attn(x), want), "the perturbation must matter here"


def test_rows_choose_and_the_network_is_left_as_it_was():
    net = unet()
    x, pos, _ = draws(3)
    for m in net.modules():
        if isinstance(m, Attention):
            m.set_processor(AttnProcessor())
    pag, before = PAGRows(net), dict(net.attn_processors)

    def call(perturb=None):
        with torch.no_grad(), pag.perturbed(perturb):
            return net(x, 500, encoder_hidden_states=pos).sample

    plain, mid = call(), call({("pag", "mid"): torch.tensor([True] * 3)})
    some = call({("pag", "mid"): torch.tensor([False, True, False])})
    assert torch.equal(some[[0, 2]], plain[[0, 2]]) and torch.equal(some[1], mid[1])
    assert not torch.equal(some[1], plain[1])
    both = call({("pag", "mid"): torch.tensor([True, False, False]), ("pag", 3): torch.tensor([False, True, False])})
    assert torch.equal(both[:2], mid[:2]) and torch.equal(both[2], plain[2]), "number 3 is the mid block's"
    with pytest.raises(ZeroDivisionError), pag.perturbed({("pag", "mid"): torch.tensor([True] * 3)}):
        raise ZeroDivisionError
    assert net.attn_processors == before


def test_layers_by_name_and_number():
    pag = PAGRows(unet())
    names = list(pag.layers)
    assert len(names) == 4 and all(n.endswith("attn1") for n in names)
    assert pag.find(("mid",)) == pag.find((3,)) == [n for n in names if n.startswith("mid_block")]
    assert pag.find(("up_blocks.0", "down_blocks.1")) == [*names[1:3], names[0]]
    for wrong in ("up_blocks.1", "blocks.0", "mid_block.attentions.1", 4, -1):
        with pytest.raises(CapabilityError, match=r"no self-attention layer.*mid_block\.attentions\.0"):
            pag.find((wrong,))
    with pytest.raises(CapabilityError, match="names no layer"):
        pag.find(())
    with (
        pytest.raises(CapabilityError, match="'seg' is unknown"),
        pag.perturbed({("seg", "mid"): torch.tensor([True])}),
    ):
        pass
    many = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList(Attention(8, heads=1, dim_head=8) for _ in range(11))})
    assert PAGRows(many).find(("blocks.1",)) == ["blocks.1"]
    with pytest.raises(CapabilityError, match="Linear has no self-attention"):
        PAGRows(torch.nn.Linear(2, 2))
