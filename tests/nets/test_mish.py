"""Mish by our formula against torch's, values and gradients, where it is piecewise, extreme or cut to pieces."""

import pytest
import torch

from safeplan.errors import CapabilityError
from safeplan.nets import mish as module
from safeplan.nets.fisor_mlp import Block
from safeplan.nets.mish import mish


@pytest.mark.parametrize("mish", [mish, torch.compile(mish, backend="aot_eager", dynamic=True)], ids=["eager", "graph"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("shape", [(7,), (3, 50), (0, 4), (2, 3, 100)])
def test_values_and_gradients_are_torchs(shape, biased, mish, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 110)  # several pieces, the last one short
    draw = torch.Generator().manual_seed(0)
    x, bias = 6 * torch.randn(shape, generator=draw), torch.randn(shape[-1:], generator=draw)
    x.view(-1)[:4] = torch.tensor([0.0, -200.0, 21.0, 1e20])[: x.numel()]
    weights = torch.rand(shape, generator=draw)

    def slopes(f, *leaves):
        leaves = [v.clone().requires_grad_() for v in leaves[: 1 + biased]]
        return torch.autograd.grad((f(*leaves) * weights).sum(), leaves)

    both = (x, bias)[: 1 + biased]
    want = torch.nn.functional.mish(sum(v.double() for v in both))
    with torch.no_grad():
        torch.testing.assert_close(mish(*both).double(), want, rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(mish(*(v.clone().requires_grad_() for v in both)).double(), want, rtol=1e-6, atol=2e-6)
    exact = slopes(lambda *v: torch.nn.functional.mish(sum(v)), *(v.double() for v in both))
    for g, e in zip(slopes(mish, *both), exact, strict=True):
        torch.testing.assert_close(g.double(), e, rtol=1e-6, atol=1e-5)


def test_bfloat16_is_rounded_once():
    x = (6 * torch.randn(3, 50, generator=torch.Generator().manual_seed(0))).bfloat16()
    bias = torch.linspace(-1, 1, 50)
    want = torch.nn.functional.mish(x.double() + bias).bfloat16()
    for v in (x, x.clone().requires_grad_()):
        got = mish(v, bias)
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-6)


def test_other_types_and_layouts_are_torchs_own():
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    for v in (x.double(), x.mT):
        assert torch.equal(mish(v), torch.nn.functional.mish(v))


@pytest.mark.parametrize("rows", [1, 16, 64, 65])
def test_a_block_gives_the_same_without_gradients(rows):
    """Few rows are multiplied the other way round there."""
    block, x = Block(8, 0.1).eval(), torch.randn(rows, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = block(x)
    torch.testing.assert_close(got, block(x).detach(), rtol=1e-5, atol=1e-6)


def test_transforms_of_torch_func_are_torchs_own():
    """Guidance takes gradients through a network by them; also twice, also where gradients are off."""
    x, bias = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 5)
    once = lambda g: torch.func.grad(lambda v: g(v).square().sum())  # noqa: E731
    twice = lambda g: once(once(g))  # noqa: E731
    for f in (torch.func.vmap, once, twice, lambda g: lambda v: torch.func.vjp(g, v)[1](v)[0]):
        with torch.no_grad():
            got, want = (f(g)(x) for g in (lambda v: mish(v, bias), lambda v: torch.nn.functional.mish(v + bias)))
        torch.testing.assert_close(got, want)


def test_second_derivatives_are_refused_and_not_forgotten():
    """With constants above torch would return a first derivative that depends on nothing."""
    x = torch.randn(4, 5, requires_grad=True)
    with pytest.raises(CapabilityError, match=r"second derivatives.*use torch\.func\.grad"):
        torch.autograd.grad(mish(x).sum(), x, create_graph=True)


def test_a_block_takes_rows_of_rows():
    block, x = Block(8, 0.1).eval(), torch.randn(16, 3, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(block(x), block(x.reshape(48, 8)).view(16, 3, 8), rtol=1e-5, atol=1e-6)
