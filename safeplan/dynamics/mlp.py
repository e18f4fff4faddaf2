"""A small neural controller, written once: the same weights run under NumPy, PyTorch and CasADi."""

from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from safeplan import strict_json
from safeplan.errors import CheckpointError
from safeplan.types import Array


@dataclass(frozen=True)
class Mlp:
    """`x -> mid + half * tanh(W h + b)`, hidden layers h = tanh(W h + b): smooth, within `[low, high]` everywhere.

    Args:
        weights, biases: per layer `[out, in]` and `[out]`.
        low, high: bounds of the outputs, units of the controls.
        domain_low, domain_high: box that holds the training states. Outside it the output is finite and within its
            bounds, but imitates nothing.
        card: how it was trained and how well it imitates.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    low: Array
    high: Array
    domain_low: Array
    domain_high: Array
    card: dict[str, Any]

    def __call__(self, x: tuple, xp: Any) -> tuple:
        """Outputs for state components `x`, any shape, as components."""
        h = xp.stack(x)
        for W, b in zip(self.weights, self.biases, strict=True):
            h = xp.tanh(xp.dense(W, b, h))
        return self._scaled(xp.unstack(h))

    def partial(self, x: tuple, j: int, xp: Any) -> tuple:
        """Derivatives of all outputs by state `j`, as components: the tangent is carried through the layers."""
        h = xp.stack(x)
        d = xp.stack(tuple(0.0 * c + float(i == j) for i, c in enumerate(x)))
        for W, b in zip(self.weights, self.biases, strict=True):
            h = xp.tanh(xp.dense(W, b, h))
            d = (1.0 - xp.square(h)) * xp.dense(W, np.zeros(len(b)), d)
        return tuple(half * c for half, c in zip(self._half, xp.unstack(d), strict=True))

    @cached_property
    def _half(self) -> list[float]:
        return ((self.high - self.low) / 2).tolist()

    def _scaled(self, parts: tuple) -> tuple:
        mid = ((self.high + self.low) / 2).tolist()
        return tuple(m + half * c for m, half, c in zip(mid, self._half, parts, strict=True))

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        layers = [{"W": W.tolist(), "b": b.tolist()} for W, b in zip(self.weights, self.biases, strict=True)]
        names = ("low", "high", "domain_low", "domain_high")
        strict_json.write(path, {**{k: getattr(self, k).tolist() for k in names}, "card": self.card, "layers": layers})


def load_mlp(name: str, folder: Path | None = None) -> Mlp:
    """The shipped controller `name`, or the one in `folder`.

    Raises:
        CheckpointError: no such file, or not one that `Mlp.save` wrote.
    """
    file = (folder or resources.files("safeplan") / "weights" / "controllers") / f"{name}.json"
    if not file.is_file():
        raise CheckpointError(f"{file}: no such controller; make it with python scripts/make_controllers.py {name}")
    try:
        d = strict_json.loads(file.read_text())
        layers = d["layers"]
        weights = tuple(np.array(layer["W"], float) for layer in layers)
        biases = tuple(np.array(layer["b"], float) for layer in layers)
        low, high, *domain = (np.array(d[k], float) for k in ("low", "high", "domain_low", "domain_high"))
        sizes = [len(domain[0]), *(len(b) for b in biases)]
        if [W.shape for W in weights] != list(zip(sizes[1:], sizes[:-1], strict=True)) or sizes[-1] != len(low):
            raise ValueError(f"layers of shapes {[W.shape for W in weights]} do not follow each other")
        return Mlp(weights, biases, low, high, domain[0], domain[1], d["card"])
    except (ValueError, KeyError, TypeError) as e:
        raise CheckpointError(
            f"{file}: not a controller ({type(e).__name__}: {e}); make it anew with scripts/make_controllers.py"
        ) from e
