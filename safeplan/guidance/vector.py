"""Each sample as one vector: products and norms over all dimensions but the first, in float64."""

import torch
from torch import Tensor

from safeplan.diffusion.convert import over


def dims(x: Tensor, only: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """The dimensions to reduce: all but the first, or `only` those."""
    return tuple(range(1, x.ndim)) if only is None else only


def dot(u: Tensor, v: Tensor, only: tuple[int, ...] | None = None) -> Tensor:
    """<u, v>, reduced dimensions kept with size 1."""
    return (u.double() * v.double()).sum(dims(u, only), keepdim=True)


def norm(u: Tensor, only: tuple[int, ...] | None = None) -> Tensor:
    """Euclidean norm, reduced dimensions kept."""
    return torch.linalg.vector_norm(u.double(), dim=dims(u, only), keepdim=True)


def rms(u: Tensor, only: tuple[int, ...] | None = None) -> Tensor:
    """Root mean square, reduced dimensions kept: a norm that does not grow with the size of a sample."""
    return (u.double() ** 2).mean(dims(u, only), keepdim=True).sqrt()


def split(d: Tensor, axis: Tensor, only: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """Parts of `d` parallel and orthogonal to `axis`; all of `d` is orthogonal to a zero axis."""
    parallel = over(dot(d, axis, only), dot(axis, axis, only), tiny=0.0) * axis.double()
    return parallel.to(d.dtype), (d.double() - parallel).to(d.dtype)


def cosine(u: Tensor, v: Tensor) -> Tensor:
    """Cosine `[B]` between samples; 1 where both are zero, 0 where one is."""
    uu, vv = dot(u, u).flatten(), dot(v, v).flatten()
    c = over(dot(u, v).flatten(), (uu * vv).sqrt(), tiny=0.0)
    return torch.where((uu == 0) & (vv == 0), torch.ones_like(c), c)
