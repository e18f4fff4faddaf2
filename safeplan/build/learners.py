"""What is trained, and the logs or images that it learns from."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from safeplan import schema
from safeplan.build.settings import freeze
from safeplan.build.tasks import SYSTEMS, device, digest, system_of
from safeplan.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from safeplan.data import Log
    from safeplan.feasibility import FisorPolicy
    from safeplan.imaging import ImageSet
    from safeplan.training import Learner, Source


def log(cfg: schema.DataConfig) -> "Log":
    """The log that a data setting names; generated ones are generated on first use, those of DSRL downloaded."""
    from safeplan.data import load_log
    from safeplan.data.dsrl_files import load_task
    from safeplan.evaluation.point_robot import write_point_robot

    if cfg.kind == "file":
        path = cfg.path or ""
        if Path(path).suffix.lower() not in (".hdf5", ".h5"):
            raise ConfigError(
                f"data.path={path}: give a file that ends in .hdf5 or .h5; `safeplan data import` makes one of others"
            )
        return load_log(path)
    if cfg.kind == "dsrl":
        return load_task(cfg.task or "")
    return load_log(cfg.kind, seed=cfg.seed, makers={"point_robot": write_point_robot})


def image_set(cfg: schema.DataConfig, split: str = "train") -> "ImageSet":
    """One split of the image set that a data setting names; downloaded when it is nowhere."""
    from safeplan.imaging import load_images

    return load_images(cfg.kind, split, cfg.path)


def teacher(path: str, device: str = "cpu") -> tuple["FisorPolicy", str]:
    """The trained FISOR in a file or in the folder of a run, and the SHA-256 of its file.

    Raises:
        CheckpointError: missing, corrupt, or of another kind.
    """
    from safeplan.training import FisorLearner, load_model
    from safeplan.training.checkpoint import model_file

    file = model_file(path)
    model = load_model(file)
    if model.kind != "fisor":
        raise CheckpointError(
            f"policy.teacher={path}: holds a model of kind {model.kind!r}, expected 'fisor'. "
            "Train one: safeplan train policy=fisor"
        )
    return FisorLearner.restore({k: v.to(device) for k, v in model.tensors.items()}, model.meta), digest(file)


def learner(cfg: schema.TrainConfig) -> tuple["Learner", "Source"]:
    """What is trained, and where its batches come from."""
    from safeplan.baselines.offline import make as make_rival
    from safeplan.feasibility.one_step import OneStepConfig
    from safeplan.training import fisor_from_log
    from safeplan.training.classifier import classifier_from_set
    from safeplan.training.image import image_from_set
    from safeplan.training.one_step import one_step_from_log
    from safeplan.training.trajectory import trajectory_from_log

    where, settings = device(cfg.device), freeze(cfg.policy)
    pictures = cfg.policy.kind in ("image", "classifier")
    if pictures != (cfg.data.kind in schema.IMAGES):
        fits = schema.IMAGES if pictures else tuple(d for d in schema.DATA if d not in schema.IMAGES)
        raise ConfigError(f"policy={cfg.policy.kind} cannot learn from data={cfg.data.kind}; use data={'|'.join(fits)}")
    if pictures:
        make = image_from_set if cfg.policy.kind == "image" else classifier_from_set
        return make(image_set(cfg.data), settings, seed=cfg.seed, device=where)
    if cfg.policy.kind == "fisor":
        return fisor_from_log(log(cfg.data), settings, seed=cfg.seed, device=where)
    if cfg.policy.kind == "one_step":
        values = asdict(settings)
        agent, sha256 = teacher(values.pop("teacher"), where)
        return one_step_from_log(log(cfg.data), agent, OneStepConfig(**values), seed=cfg.seed, origin=sha256)
    if cfg.policy.kind in schema.RIVALS:
        values = asdict(settings)
        limit = values.pop("limit", math.inf)  # the others are given one when they act
        return make_rival(cfg.policy.kind, log(cfg.data), limit, cfg.seed, where, **values)
    if cfg.data.system not in SYSTEMS:
        raise ConfigError(
            f"policy=trajectory needs to know the vehicle of the log: data.system=... (one of {', '.join(SYSTEMS)})"
        )
    system = system_of({"env": cfg.data.system})
    return trajectory_from_log(log(cfg.data), system, settings, seed=cfg.seed, device=where)
