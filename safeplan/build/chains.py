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
    from safeplan.diffusion import Grid, Guidance
    from safeplan.dynamics import System


@dataclass(frozen=True)
class Place:
    """Where a chain acts: a vehicle with the observations `[rows, O]` that its samples start from, or images with a
    classifier `x0 -> logits` (made when a method asks for it).

    grid: number of steps -> noise levels of the model that draws. steps: how many it takes, where that is known.
    """

    system: "System | None" = None
    obs: Any = None
    classifier: Callable[[], Any] | None = None
    grid: "Callable[[int], Grid] | None" = None
    steps: int | None = None

    def levels(self, setting: str, steps: int | None) -> "Grid":
        """The noise levels of a run of so many steps.

        Raises:
            CapabilityError: the model that draws, or the number of steps, is not known here.
        """
        if self.grid is None or steps is None:
            raise CapabilityError(
                f"{setting} needs the noise levels of the run, which are not known here; leave it out"
            )
        return self.grid(steps)

    def clearance(self, margin: float) -> Any:
        """The energy of too small a distance (m) to obstacles."""
        from safeplan.guidance import clearance_energy

        return clearance_energy(self._vehicle("energy"), self.obs, margin)

    def gap(self, margin: float) -> Any:
        """The clearance beyond `margin` (m), as a constraint."""
        from safeplan.guidance import clearance_barrier

        return clearance_barrier(self._vehicle("barrier"), self.obs, margin)

    def to_goal(self) -> Any:
        """The squared distance (m^2) from the end of a trajectory to the goal."""
        from safeplan.guidance import goal_energy

        return goal_energy(self._vehicle("goal"), self.obs)

    def _vehicle(self, method: str) -> Any:
        """The vehicle.

        Raises:
            CapabilityError: there is none.
        """
        if self.system is None:
            raise CapabilityError(f"guidance {method} needs a vehicle among obstacles; images have none. Use cfg, ...")
        return self.system

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


def _base(**kw: Any) -> Any:
    """A CFG for methods that wrap one."""
    from safeplan.guidance import CFG

    return CFG(**kw)


def _elucd(c: Any, at: Place) -> dict[str, Any]:
    """Arguments of EluCD; its schedules follow the steps of the run."""
    from safeplan.guidance import sine_schedule, unit_schedule

    scale, kind = c.scale, c.schedule
    if kind != "constant":
        make = unit_schedule if kind == "unit" else sine_schedule
        weight = make(at.levels(f"guidance.elucd.schedule={kind}", at.steps))
        scale = lambda sigma: c.scale * weight(sigma)  # noqa: E731
    how = {"joint": c.joint, "marginal": c.marginal, "unit": kind == "unit"}
    return {"classifier": at.critic(), "scale": scale, **how}


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
    "apg": (
        "APG",
        lambda c, at: {"w": c.w, "eta": c.eta, "r": c.r, "momentum": c.momentum, "interval": _interval(c)},
    ),
    "cfgpp": ("CFGpp", lambda c, at: {"lam": c.lam}),
    "rescale": ("Rescale", lambda c, at: {"phi": c.phi}),
    "pag": ("PAG", lambda c, at: {"s": c.s, "perturb": ("pag", *c.layers), "interval": _interval(c)}),
    "autoguidance": ("AutoGuidance", lambda c, at: {"w": c.w, "interval": _interval(c)}),
    "gfcg": ("GFCG", lambda c, at: {"classifier": at.critic(), "s": c.s, "law": c.law, "net": c.net}),
    "adaptive": (
        "AdaptiveGuidance",
        lambda c, at: {"base": _base(w=c.w), "threshold": c.threshold, "per_sample": c.per_sample},
    ),
    "feedback": ("FeedbackGuidance", lambda c, at: {"pi": c.pi, "w_max": c.w_max}),
    "zero_star": ("CFGZeroStar", lambda c, at: {"w": c.w, "zero": c.zero}),
    "tcfg": ("TCFG", lambda c, at: {"w": c.w}),
    "mambo": ("MAMBO", lambda c, at: {"w": c.w, "alpha": c.alpha}),
    "fa_cfg": ("FACFG", lambda c, at: {"low": c.low, "high": c.high, "factor": c.factor}),
    "fdg": ("FDG", lambda c, at: {"scales": tuple(c.scales)}),
    "elucd": ("EluCD", _elucd),
    "barrier": (
        "Barrier",
        lambda c, at: {"h": at.gap(c.margin), "metric": c.metric, "iterations": c.iterations},
    ),
    "tube": ("ConstrictingBarrier", lambda c, at: {"h": at.gap(c.margin), "width": c.width}),
    "goal": (
        "Energy",
        lambda c, at: {
            "energy": at.to_goal(),
            "scale": c.scale,
            "metric": c.metric,
            "iterations": 2,
            "fields": "aim" if c.metric == "step" else "both",
        },
    ),
}

# CFG++ with ref_steps: a CFG with its strength on the grid of so many steps
STEP_INVARIANT: Row = (
    "step_invariant_cfgpp",
    lambda c, at: {"lam": c.lam, "grid": at.levels(f"guidance.cfgpp.ref_steps={c.ref_steps}", c.ref_steps)},
)


def _row(name: str, c: Any) -> Row:
    """What makes a method with these settings."""
    return STEP_INVARIANT if name == "cfgpp" and c.ref_steps else METHODS[name]


def chain(cfg: schema.GuidanceConfig, at: Place) -> "tuple[Guidance, ...]":
    """The methods of `cfg.chain`, in order.

    Raises:
        CapabilityError: a method cannot work at this place.
    """
    methods = importlib.import_module("safeplan.guidance") if cfg.chain else None
    settings = [(name, getattr(cfg, name)) for name in cfg.chain]
    rows = [(c, *_row(name, c)) for name, c in settings]
    return tuple(getattr(methods, maker)(**arguments(c, at)) for c, maker, arguments in rows)
