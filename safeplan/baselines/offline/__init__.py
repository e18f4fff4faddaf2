"""Rivals of FISOR on logs with costs: compact, all trained and asked to act in the same way.

BC knows no limit; BC-Safe, BCQ-Lag, CPQ and COptiDICE are trained for one; CDT and the trajectory diffusion take any
when they act. Nothing heavy is imported until a method is asked for.
"""

from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from safeplan.errors import ConfigError
from safeplan.schema import did_you_mean

if TYPE_CHECKING:
    from safeplan.baselines.offline.rival import Rival
    from safeplan.batches import TransitionSource, WindowSource
    from safeplan.data import Log

# closed: name, which is also the kind of its checkpoints, -> module and class
TABLE = {
    "bc": ("safeplan.baselines.offline.bc", "Bc"),
    "bc_safe": ("safeplan.baselines.offline.bc", "BcSafe"),
    "bcq_lag": ("safeplan.baselines.offline.bcq_lag", "BcqLag"),
    "cpq": ("safeplan.baselines.offline.cpq", "Cpq"),
    "coptidice": ("safeplan.baselines.offline.coptidice", "Coptidice"),
    "cdt": ("safeplan.baselines.offline.cdt", "Cdt"),
    "trebi": ("safeplan.baselines.offline.trebi", "Trebi"),
}
RIVALS = tuple(TABLE)


def make(
    name: str, log: "Log", limit: float, seed: int = 0, device: str = "cpu", **settings: Any
) -> "tuple[Rival, TransitionSource | WindowSource]":
    """Learner and source for `train`.

    Args:
        limit: on an episode's cost; inf for none. Methods that take any limit when they act do not look at it here.
        settings: what is to differ from the method's defaults.

    Raises:
        ConfigError: an unknown method or setting, or a setting out of range.
        DataError: faults of the log, or nothing in it that the method can learn from.
    """
    if name not in TABLE:
        known = ", ".join(RIVALS)
        raise ConfigError(f"rival {name!r} is unknown.{did_you_mean(name, RIVALS)} Choose one of: {known}")
    module, cls = TABLE[name]
    method = getattr(import_module(module), cls)
    known = [f.name for f in fields(method.Settings)]
    for key in settings:
        if key not in known:
            raise ConfigError(f"{name}.{key} is unknown.{did_you_mean(key, known)} Known: {', '.join(known)}")
    return method.from_log(log, limit, method.Settings(**settings), seed=seed, device=device)


__all__ = ["RIVALS", "TABLE", "make"]
