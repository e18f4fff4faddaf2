"""A trained image model: pictures of given classes, steered by a guidance chain."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from safeplan.diffusion import EDM, SAMPLERS, Cond, Denoiser, Guidance, Trace, VPCosine
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.imaging.datasets import SIZE, check_finite
from safeplan.rng import randn, sample_generators

UNLABELLED = -1  # the label of an image of no class in particular


class Samples(NamedTuple):
    """`images [N, C, 32, 32]` in [-1, 1] (not cut), `labels [N]`, network evaluations of each sample `nfe [N]`,
    and what the chain did, one trace a batch."""

    images: Tensor
    labels: Tensor
    nfe: Tensor
    traces: tuple[Trace, ...]


def denoiser(net: nn.Module, predict: str, sigma_data: float) -> Denoiser:
    """The network on its path: EDM's, or the cosine one for "v"."""
    return Denoiser(net, EDM() if predict == "edm" else VPCosine(), predict, sigma_data)


class ImageModel:
    """EMA network and what it was trained on.

    Attributes:
        name: the image set. classes: names of the labels. channels: of an image.
        denoiser: for callers with a sampler of their own; x is `[B, C, 32, 32]`, data in [-1, 1].
    """

    def __init__(
        self, net: nn.Module, name: str, classes: Sequence[str], channels: int, predict: str, sigma_data: float
    ) -> None:
        self.net = net.eval().requires_grad_(False)
        self.name, self.classes, self.channels = name, tuple(classes), channels
        self.denoiser = denoiser(self.net, predict, sigma_data)
        self.device = next(net.parameters()).device

    def sample(
        self,
        labels: Sequence[int] | np.ndarray | Tensor,
        chain: Sequence[Guidance] = (),
        steps: int = 18,
        seed: int = 0,
        *,
        sampler: str = "heun",
        networks: Mapping[str, "ImageModel"] | None = None,
        batch: int = 64,
        bf16: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Samples:
        """One image per label `[N]`, UNLABELLED for none. Row i depends on its label, the seed and i alone.

        Energies in the chain see intensities in [0, 1].

        Args:
            chain: guidance, in order.
            networks: further networks by name, for branches: weak, ...
            batch: images at a time.
            bf16: run the networks in bfloat16 (autocast).
            progress: called after each step with the number of images times steps that it did.

        Raises:
            ConfigError: no such sampler, or no label. ShapeError: a label that is no class; another image format.
            CapabilityError: the chain needs what the networks do not offer, or a label where there is none.
            DataError: an image is not finite.
        """
        if sampler not in SAMPLERS:
            raise ConfigError(f"sampler {sampler!r} is unknown; use one of {', '.join(sorted(SAMPLERS))}")
        y = torch.as_tensor(labels, dtype=torch.int64, device=self.device)
        if y.ndim != 1 or not len(y) or batch < 1:
            raise ConfigError(f"sample: {tuple(y.shape)} labels in batches of {batch}; give at least one of each")
        if int(y.min()) < UNLABELLED or int(y.max()) >= len(self.classes):
            raise ShapeError(
                f"sample: labels lie in {int(y.min())}..{int(y.max())}, expected 0..{len(self.classes) - 1}, or "
                f"{UNLABELLED} for none"
            )
        for method in chain:
            name, needs = type(method).__name__, method.requires
            if "leaf:label" in needs and int(y.min()) == UNLABELLED:
                raise CapabilityError(f"{name} asks a classifier about the label, and an image has none. Take it off")
            if "null" in needs and int(y.max()) == UNLABELLED:
                raise CapabilityError(f"{name} compares with and without the label, and no image has one. Take it off")
        for name, other in (networks or {}).items():
            if (other.channels, other.classes) != (self.channels, self.classes):
                raise ShapeError(f"network {name!r} draws {other.name}, expected {self.name}; give one of the same set")
        nets = {"main": self.denoiser, **{k: m.denoiser for k, m in (networks or {}).items()}}
        generators = sample_generators(seed, len(y), "image")
        images, nfe, traces = [], [], []
        for i in range(0, len(y), batch):
            rows, own, trace = y[i : i + batch], generators[i : i + batch], Trace()
            done, off = len(rows), rows == UNLABELLED
            label = Cond({"label": rows.clamp_min(0)}, {"label": off} if off.any() else {})
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                images.append(
                    SAMPLERS[sampler](
                        nets,
                        randn(own, (self.channels, SIZE, SIZE), device=self.device),
                        self.denoiser.path.grid(steps),
                        label,
                        chain,
                        decode=lambda x: (x + 1) / 2,
                        generators=own,
                        trace=trace,
                        callback=None if progress is None else lambda k, x, n=done: progress(n),
                    )
                )
            check_finite("sample", images[-1])
            nfe.append(trace.total_nfe())
            traces.append(trace)
        return Samples(torch.cat(images), y, torch.cat(nfe), tuple(traces))


def balanced(n: int, classes: int, only: Sequence[int] = ()) -> list[int]:
    """`n` labels that take the classes (or those of `only`) in turn."""
    chosen = list(only) or list(range(classes))
    return (chosen * math.ceil(n / len(chosen)))[:n]
