"""Image models with the companions that a guidance chain needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeplan import schema
from safeplan.build.chains import Place, chain
from safeplan.build.planners import loaded, shipped_weights
from safeplan.errors import CheckpointError

if TYPE_CHECKING:
    from safeplan.diffusion import Guidance
    from safeplan.imaging import Classifier, ImageModel


@dataclass(frozen=True)
class Artist:
    """What drawing needs: the model, further networks by name, and the chain."""

    model: "ImageModel"
    networks: "dict[str, ImageModel]"
    chain: "tuple[Guidance, ...]"


def artist(
    cfg: schema.ModelConfig, guidance: schema.GuidanceConfig, device: str = "cpu", *, steps: int | None = None
) -> Artist:
    """The image model of a setting with its chain; a weak net and a classifier are read only when the chain asks.

    steps: how many a sample will take, for methods that follow them (elucd's schedules).

    Raises:
        CheckpointError: weights are missing, corrupt, or of something else.
        CapabilityError: a method is not for images, or follows the steps and they are not given.
    """
    model = image_model(cfg, "weights", device)

    def critic() -> Any:
        net = classifier(cfg, device)
        return lambda x: net(2.0 * x - 1.0)  # methods see intensities in [0, 1], the classifier was trained in [-1, 1]

    methods = chain(guidance, Place(classifier=critic, grid=model.denoiser.path.grid, steps=steps))
    weak = any("net:weak" in m.requires for m in methods)
    return Artist(model, {"weak": image_model(cfg, "weak", device)} if weak else {}, methods)


def image_model(cfg: schema.ModelConfig, role: str = "weights", device: str = "cpu") -> "ImageModel":
    """The model, or its weak companion (`role` weak).

    Raises:
        CheckpointError: missing, corrupt, or no image model of this set.
    """
    from safeplan.imaging import ImageModel

    path = _path(cfg, role, "image" if role == "weights" else "weak", "policy=image")
    model = loaded(str(path), device)
    if not isinstance(model, ImageModel):
        raise CheckpointError(f"model.{role}={path}: holds a {type(model).__name__}, expected an image model")
    if model.name != cfg.kind:
        raise CheckpointError(f"model.{role}={path}: draws {model.name}, expected {cfg.kind}. Use model={model.name}")
    return model


def classifier(cfg: schema.ModelConfig, device: str = "cpu") -> "Classifier":
    """The classifier that guidance may use.

    Raises:
        CheckpointError: missing, corrupt, or no classifier.
    """
    from safeplan.imaging import Classifier

    path = _path(cfg, "classifier", "classifier", "policy=classifier")
    net = loaded(str(path), device)
    if not isinstance(net, Classifier):
        raise CheckpointError(f"model.classifier={path}: holds a {type(net).__name__}, expected a classifier")
    return net


def _path(cfg: schema.ModelConfig, role: str, file: str, policy: str) -> Path:
    given = getattr(cfg, role)
    path = shipped_weights(cfg.kind, file) if given == "auto" else Path(given)
    if given == "auto" and not path.is_file():
        raise CheckpointError(
            f"no {file} comes with model={cfg.kind} ({path}). Train one (safeplan train {policy} data={cfg.kind}) and "
            f"give model.{role}=RUN_FOLDER"
        )
    return path
