"""Best of N: draw several samples per condition and keep the one that a score likes best."""

from torch import Tensor

from safeplan.diffusion.cond import Cond, Pin, as_cond
from safeplan.errors import ShapeError


def repeat(cond: object, n: int) -> Cond:
    """The condition with every row `n` times in a row, `[B n, ...]`."""
    c = as_cond(cond)
    pin = c.pin
    if pin is not None:
        value = pin.value.repeat_interleave(n, 0)
        pin = Pin(pin.mask.expand_as(pin.value).repeat_interleave(n, 0), value)
    rows = {k: v.repeat_interleave(n, 0) for k, v in c.leaves.items()}
    return Cond(rows, {k: v.repeat_interleave(n, 0) for k, v in c.null.items()}, pin)


def best_of(samples: Tensor, scores: Tensor, n: int) -> Tensor:
    """Of `samples [B n, ...]` the one with the highest of `scores [B n]` in each group of `n`, `[B, ...]`; ties: first.

    A non-finite score never wins against a finite one.

    Raises:
        ShapeError: the rows are no multiple of n, or scores have another number of rows.
    """
    if n < 1 or len(samples) % n or scores.shape != (len(samples),):
        raise ShapeError(
            f"best_of: {len(samples)} samples and scores {tuple(scores.shape)} for n = {n}; give [B n, ...] and [B n]"
        )
    groups = scores.nan_to_num(-float("inf"), posinf=-float("inf")).reshape(-1, n)
    pick = groups.argmax(1)
    return samples.reshape(-1, n, *samples.shape[1:])[range(len(pick)), pick]
