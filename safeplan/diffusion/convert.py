"""What a network predicts, turned into x0 and back, in any frame `x = a x0 + s n`.

Runs in float32 or better. Where the algebra divides by zero (eps at a = 0, noise at s = 0) the answer is 0: the mean of
normalised data, no noise. EDM's preconditioning is written in (a, s), so that it stays finite at a = 0.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from safeplan.errors import ConfigError

Kind = Literal["eps", "x0", "v", "flow", "edm"]
KINDS: tuple[str, ...] = get_args(Kind)
TINY = 1e-6


def check_kind(kind: str) -> None:
    """ConfigError unless `kind` is a known parametrisation."""
    if kind not in KINDS:
        raise ConfigError(f"parametrisation {kind!r} is unknown; use one of {', '.join(KINDS)}")


def like(v: Tensor | float, x: Tensor) -> Tensor:
    """`v` (0-d or `[B]`) shaped to multiply `x [B, ...]`, in float32 or better."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    t = v if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64)
    if t.ndim == 0:
        return t.to(dtype) if dtype != torch.float32 else t  # a 0-d float64 does not promote a float32 tensor
    return t.to(device=x.device, dtype=dtype).reshape(-1, *[1] * (x.ndim - 1))


def over(num: Tensor, den: Tensor, tiny: float = TINY) -> Tensor:
    """`num / den`, and 0 where `den` is at most `tiny`, with finite gradients."""
    ok = den > tiny
    return torch.where(ok, num / torch.where(ok, den, torch.ones_like(den)), torch.zeros_like(num))


def edm_scalings(a: Tensor, s: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in that multiply x itself (not x / a); [edm], table 1."""
    q = s * s + (a * sigma_data) ** 2
    return a * sigma_data**2 / q, s * sigma_data * q.rsqrt(), q.rsqrt()


def to_x0(kind: str, out: Tensor, x: Tensor, a: Tensor, s: Tensor, sigma_data: float = 1.0) -> Tensor:
    """x0 from the network's output at `x = a x0 + s n`. eps = n; v = a n - s x0; flow = n - x0; edm = F."""
    x, out = _wide(x), _wide(out)
    a, s = like(a, x), like(s, x)
    if kind == "x0":
        return out
    if kind == "eps":
        return over(x - s * out, a)
    if kind == "v":
        return (a * x - s * out) / (a * a + s * s)
    if kind == "flow":
        return (x - s * out) / (a + s)
    c_skip, c_out, _ = edm_scalings(a, s, sigma_data)
    return c_skip * x + c_out * out


def target(kind: str, x0: Tensor, noise: Tensor, a: Tensor, s: Tensor, sigma_data: float = 1.0) -> Tensor:
    """What the network should put out at `x = a x0 + s noise`."""
    x0, noise = _wide(x0), _wide(noise)
    a, s = like(a, x0), like(s, x0)
    if kind == "x0":
        return x0
    if kind == "eps":
        return noise
    if kind == "v":
        return a * noise - s * x0
    if kind == "flow":
        return noise - x0
    c_skip, c_out, _ = edm_scalings(a, s, sigma_data)
    return over(x0 - c_skip * (a * x0 + s * noise), c_out)


def noise_of(x: Tensor, x0: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """The noise direction (x - a x0) / s, 0 at s = 0."""
    x = _wide(x)
    return over(x - like(a, x) * x0, like(s, x))


def from_x0(kind: str, x0: Tensor, x: Tensor, a: Tensor, s: Tensor, sigma_data: float = 1.0) -> Tensor:
    """The output that a network of parametrisation `kind` would have to give for this x0; inverse of `to_x0`."""
    return target(kind, x0, noise_of(x, x0, a, s), a, s, sigma_data)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
