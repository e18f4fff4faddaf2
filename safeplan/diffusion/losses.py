"""The denoising loss, in whatever the network predicts, with a weight per sample."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from safeplan.diffusion.cond import as_cond
from safeplan.diffusion.convert import like, target
from safeplan.diffusion.denoiser import Denoiser
from safeplan.errors import ConfigError, ShapeError


def denoising_errors(
    denoiser: Denoiser,
    x0: Tensor,
    cond: Any = None,
    generator: torch.Generator | None = None,
    *,
    t: Tensor | None = None,
    noise: Tensor | None = None,
    drop: float = 0.0,
    drop_names: Sequence[str] | None = None,
    entry_weights: Tensor | None = None,
    reduce: str = "mean",
) -> Tensor:
    """Squared error of each sample `[B]`, in the network's own output space.

    Args:
        x0: data `[B, ...]`, normalised.
        generator: for time, noise and dropout, in this order; on any device.
        t, noise: `[B]` times of the path and `[B, ...]` normals; drawn when None.
        drop: probability that a sample loses its condition (leaves `drop_names`, default all), for CFG [cfg].
        entry_weights: weights that broadcast to x0 (padding, first action, ...).
        reduce: over entries, "mean" or "sum"; entries that are pinned have no noise, no loss and do not count.
    """
    if reduce not in ("mean", "sum"):
        raise ConfigError(f"denoising_loss: reduce={reduce!r}; use 'mean' or 'sum'")
    cond, device = as_cond(cond), (generator.device if generator is not None else x0.device)
    t = denoiser.path.draw(len(x0), generator) if t is None else t
    noise = torch.randn(x0.shape, generator=generator, device=device, dtype=x0.dtype) if noise is None else noise
    if noise.shape != x0.shape or t.shape != (len(x0),):
        raise ShapeError(f"denoising_loss: x0 {tuple(x0.shape)}, noise {tuple(noise.shape)}, t {tuple(t.shape)}")
    if drop > 0 and cond.leaves:
        cond = cond.drop((torch.rand(len(x0), generator=generator, device=device) < drop).to(x0.device), drop_names)
    a, s = denoiser.path.at(t.to(x0.device))
    noise = noise.to(x0.device)
    x = like(a, x0).to(x0.dtype) * x0 + like(s, x0).to(x0.dtype) * noise
    keep = torch.ones_like(x0) if entry_weights is None else entry_weights.to(x0.dtype).expand_as(x0)
    if cond.pin is not None:
        x = cond.pin.write(x)
        keep = keep * ~cond.pin.mask.expand_as(x0)
    out = denoiser.raw(x, a, s, cond).out
    want = target(denoiser.predict, x0, noise, a, s, denoiser.sigma_data)
    error = ((out - want).square() * keep).flatten(1).sum(1)
    return error / keep.flatten(1).sum(1).clamp_min(1e-12) if reduce == "mean" else error


def denoising_loss(
    denoiser: Denoiser,
    x0: Tensor,
    cond: Any = None,
    weights: Tensor | None = None,
    generator: torch.Generator | None = None,
    **kw: Any,
) -> Tensor:
    """Mean over the batch of `weights [B]` times `denoising_errors`; weights are used as they are, not normalised."""
    errors = denoising_errors(denoiser, x0, cond, generator, **kw)
    if weights is None:
        return errors.mean()
    if weights.shape != errors.shape:
        raise ShapeError(f"denoising_loss: weights are {tuple(weights.shape)}, expected ({len(x0)},)")
    return (weights.to(errors.dtype) * errors).mean()
