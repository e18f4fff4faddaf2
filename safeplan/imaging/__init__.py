"""Class-conditional image diffusion, served by the same guidance as trajectories. Needs `safeplan[image]`."""

from safeplan.imaging.backbone import LabelUNet
from safeplan.imaging.classifier import Classifier
from safeplan.imaging.config import ClassifierConfig, ImageConfig
from safeplan.imaging.datasets import SETS, ImageSet, load_images, to_bytes, to_unit
from safeplan.imaging.model import UNLABELLED, ImageModel, Samples, balanced

__all__ = [
    "SETS",
    "UNLABELLED",
    "Classifier",
    "ClassifierConfig",
    "ImageConfig",
    "ImageModel",
    "ImageSet",
    "LabelUNet",
    "Samples",
    "balanced",
    "load_images",
    "to_bytes",
    "to_unit",
]
