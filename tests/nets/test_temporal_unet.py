"""Few rows take another convolution than many, and nobody can tell but by the clock."""

import threading

import pytest
import torch

from safeplan.errors import ShapeError
from safeplan.nets import TemporalUNet
from safeplan.nets.temporal_unet import FEW


@pytest.fixture(scope="module")
def net() -> TemporalUNet:
    torch.manual_seed(0)
    net = TemporalUNet(3, {"goal": 2}, width=8, emb=16)
    for p in net.parameters():  # what starts at 0 would hide the convolutions behind it
        torch.nn.init.normal_(p, std=0.2)
    return net


def inputs(rows: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(1)
    draw = lambda *s: torch.randn(rows, *s, generator=g)  # noqa: E731
    return draw(8, 3), torch.rand(rows, generator=g), {"goal": draw(2)}


def test_rows_of_a_small_and_of_a_large_batch_agree_and_so_do_gradients(net):
    x, t, cond = inputs(2 * FEW)

    def run(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        part = x[rows].clone().requires_grad_()
        y = net(part, t[rows], {"goal": cond["goal"][rows]})
        return y, torch.autograd.grad(y.square().sum(), part)[0]

    for few, many in zip(run(slice(0, FEW)), run(slice(0, 2 * FEW)), strict=True):
        torch.testing.assert_close(few, many[:FEW], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("before", [True, False])
def test_the_users_switch_is_as_it_was_even_after_an_error(net, before):
    kept = torch.backends.mkldnn.enabled
    seen = []
    hook = net.mid.register_forward_pre_hook(lambda *_: seen.append(torch._C._get_mkldnn_enabled()))
    try:
        torch._C._set_mkldnn_enabled(before)
        x, t, cond = inputs(FEW)
        net(x, t, cond)
        assert torch._C._get_mkldnn_enabled() is before
        with pytest.raises(RuntimeError):
            net(x[:, :, :2], t, cond)
        assert torch._C._get_mkldnn_enabled() is before
        net(*inputs(FEW + 1))
        assert seen == [False, before]
    finally:
        hook.remove()
        torch._C._set_mkldnn_enabled(kept)


def test_threads_that_overlap_leave_the_switch_as_it_was(net):
    """The first comes and goes while the second is inside."""
    kept, (x, t, cond) = torch.backends.mkldnn.enabled, inputs(FEW)
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def pause(*_):
        if threading.current_thread() is first:
            first_in.set()
            assert second_in.wait(30)
        else:
            second_in.set()
            assert first_out.wait(30)

    def run(before, after):
        assert before.wait(30)
        net(x, t, cond)
        after.set()

    begun = threading.Event()
    begun.set()
    first = threading.Thread(target=run, args=(begun, first_out))
    second = threading.Thread(target=run, args=(first_in, threading.Event()))
    hook = net.mid.register_forward_pre_hook(pause)
    try:
        torch._C._set_mkldnn_enabled(True)
        for thread in (first, second):
            thread.start()
        for thread in (first, second):
            thread.join(30)
        assert torch._C._get_mkldnn_enabled() is True
    finally:
        hook.remove()
        torch._C._set_mkldnn_enabled(kept)


def test_a_horizon_that_does_not_divide_is_refused(net):
    x, t, cond = inputs(2)
    with pytest.raises(ShapeError, match="divisible by 4"):
        net(x[:, :6], t, cond)
