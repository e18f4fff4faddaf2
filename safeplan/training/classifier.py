"""The image classifier as a learner of the training loop."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from safeplan.errors import CheckpointError, ConfigError
from safeplan.imaging.classifier import Classifier
from safeplan.imaging.config import ClassifierConfig
from safeplan.imaging.datasets import ImageSet, to_unit
from safeplan.training.ema_learner import learning_rate
from safeplan.training.image import facts_of, source_of
from safeplan.training.net_learner import NetLearner
from safeplan.training.sources import TransitionSource


class ClassifierLearner(NetLearner):
    """Network and optimiser, behind the `Learner` protocol; `facts` as in `ImageLearner`."""

    kind = "classifier"

    def __init__(
        self,
        facts: Mapping[str, Any],
        config: ClassifierConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings = config or ClassifierConfig()
        self.config: dict[str, Any] = {"classifier": asdict(self.settings), "set": dict(facts)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = Classifier(facts["channels"], len(facts["classes"]), self.settings).to(device)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay, fused=True
        )

    def update(self, batch: dict[str, Tensor], generator: torch.Generator) -> Mapping[str, Tensor]:
        """One step of cross-entropy. Batch: images `[B, C, 32, 32]` uint8, labels `[B]`."""
        logits = self.net(to_unit(batch["images"]))
        loss = torch.nn.functional.cross_entropy(logits, batch["labels"])
        self.step(loss, learning_rate(self.settings, self.updates))
        return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == batch["labels"]).float().mean()}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Classifier:
        """The classifier on the tensors' device, ready for use."""
        try:
            facts = meta["set"]
            net = Classifier(facts["channels"], len(facts["classes"]), ClassifierConfig(**meta["classifier"]))
            net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items()})
        except (KeyError, TypeError, RuntimeError, ConfigError) as e:
            raise CheckpointError(f"checkpoint does not fit this version's classifier ({e}). Train again") from e
        return net.to(next(iter(tensors.values())).device).eval().requires_grad_(False)


def classifier_from_set(
    images: ImageSet, config: ClassifierConfig | None = None, *, seed: int = 0, device: str | torch.device = "cpu"
) -> tuple[ClassifierLearner, TransitionSource]:
    """Learner and source for `train`."""
    learner = ClassifierLearner(facts_of(images), config, seed=seed, device=device)
    return learner, source_of(images, learner.settings.batch, device)
