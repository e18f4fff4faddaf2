"""Gradient-free classifier guidance: away from the class that a classifier confuses the sample with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from safeplan.diffusion.cond import Cond
from safeplan.diffusion.guidance import COND, Branch, Context, Guidance, Guided, Paper, Predictions, in_interval
from safeplan.errors import ConfigError
from safeplan.guidance.papers import GFCG_PAPER
from safeplan.guidance.scale import ALWAYS, Interval, Scale, check_interval, check_scale, equals, gain, scale_at

LAWS = ("doubt", "rival")


def confusion(p: Tensor, label: Tensor, law: str = "doubt") -> tuple[Tensor, Tensor]:
    """How unsure a classifier is, in [0, 1] `[B]`, and the class it is most likely to confuse, `[B]` (ties: lowest).

    p: probabilities `[B, K]`; label `[B]`. Laws: "doubt" 1 - p_y, "rival" p_r / (p_r + p_y).
    The paper's own law is not public: these are reconstructions. Under "doubt", two classes and the exact noisy
    posterior, guidance of strength s is CFG of scale 1 + s.
    """
    own = p.gather(1, label[:, None])[:, 0]
    other = p.scatter(1, label[:, None], -1.0)
    rival, r = other.max(1)
    if law == "doubt":
        return 1 - own, r
    return torch.where(rival + own > 0, rival / (rival + own).clamp_min(1e-30), torch.zeros_like(own)), r


@dataclass(frozen=True, eq=False)
class GFCG(Guidance):
    """x0 + s g (c - D(r)): r the class that `classifier` confuses the sample with, g how much (`confusion`).

    One late evaluation (it depends on c) and one classifier forward a step, no gradient.

    Args:
        classifier: clean estimates, in physical units, `[B, ...]` -> logits `[B, K]`.
        s: strength; 0 is off. law: see `confusion`.
        net: "main", or "weak" to ask a weak network with r: with autoguidance at no further cost.
        label: name of the condition's leaf that holds the class, int `[B]`.
    """

    classifier: Callable[[Tensor], Tensor]
    s: Scale = 1.0
    law: str = "doubt"
    net: str = "main"
    label: str = "label"
    interval: Interval = ALWAYS

    paper: ClassVar[Paper | None] = GFCG_PAPER
    equation: ClassVar[str] = "scale law reconstructed"

    def __post_init__(self) -> None:
        check_interval(self.interval)
        check_scale("GFCG", s=self.s)
        if self.law not in LAWS:
            raise ConfigError(f"gfcg: law {self.law!r}; use one of {', '.join(LAWS)}")

    @property
    def requires(self) -> frozenset[str]:
        if equals(self.s, 0):
            return frozenset()
        need = {f"leaf:{self.label}"}
        return frozenset(need | ({f"net:{self.net}"} if self.net != "main" else set()))

    def judge(self, predictions: Predictions, ctx: Context) -> tuple[Tensor, Tensor]:
        """`confusion` of the conditional prediction, worked out once a step."""

        def ask() -> tuple[Tensor, Tensor]:
            p = self.classifier(ctx.physical(predictions.x0(COND))).softmax(1)
            return confusion(p, ctx.conds["cond"].leaves[self.label], self.law)

        return predictions.once(self, ask)

    def rival(self, predictions: Predictions, ctx: Context) -> Cond:
        """The condition with the confused class in place of the wanted one."""
        cond = ctx.conds["cond"]
        return cond._replace(leaves={**cond.leaves, self.label: self.judge(predictions, ctx)[1]})

    @property
    def branch(self) -> Branch:
        return Branch(self.rival, net=self.net)

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        off = equals(scale_at(self.s, ctx.sigma), 0) or not in_interval(ctx.sigma, self.interval)
        return () if off else (self.branch,)

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        if not self.needs(ctx, state):
            return guided, state
        d = predictions.x0(COND) - predictions.x0(self.branch)
        doubt = self.judge(predictions, ctx)[0]
        return guided.shift(gain(scale_at(self.s, ctx.sigma), d) * gain(doubt, d) * d), state
