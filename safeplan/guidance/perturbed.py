"""Guidance away from a perturbed copy of the same network: PAG and its siblings."""

from dataclasses import dataclass
from typing import Any, ClassVar

from safeplan.diffusion.guidance import COND, Branch, Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.errors import ConfigError
from safeplan.guidance.papers import PAG_PAPER, SEG_PAPER, SLG_PAPER, SWG_PAPER, TPG_PAPER, TSG_PAPER
from safeplan.guidance.scale import ALWAYS, Interval, Scale, check_interval, check_scale, equals, gain, scale_at


@dataclass(frozen=True, eq=False)
class Perturbed(Guidance):
    """x0 + s (c - p), p the same network with the same condition under `perturb`; s = 0 is off.

    `perturb` is a name and its settings, such as ("pag", 3, 5): the network reads it with a mask of rows, so that the
    perturbed rows ride in the same forward. Needs a network with that name in its `perturbations`.
    """

    s: Scale = 3.0
    perturb: tuple = ()
    interval: Interval = ALWAYS

    def __post_init__(self) -> None:
        check_scale(type(self).__name__, s=self.s)
        check_interval(self.interval)
        if not self.perturb or not isinstance(self.perturb[0], str):
            raise ConfigError(f"perturbed: perturb = {self.perturb!r}; give a name with settings, such as ('pag', 0)")

    @property
    def branch(self) -> Branch:
        return Branch(perturb=self.perturb)

    @property
    def requires(self) -> frozenset[str]:
        return frozenset() if isinstance(self.s, (int, float)) and self.s == 0 else self.branch.requires

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        off = equals(scale_at(self.s, ctx.sigma), 0) or not in_interval(ctx.sigma, self.interval)
        return () if off else (self.branch,)

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if not self.needs(ctx, state):
            return guided, state
        d = predictions.x0(COND) - predictions.x0(self.branch)
        return guided.shift(gain(scale_at(self.s, ctx.sigma), d) * d), state


@dataclass(frozen=True, eq=False)
class PAG(Perturbed):
    """Perturbed-attention guidance: ("pag", *layers), self-attention maps become the identity (output V)."""

    perturb: tuple = ("pag",)
    paper: ClassVar[Paper | None] = PAG_PAPER
    equation: ClassVar[str] = "identity attention maps"


@dataclass(frozen=True, eq=False)
class SEG(Perturbed):
    """Smoothed energy guidance: ("seg", sigma, *layers), queries are blurred along the tokens."""

    perturb: tuple = ("seg", 10.0)
    paper: ClassVar[Paper | None] = SEG_PAPER
    equation: ClassVar[str] = "query blurring"


@dataclass(frozen=True, eq=False)
class SLG(Perturbed):
    """Skip-layer guidance: ("slg", *layers), the named blocks are left out."""

    perturb: tuple = ("slg",)
    paper: ClassVar[Paper | None] = SLG_PAPER
    equation: ClassVar[str] = "layer skipping"


@dataclass(frozen=True, eq=False)
class TPG(Perturbed):
    """Token perturbation guidance: ("tpg", *layers), the named blocks see their tokens in another order.

    The paper shuffles; `TemporalTransformer` reverses them, the same way at every step, which needs no generator.
    """

    perturb: tuple = ("tpg",)
    paper: ClassVar[Paper | None] = TPG_PAPER
    equation: ClassVar[str] = "perturbed order of tokens"


@dataclass(frozen=True, eq=False)
class SWG(Perturbed):
    """Sliding-window guidance: ("swg", width, *layers), attention sees a window of tokens only."""

    perturb: tuple = ("swg", 4)
    paper: ClassVar[Paper | None] = SWG_PAPER
    equation: ClassVar[str] = "sliding windows, as a mask of attention"


@dataclass(frozen=True, eq=False)
class TSG(Perturbed):
    """Time-step guidance: ("time", shift), the network's time features are moved by `shift`."""

    perturb: tuple = ("time", 0.1)
    paper: ClassVar[Paper | None] = TSG_PAPER
    equation: ClassVar[str] = "perturbed time features"
