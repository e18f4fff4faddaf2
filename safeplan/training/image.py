"""Class-conditional image diffusion as a learner of the training loop, with label dropout [cfg]."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from safeplan.diffusion import denoising_loss
from safeplan.errors import CheckpointError, ConfigError
from safeplan.imaging.backbone import LabelUNet
from safeplan.imaging.config import ImageConfig
from safeplan.imaging.datasets import ImageSet, to_unit
from safeplan.imaging.model import ImageModel, denoiser
from safeplan.training.ema_learner import EmaLearner, learning_rate
from safeplan.training.sources import TransitionSource


class ImageLearner(EmaLearner):
    """Network, its EMA and optimiser, behind the `Learner` protocol.

    Args:
        facts: what `facts_of` says of the image set: name, classes, channels, sigma_data.
    """

    kind = "image"

    def __init__(
        self,
        facts: Mapping[str, Any],
        config: ImageConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings, self.device = config or ImageConfig(), torch.device(device)
        self.config: dict[str, Any] = {"image": asdict(self.settings), "set": dict(facts)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = LabelUNet(facts["channels"], len(facts["classes"]), self.settings).to(self.device)
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.denoiser = denoiser(self.net, self.settings.predict, facts["sigma_data"])
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay, fused=True
        )
        self.updates = 0

    def update(self, batch: dict[str, Tensor], generator: torch.Generator) -> Mapping[str, Tensor]:
        """One step. Batch: images `[B, C, 32, 32]` uint8, labels `[B]`."""
        c = self.settings
        x0, cond = to_unit(batch["images"]), {"label": batch["labels"]}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=c.bf16):
            loss = denoising_loss(self.denoiser, x0, cond, None, generator, drop=c.drop)
        return self.descend(loss, c, learning_rate(c, self.updates))

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {f"net.{k}": v for k, v in self.ema.state_dict().items()}, self.config

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], meta: dict[str, Any]) -> ImageModel:
        """The model on the tensors' device, ready to sample; weights stored in half precision become float32."""
        try:
            settings, facts = ImageConfig(**meta["image"]), meta["set"]
            net = LabelUNet(facts["channels"], len(facts["classes"]), settings)
            net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items()})
            net.to(next(iter(tensors.values())).device)
            return ImageModel(
                net, facts["name"], facts["classes"], facts["channels"], settings.predict, facts["sigma_data"]
            )
        except (KeyError, TypeError, RuntimeError, StopIteration, ConfigError) as e:
            raise CheckpointError(f"checkpoint does not fit this version's image model ({e}). Train again") from e


def facts_of(images: ImageSet) -> dict[str, Any]:
    """Name, classes, channels and standard deviation of an image set, JSON."""
    spread = float(to_unit(torch.from_numpy(images.images[:10_000])).std())
    return {
        "name": images.name,
        "classes": list(images.classes),
        "channels": images.images.shape[1],
        "sigma_data": round(spread, 3),
    }


def source_of(images: ImageSet, batch: int, device: str | torch.device = "cpu") -> TransitionSource:
    """Batches of uint8 images and labels."""
    return TransitionSource({"images": images.images, "labels": images.labels}, batch, images.digest(), device)


def image_from_set(
    images: ImageSet, config: ImageConfig | None = None, *, seed: int = 0, device: str | torch.device = "cpu"
) -> tuple[ImageLearner, TransitionSource]:
    """Learner and source for `train`."""
    learner = ImageLearner(facts_of(images), config, seed=seed, device=device)
    return learner, source_of(images, learner.settings.batch, device)
