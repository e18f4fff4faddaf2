"""Training with exact resume, and loading of what was trained."""

from importlib import import_module
from pathlib import Path
from typing import Any

from safeplan.baselines.offline import TABLE
from safeplan.errors import CheckpointError
from safeplan.training.checkpoint import load_model, save_model
from safeplan.training.fisor import FisorLearner, fisor_from_log
from safeplan.training.loop import Learner, train
from safeplan.training.sources import Source, TransitionSource, WindowSource

# closed: a checkpoint cannot name anything else
KINDS = {
    "classifier": ("safeplan.training.classifier", "ClassifierLearner"),
    "fisor": ("safeplan.training.fisor", "FisorLearner"),
    "flow": ("safeplan.training.flow", "FlowLearner"),
    "image": ("safeplan.training.image", "ImageLearner"),
    "one_step": ("safeplan.training.one_step", "OneStepLearner"),
    "published_flow": ("safeplan.training.published_flow", "PublishedFlowLearner"),
    "trajectory": ("safeplan.training.trajectory", "TrajectoryLearner"),
    **TABLE,
}


def load(path: str | Path, device: str = "cpu") -> Any:
    """What was trained, ready for use, from a `.safetensors` file or a run's folder; needs no config, runs no code.

    Raises:
        CheckpointError: missing, corrupt, not ours, or of an unknown kind.
    """
    model = load_model(path)
    if model.kind not in KINDS:
        raise CheckpointError(f"checkpoint {path}: kind {model.kind!r} is unknown, expected one of {', '.join(KINDS)}")
    module, name = KINDS[model.kind]
    tensors = {k: v.to(device) for k, v in model.tensors.items()}
    return getattr(import_module(module), name).restore(tensors, model.meta)


__all__ = [
    "FisorLearner",
    "Learner",
    "Source",
    "TransitionSource",
    "WindowSource",
    "fisor_from_log",
    "load",
    "load_model",
    "save_model",
    "train",
]
