"""Guidance by a weaker version of the network, and by a condition that has nothing to do with the sample."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from safeplan.diffusion.cond import Cond, as_cond
from safeplan.diffusion.guidance import Branch, Context, Paper, Predictions
from safeplan.errors import ShapeError
from safeplan.guidance.cfg import CFG
from safeplan.guidance.papers import AUTOGUIDANCE, TSG_PAPER


def other_rows(predictions: Predictions, ctx: Context) -> Cond:
    """The condition of another row of the batch, another one at every step; the pin stays.

    Raises:
        ShapeError: fewer than two rows.
    """
    return _rolled(ctx.conds["cond"], lambda rows: 1 + ctx.step % (rows - 1))


WEAK, INDEPENDENT, SHUFFLED = Branch(net="weak"), Branch("independent"), Branch(other_rows)


@dataclass(frozen=True, eq=False)
class AutoGuidance(CFG):
    """x0 + (w - 1)(c - k), k the network "weak" of the run under the *same* condition; needs no null training."""

    reference: Branch = WEAK
    paper: ClassVar[Paper | None] = AUTOGUIDANCE
    equation: ClassVar[str] = "extrapolation away from the weak network"


@dataclass(frozen=True, eq=False)
class ICG(CFG):
    """Independent condition guidance: the run's condition "independent" (random or shuffled) stands for the null one.

    For networks that were never trained without their condition. `shuffled` makes such a condition;
    `ICG(w, SHUFFLED)` takes that of another row, another one at every step, as the paper does, in a late branch.
    """

    reference: Branch = INDEPENDENT
    paper: ClassVar[Paper | None] = TSG_PAPER
    equation: ClassVar[str] = "a condition independent of the sample in place of none"


def shuffled(cond: Any, generator: torch.Generator | None = None) -> Cond:
    """The condition with every row replaced by that of another sample (a random cyclic shift); the pin stays.

    Raises:
        ShapeError: fewer than two rows: there is no other sample.
    """
    return _rolled(as_cond(cond), lambda rows: int(torch.randint(1, rows, (), generator=generator)))


def _rolled(cond: Cond, shift: Callable[[int], int]) -> Cond:
    rows = len(next(iter(cond.leaves.values()), ()))
    if rows < 2:
        raise ShapeError(f"shuffled: {rows} rows; with fewer than 2 give an independent condition of your own")
    k = shift(rows)
    leaves, null = ({n: v.roll(k, 0) for n, v in part.items()} for part in (cond.leaves, cond.null))
    return Cond(leaves, null, cond.pin)
