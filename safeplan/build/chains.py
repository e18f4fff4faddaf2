"""Guidance chains from settings: one table for every command that draws samples.

A line names the class in `safeplan.guidance` and how its arguments come from the settings and the place; nothing is
imported before a chain asks for it.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safeplan import schema
from safeplan.errors import CapabilityError

if TYPE_CHECKING:
    from safeplan.diffusion import Guidance
    from safeplan.dynamics import System


@dataclass(frozen=True)
class Place:
    """Where a chain acts: a vehicle with the observations `[rows, O]` that its samples start from, or images with their
    labels `[rows]` and a classifier `x0 -> logits` (made when a method asks for it)."""

    system: "System | None" = None
    obs: Any = None
    labels: Any = None
    classifier: Callable[[], Any] | None = None

    def clearance(self, margin: float) -> Any:
        """The energy of too small a distance (m) to obstacles.

        Raises:
            CapabilityError: there is no vehicle.
        """
        if self.system is None:
            raise CapabilityError("guidance energy needs a vehicle among obstacles; images have none. Use cfg, ...")
        from safeplan.guidance import clearance_energy

        return clearance_energy(self.system, self.obs, margin)

    def critic(self) -> Any:
        """The classifier.

        Raises:
            CapabilityError: there is none.
        """
        if self.classifier is None:
            raise CapabilityError("this guidance needs an image classifier; plans have none. Take it off the chain")
        return self.classifier()


Row = tuple[str, Callable[[Any, Place], dict[str, Any]]]


def _interval(c: Any) -> tuple[float, float]:
    return c.sigma_min, c.sigma_max


# method -> (class in safeplan.guidance, arguments from its settings `c` and the place `at`)
METHODS: dict[str, Row] = {
    "cfg": ("CFG", lambda c, at: {"w": c.w, "interval": _interval(c)}),
    "energy": (
        "Energy",
        lambda c, at: {
            "energy": at.clearance(c.margin),
            "scale": c.scale,
            "metric": c.metric,
            "interval": _interval(c),
        },
    ),
}


def chain(cfg: schema.GuidanceConfig, at: Place) -> "tuple[Guidance, ...]":
    """The methods of `cfg.chain`, in order.

    Raises:
        CapabilityError: a method cannot work at this place.
    """
    methods = importlib.import_module("safeplan.guidance") if cfg.chain else None
    rows = [(name, *METHODS[name]) for name in cfg.chain]
    return tuple(getattr(methods, cls)(**arguments(getattr(cfg, name), at)) for name, cls, arguments in rows)
