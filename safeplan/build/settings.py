"""The schemas as Hydra sees them: thawed twins of the frozen settings classes that live beside what they set."""

import dataclasses
import importlib
from functools import cache
from typing import Any, get_type_hints

from safeplan import schema

COMMANDS = {
    "plan": schema.PlanConfig,
    "train": schema.TrainConfig,
    "evaluate": schema.EvaluateConfig,
    "sample": schema.SampleConfig,
    "density": schema.DensityConfig,
    "verify": schema.VerifyConfig,
    "info": schema.InfoConfig,
    "data_check": schema.DataCheckConfig,
    "data_estimate": schema.DataEstimateConfig,
    "data_import": schema.DataImportConfig,
}
# settings that live beside their classes: name in the schema group -> module and class
SETTINGS = {
    "planner": ("safeplan.planning.config", "PlannerConfig"),
    "fisor": ("safeplan.feasibility.config", "FisorConfig"),
    "one_step": ("safeplan.feasibility.one_step", "OneStepConfig"),
    "trajectory": ("safeplan.training.trajectory", "TrajectoryConfig"),
    "image": ("safeplan.imaging.config", "ImageConfig"),
    "classifier": ("safeplan.imaging.config", "ClassifierConfig"),
    "bc": ("safeplan.baselines.offline.bc", "BcConfig"),
    "bc_safe": ("safeplan.baselines.offline.bc", "BcConfig"),
    "bcq_lag": ("safeplan.baselines.offline.bcq_lag", "BcqLagConfig"),
    "cpq": ("safeplan.baselines.offline.cpq", "CpqConfig"),
    "coptidice": ("safeplan.baselines.offline.coptidice", "CoptidiceConfig"),
    "cdt": ("safeplan.baselines.offline.cdt", "CdtConfig"),
    "trebi": ("safeplan.baselines.offline.trebi", "TrebiConfig"),
}
# what the command line must know beyond them
EXTRAS: dict[str, type] = {
    "one_step": schema.TeacherConfig,
    **dict.fromkeys(schema.LIMITED, schema.LimitConfig),
}
NEEDS = {"plan": ("planner",), "train": schema.POLICIES, "evaluate": ("planner",)}  # command -> SETTINGS


def thaw(cls: type, **fixed: Any) -> type:
    """A mutable twin of a frozen settings class, for OmegaConf; `fixed` adds fields with one value, such as `kind`.

    Its `__post_init__` builds the frozen original, so that bad values are refused when the settings are read.
    """
    hints = get_type_hints(cls)
    fields: list[Any] = [(k, type(v), dataclasses.field(default=v)) for k, v in fixed.items()]
    for f in dataclasses.fields(cls):
        given = {k: v for k in ("default", "default_factory") if (v := getattr(f, k)) is not dataclasses.MISSING}
        fields.append((f.name, hints[f.name], dataclasses.field(**given)))

    def check(self: Any) -> None:
        freeze(self)

    return dataclasses.make_dataclass(cls.__name__, fields, namespace={"__post_init__": check, "origin": cls})


def freeze(twin: Any) -> Any:
    """The frozen settings that a thawed twin stands for."""
    cls = type(twin).origin
    return cls(**{f.name: getattr(twin, f.name) for f in dataclasses.fields(cls)})


@cache
def settings_class(name: str) -> type:
    """The frozen settings class behind a name of SETTINGS, with the fields and checks that EXTRAS adds."""
    module, cls = SETTINGS[name]
    own, extra = getattr(importlib.import_module(module), cls), EXTRAS.get(name)
    if extra is None:
        return own

    def check(self: Any) -> None:
        for part in (own, extra):
            part.__post_init__(self)

    namespace = {"__doc__": own.__doc__, "__post_init__": check}
    return dataclasses.make_dataclass(own.__name__, [], bases=(own, extra), namespace=namespace, frozen=True)


def register(command: str) -> None:
    """Tell Hydra the schemas that a command needs: `schema/<command>` and `schema/<settings>`."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name=command, node=COMMANDS[command])
    for name in NEEDS.get(command, ()):
        fixed = {"kind": name} if name in schema.POLICIES else {}
        store.store(group="schema", name=name, node=thaw(settings_class(name), **fixed))
