"""Different scales for coarse and fine: FA-CFG (two bands) and FDG (a pyramid), along time or over images."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from safeplan.diffusion.guidance import COND, NULL, Branch, Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.errors import CapabilityError, ConfigError
from safeplan.guidance.papers import FDG_PAPER, FRECAS
from safeplan.guidance.scale import ALWAYS, Interval, check_interval, cite_interval
from safeplan.schema import each_in_range, in_range


def _spatial(x: Tensor) -> Tensor:
    """`[B, H, D]` as `[B, D, H]`, images `[B, C, H, W]` as they are; the same call undoes it."""
    if x.ndim not in (3, 4):
        raise CapabilityError(f"bands: x is {tuple(x.shape)}; frequencies need [B, H, D] or [B, C, H, W]")
    return x.transpose(1, 2) if x.ndim == 3 else x


def _resize(z: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(z, size=size, mode="linear" if z.ndim == 3 else "bilinear", align_corners=False)


def two_bands(x: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """(low, high), low = up(down(x)) by linear resampling to 1/factor of the size; they add up to x [frecas]."""
    z = _spatial(x)
    small = tuple(max(round(n / factor), 1) for n in z.shape[2:])
    low = _spatial(_resize(_resize(z, small), tuple(z.shape[2:])))
    return low, x - low


def _blur(z: Tensor) -> Tensor:
    """The binomial filter [1 4 6 4 1]/16 along every spatial dimension, edges reflected."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=z.dtype, device=z.device) / 16
    for axis in range(2, z.ndim):
        shape = [1] * z.ndim
        shape[axis] = 5
        w = kernel.reshape(shape).expand(z.shape[1], *shape[1:])
        pad = [0, 0] * (z.ndim - 1 - axis) + [2, 2] + [0, 0] * (axis - 2)
        conv = F.conv1d if z.ndim == 3 else F.conv2d
        z = conv(F.pad(z, pad, mode="reflect"), w, groups=z.shape[1])
    return z


def _up(z: Tensor, size: tuple[int, ...]) -> Tensor:
    return _blur(_resize(z, size))


def pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """Laplacian pyramid (Burt and Adelson 1983), finest first, in spatial layout; halved sizes are rounded down."""
    gaussian = [_spatial(x)]
    for _ in range(levels - 1):
        z = gaussian[-1]
        if min(z.shape[2:]) < 6:
            raise CapabilityError(f"fdg: {levels} levels do not fit x of shape {tuple(x.shape)}; use fewer")
        gaussian.append(_resize(_blur(z), tuple(n // 2 for n in z.shape[2:])))
    return [*(a - _up(b, tuple(a.shape[2:])) for a, b in pairwise(gaussian)), gaussian[-1]]


def from_pyramid(bands: list[Tensor]) -> Tensor:
    """The inverse of `pyramid`."""
    z = bands[-1]
    for band in reversed(bands[:-1]):
        z = band + _up(z, tuple(band.shape[2:]))
    return _spatial(z)


@dataclass(frozen=True, eq=False)
class _Bands(Guidance):
    """x0 + (what the bands make of c - ref)."""

    reference: Branch = NULL
    interval: Interval = ALWAYS

    def __post_init__(self) -> None:
        check_interval(self.interval)

    @property
    def requires(self) -> frozenset[str]:
        return self.reference.requires | {"axis"}

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        return (self.reference,) if in_interval(ctx.sigma, self.interval) else ()

    def weigh(self, d: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if not self.needs(ctx, state):
            return guided, state
        return guided.shift(self.weigh(predictions.x0(COND) - predictions.x0(self.reference))), state

    def citation(self) -> str:
        return cite_interval(super().citation(), self.interval)


@dataclass(frozen=True, eq=False)
class FACFG(_Bands):
    """Frequency-aware CFG: scale `low` for what survives shrinking by `factor`, `high` for the rest."""

    low: float = 2.0
    high: float = 4.0
    factor: float = 2.0

    paper: ClassVar[Paper | None] = FRECAS
    equation: ClassVar[str] = "one scale per frequency band (FA-CFG)"

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range(self, "fa_cfg", {"finite": "low high factor"})
        if not self.factor > 1:
            raise ConfigError(f"fa_cfg: factor = {self.factor}; give more than 1, such as 2")

    def weigh(self, d: Tensor) -> Tensor:
        low, high = two_bands(d, self.factor)
        return (self.low - 1) * low + (self.high - 1) * high


@dataclass(frozen=True, eq=False)
class FDG(_Bands):
    """Frequency-decoupled guidance: one scale per level of a Laplacian pyramid, finest first."""

    scales: tuple[float, ...] = (4.0, 2.0)

    paper: ClassVar[Paper | None] = FDG_PAPER
    equation: ClassVar[str] = "one scale per level of a Laplacian pyramid"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales:
            raise ConfigError(
                "fdg: scales is empty; give one per level of the pyramid, finest first, such as (4.0, 2.0)"
            )
        each_in_range("fdg.scales", self.scales, "finite")

    def weigh(self, d: Tensor) -> Tensor:
        bands = pyramid(d, len(self.scales))
        return from_pyramid([(w - 1) * b for w, b in zip(self.scales, bands, strict=True)])
