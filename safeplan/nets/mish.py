"""Mish, `x tanh(softplus(x))`, without the logarithm and the hyperbolic tangent where they are what takes the time."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

PIECE = 1 << 16  # entries worked on at a time: with their intermediate results they stay in a core's cache
FLAT = 20.0  # beyond it mish(x) is x in float32


def mish(x: Tensor) -> Tensor:
    """Mish of `x`, any shape; rounding apart, `torch.nn.functional.mish`.

    With e = exp(x), tanh(softplus(x)) is n / (n + 2), n = e (e + 2). On the CPU in float32 that is computed piece by
    piece, the derivative with it where a gradient is asked for; elsewhere torch's own kernel is as good.
    """
    if torch.compiler.is_compiling():
        e = x.clamp(max=FLAT).exp()
        n = e * (e + 2.0)
        return x * (n / (n + 2.0))
    if x.device.type != "cpu" or x.dtype != torch.float32 or not x.is_contiguous():
        return torch.nn.functional.mish(x)
    if torch.is_grad_enabled() and x.requires_grad:
        return _Mish.apply(x)  # pyright: ignore[reportReturnType]
    out = torch.empty_like(x)
    for (v, y), e, t in _pieces(x, out):
        torch.clamp(v, max=FLAT, out=e).exp_().add_(1.0)
        torch.mul(e, e, out=t).add_(1.0)  # n + 2; mish is x - 2 x / (n + 2)
        torch.addcdiv(v, v, t, value=-2.0, out=y)
    return out


class _Mish(torch.autograd.Function):
    """Keeps the derivative, not its argument: what goes back is one product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out, slope = torch.empty_like(x), torch.empty_like(x)
        for (v, y, g), e, t in _pieces(x, out, slope):
            torch.exp(torch.clamp(v, max=FLAT, out=g), out=e)
            torch.add(e, 2.0, out=t).mul_(e).add_(2.0).reciprocal_()  # 1 / (n + 2); mish is x (1 - 2 t)
            torch.addcmul(v, v, t, value=-2.0, out=y)
            # with u = e t the derivative is 1 - 2 t + 4 x u (u + t)
            g.mul_(e.mul_(t))
            g.mul_(e.add_(t))
            torch.add(t.mul_(-2.0).add_(1.0), g, alpha=4.0, out=g)
        ctx.save_for_backward(slope)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * ctx.saved_tensors[0]


def _pieces(*tensors: Tensor) -> Iterator[tuple[list[Tensor], Tensor, Tensor]]:
    """The same pieces of all, and two of their size to work in."""
    flat = [v.view(-1) for v in tensors]
    entries = len(flat[0])
    e, t = (torch.empty(min(PIECE, entries)) for _ in range(2))
    for i in range(0, entries, PIECE):
        part = [v[i : i + PIECE] for v in flat] if entries > PIECE else flat
        n = len(part[0])
        yield part, (e if n == len(e) else e[:n]), (t if n == len(t) else t[:n])
