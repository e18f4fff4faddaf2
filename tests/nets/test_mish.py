"""Mish by our formula against torch's, values and gradients, where it is piecewise, extreme or cut to pieces."""

import pytest
import torch

from safeplan.nets import mish as module
from safeplan.nets.fisor_mlp import Block
from safeplan.nets.mish import mish


@pytest.mark.parametrize("shape", [(7,), (3, 50), (0, 4), (2, 3, 100)])
def test_values_and_gradients_are_torchs(shape, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 64)  # several pieces, the last one short
    x = 6 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x.view(-1)[:4] = torch.tensor([0.0, -200.0, 21.0, 1e30])[: x.numel()]
    exact = x.double().requires_grad_()
    want = torch.nn.functional.mish(exact)
    weights = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad((want * weights).sum(), exact)
    ours = x.clone().requires_grad_()
    for value in (mish(ours), mish(x)):
        torch.testing.assert_close(value.double(), want, rtol=1e-6, atol=2e-6)
    (got,) = torch.autograd.grad((mish(ours) * weights).sum(), ours)
    torch.testing.assert_close(got.double(), slope, rtol=1e-6, atol=5e-6)


def test_other_types_and_layouts_are_torchs_own():
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    for v in (x.double(), x.bfloat16(), x.mT):
        assert torch.equal(mish(v), torch.nn.functional.mish(v))


@pytest.mark.parametrize("rows", [1, 16, 64, 65])
def test_a_block_gives_the_same_without_gradients(rows):
    """Few rows are multiplied the other way round there."""
    block, x = Block(8, 0.1).eval(), torch.randn(rows, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = block(x)
    torch.testing.assert_close(got, block(x).detach(), rtol=1e-5, atol=1e-6)
