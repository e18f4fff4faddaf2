"""Mish, `x tanh(softplus(x))`, without the logarithm and the hyperbolic tangent that take a CPU most of its time."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from safeplan.errors import CapabilityError

PIECE = 1 << 16  # entries worked on at a time: with their intermediate results they stay in a core's cache
NEAR = 20.0  # the same where the square of that square has to be one
FLAT = 40.0  # beyond it mish(x) is x in float32, and the square of its exponential still a number


def mish(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Mish of `x + bias`, `[..., N]` and `[N]`; rounding apart, `torch.nn.functional.mish`.

    With e = exp(x), tanh(softplus(x)) is n / (n + 2), n = e (e + 2). On a CPU that is computed piece by piece, the
    derivative with it where a gradient is asked for, in float32 also for bfloat16. Elsewhere torch's own is as good,
    and inside the transforms of `torch.func`, which guidance through a network uses, there is no other.

    Raises:
        CapabilityError: a second derivative by `create_graph=True` where ours is used; `torch.func` has all of them.
    """
    if torch.compiler.is_compiling():
        if torch.is_grad_enabled():
            return _Compiled.apply(x, bias)  # pyright: ignore[reportReturnType]
        return _value(x if bias is None else x + bias)
    known = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and x.is_contiguous()
    if not known or torch._C._are_functorch_transforms_active():
        return torch.nn.functional.mish(x if bias is None else x + bias)
    if torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad)):
        return _Mish.apply(x, bias)  # pyright: ignore[reportReturnType]
    out = torch.empty_like(x)
    for (v, y), room, e, t in _pieces(x, out):
        z = _moved(v, bias, room)
        torch.clamp(z, max=FLAT, out=e).exp_().add_(1.0)
        torch.mul(e, e, out=t).add_(1.0)  # n + 2; mish is x - 2 x / (n + 2)
        torch.addcdiv(z, z, t, value=-2.0, out=y)
    return out


def _value(z: Tensor) -> Tensor:
    """In one piece, for a compiler to fuse; of the ways to write it, one of the fast ones."""
    e = z.clamp(max=NEAR).exp()
    return z - 2.0 * z * (1.0 / (e * (e + 2.0) + 2.0))


def _slope(z: Tensor) -> Tensor:
    """The derivative of `_value`, with one division."""
    c = z.clamp(max=NEAR)
    e = c.exp()
    s = e * (e + 1.0)
    q = s + e + 2.0
    return 1.0 - 2.0 * (q - 2.0 * c * s) * (1.0 / (q * q))


class Mish(torch.nn.Module):
    """`mish` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return mish(x)


class _Compiled(torch.autograd.Function):
    """`_Mish` for a compiler: shorter on the way back than what it derives by itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, bias)
        return _value(x if bias is None else x + bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None]:
        x, bias = ctx.saved_tensors
        back = grads[0] * _slope(x if bias is None else x + bias)
        if bias is None:
            return back.to(x.dtype), None
        if x.device.type != "cpu" or x.dtype != torch.float32:  # where a product may be of less precision
            return back.to(x.dtype), back.sum_to_size(back.shape[-1:]).to(bias.dtype)
        flat = back.reshape(-1, back.shape[-1])  # summed by a product: a sum in the same loop takes half as long again
        return back, (flat.new_ones(1, len(flat)) @ flat)[0]


class _Mish(torch.autograd.Function):
    """Keeps the derivative, not its argument: what goes back is one product, and has no derivative itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        out, slope = torch.empty_like(x), torch.empty_like(x)
        for (v, y, g), room, e, t in _pieces(x, out, slope):
            z = _moved(v, bias, room)
            torch.clamp(z, max=FLAT, out=e).exp_()
            torch.add(e, 2.0, out=t).mul_(e).add_(2.0).reciprocal_()  # 1 / (n + 2); mish is x (1 - 2 t)
            torch.addcmul(z, z, t, value=-2.0, out=y)
            # with u = e t the derivative is 1 - 2 t + 4 x u (u + t)
            torch.mul(z, e.mul_(t), out=room).mul_(e.add_(t))
            torch.add(t.mul_(-2.0).add_(1.0), room, alpha=4.0, out=g)
        ctx.save_for_backward(slope)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None]:
        if torch.is_grad_enabled():  # torch would take the derivative for a constant where nothing above has gradients
            raise CapabilityError(
                "mish: create_graph=True asks for second derivatives, which single precision on a CPU does not keep; "
                "use torch.func.grad or torch.func.vjp, or double precision"
            )
        back = grads[0] * ctx.saved_tensors[0]
        return back, back.sum_to_size(back.shape[-1:]) if ctx.needs_input_grad[1] else None


def _pieces(*tensors: Tensor) -> Iterator[tuple[list[Tensor], Tensor, Tensor, Tensor]]:
    """The same rows of all, and three float32 tensors of their size to work in."""
    flat = [v.view(-1, v.shape[-1]) if v.numel() else v.view(0, 1) for v in tensors]
    rows, width = flat[0].shape
    step = max(PIECE // width, 1)
    work = torch.empty(3, min(step, rows), width)
    for i in range(0, rows, step):
        part = [v[i : i + step] for v in flat] if rows > step else flat
        z, e, t = work[:, : len(part[0])].unbind()
        yield part, z, e, t


def _moved(x: Tensor, bias: Tensor | None, room: Tensor) -> Tensor:
    """`x + bias` in float32; `room` is used where that is not `x` itself."""
    if bias is not None:
        return torch.add(x, bias, out=room)
    return x if x.dtype == torch.float32 else room.copy_(x)
