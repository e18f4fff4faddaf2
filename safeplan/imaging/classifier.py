"""A small image classifier: judge of samples, source of features for the Frechet distance, or critic for guidance."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from safeplan.errors import ShapeError
from safeplan.imaging.config import ClassifierConfig
from safeplan.imaging.datasets import to_unit


class Classifier(nn.Module):
    """`x [B, C, 32, 32]` in [-1, 1] -> logits `[B, classes]`; three strided convolutions and a mean over place."""

    def __init__(self, channels: int, classes: int, config: ClassifierConfig | None = None) -> None:
        super().__init__()
        c = config or ClassifierConfig()
        self.channels, self.classes = channels, classes
        sizes, layers = [channels, c.width, 2 * c.width, 4 * c.width], []
        for a, b in pairwise(sizes):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(sizes[-1], sizes[-1], 3, padding=1), nn.SiLU())
        self.head = nn.Linear(sizes[-1], classes)

    def features(self, x: Tensor) -> Tensor:
        """`[B, 4 width]`, what the last layer sees.

        Raises:
            ShapeError: x has other channels.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ShapeError(f"classifier: x is {tuple(x.shape)}, expected [B, {self.channels}, H, W]")
        return self.body(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    @torch.no_grad()
    def apply_to(self, images: Tensor, batch: int = 256) -> tuple[Tensor, Tensor]:
        """Features `[N, 4 width]` and probabilities `[N, classes]` of uint8 images or of x in [-1, 1]; on the CPU."""
        device, feats, probs = self.head.weight.device, [], []
        for part in images.split(batch):
            part = part.to(device)
            f = self.features(to_unit(part) if part.dtype == torch.uint8 else part)
            feats.append(f.cpu())
            probs.append(self.head(f).softmax(1).cpu())
        return torch.cat(feats), torch.cat(probs)
