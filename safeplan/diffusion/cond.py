"""Conditions: named `[B, ...]` tensors, which of them are off in which rows, and the entries that are pinned."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeplan.errors import ShapeError


class Pin(NamedTuple):
    """Entries that the model was trained to receive clean: `mask` (bool, broadcasts to x), `value [B, ...]`."""

    mask: Tensor
    value: Tensor

    def write(self, x: Tensor) -> Tensor:
        """`x` with the pinned entries set."""
        return torch.where(self.mask, self.value.to(x.dtype), x)


class Cond(NamedTuple):
    """What a network is told beside x and time.

    leaves: name -> `[B, ...]`. null: name -> bool `[B]`, true where that leaf is switched off; a missing name is on
    everywhere. What "off" means is the network's: a learned vector where `net.learned_null` is true, else zeros.
    """

    leaves: Mapping[str, Tensor] = {}
    null: Mapping[str, Tensor] = {}
    pin: Pin | None = None

    def drop(self, rows: Tensor | None = None, names: Sequence[str] | None = None) -> "Cond":
        """The same condition with leaves `names` (all) switched off in `rows` (bool `[B]`; all)."""
        off = dict(self.null)
        for k in self.leaves if names is None else names:
            if k not in self.leaves:
                raise ShapeError(f"cond.drop: no leaf {k!r}; there are {sorted(self.leaves)}")
            leaf = self.leaves[k]
            mask = torch.ones(len(leaf), dtype=torch.bool, device=leaf.device) if rows is None else rows
            off[k] = off[k] | mask if k in off else mask
        return Cond(self.leaves, off, self.pin)

    def take(self, rows: Tensor | slice) -> "Cond":
        """The rows `rows`: indices `[R]`, or a slice of neighbours, which copies nothing."""
        pin = self.pin
        if pin is not None:
            mask = pin.mask[rows] if pin.mask.ndim == pin.value.ndim and len(pin.mask) == len(pin.value) else pin.mask
            pin = Pin(mask, pin.value[rows])
        return Cond({k: v[rows] for k, v in self.leaves.items()}, {k: v[rows] for k, v in self.null.items()}, pin)


def as_cond(cond: Any) -> Cond:
    """A `Cond` from itself, from a dict of leaves, or from None."""
    if isinstance(cond, Cond):
        return cond
    return Cond(dict(cond or {}))


def concat(conds: Sequence[Cond]) -> Cond:
    """Row-wise concatenation; all must have the same leaves, and pins all or none."""
    if len(conds) == 1:
        return conds[0]
    first = conds[0]
    for c in conds[1:]:
        if c.leaves.keys() != first.leaves.keys() or (c.pin is None) != (first.pin is None):
            raise ShapeError(
                f"conditions of branches that share a network must agree: {sorted(first.leaves)} "
                f"(pin: {first.pin is not None}) against {sorted(c.leaves)} (pin: {c.pin is not None})"
            )
    leaves = {k: torch.cat([c.leaves[k] for c in conds]) for k in first.leaves}
    null = {}
    for k in dict.fromkeys(n for c in conds for n in c.null):
        some = next(c.null[k] for c in conds if k in c.null)
        parts = [c.null[k] if k in c.null else some.new_zeros(c.leaves[k].shape[0]) for c in conds]
        null[k] = torch.cat(parts)
    pin = None
    if first.pin is not None:
        pins = [c.pin for c in conds if c.pin is not None]
        pin = Pin(torch.cat([p.mask.expand_as(p.value) for p in pins]), torch.cat([p.value for p in pins]))
    return Cond(leaves, null, pin)


class Conditions(dict[str, Cond]):
    """A run's conditions by name; what its steps stack again and again is stacked once."""

    def __init__(self, given: Mapping[str, Cond]) -> None:
        super().__init__(given)
        self._stacked: dict[tuple[str, ...], tuple[Any, list[Tensor], Cond]] = {}

    def stacked(self, names: tuple[str, ...]) -> Cond:
        """Those of `names` row-wise, `concat`; anew where a tensor was exchanged or written to, or gradients count."""
        conds = [self[n] for n in names]
        if torch.compiler.is_compiling():  # a graph holds no memory of the run
            return concat(conds)
        of = [t for c in conds for t in (*c.leaves.values(), *c.null.values(), *(c.pin or ()))]
        mark = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), [(id(t), _writes(t)) for t in of]
        if names not in self._stacked or self._stacked[names][0] != mark:
            self._stacked[names] = mark, of, concat(conds)  # with `of` held, no other tensor gets its id
        return self._stacked[names][2]


def _writes(t: Tensor) -> int:
    """How often a tensor was written to in place; those of inference mode do not count it."""
    return 0 if t.is_inference() else t._version
