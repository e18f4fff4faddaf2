"""One call of a diffusers network, taken apart: latents, what has a row per sample, and the rest; and put together."""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from safeplan.diffusion import Cond, Prediction, to_x0
from safeplan.diffusion.denoiser import Perturb
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.nets.diffusers_pag import PAGRows

CHANNELS = "(channels)"  # leaf: input channels beyond the latents, such as a mask


class Slot(NamedTuple):
    """Where a per-row tensor stood."""

    name: str


@dataclass(frozen=True)
class Call:
    """first: name of the network's first argument. x: latents `[B, ...]`. leaves: dotted name -> `[B, ...]`.

    rest: the other arguments by name, with a `Slot` for each leaf. timestep: as the network got it. variance: the
    network puts out twice the channels, the second half a variance.
    """

    first: str
    x: Tensor
    leaves: dict[str, Tensor]
    rest: dict[str, Any]
    timestep: Any
    variance: bool = False

    @classmethod
    def of(cls, net: nn.Module, args: tuple, kwargs: Mapping[str, Any], shared: Sequence[str] = ()) -> "Call":
        """The call `net(*args, **kwargs)`. Tensors with as many rows as the sample are leaves, unless in `shared`.

        Raises:
            ConfigError: the first argument is not a tensor.
        """
        signature = inspect.signature(net.forward)
        named = dict(signature.bind(*args, **kwargs).arguments)
        for p in signature.parameters.values():
            if p.kind is inspect.Parameter.VAR_KEYWORD:
                named |= named.pop(p.name, {})
        first = next(iter(named))
        x = named.pop(first)
        if not isinstance(x, Tensor):
            raise ConfigError(
                f"{type(net).__name__}: argument {first!r} is a {type(x).__name__}; give a tensor [B, ...]"
            )
        if "return_dict" in signature.parameters:
            named["return_dict"] = False
        timestep = next((named[k] for k in ("timestep", "timesteps", "t") if k in named), None)
        leaves: dict[str, Tensor] = {}
        wide, latents = (_channels(net, k) for k in ("in_channels", "out_channels"))
        if wide is not None and latents is not None and latents < wide == x.shape[1]:
            x, leaves[CHANNELS] = x[:, :latents], x[:, latents:]
        variance = wide is not None and latents == 2 * wide
        return cls(first, x, leaves, _take(named, len(x), "", shared, leaves), timestep, variance)

    def cond(self) -> Cond:
        """All leaves, as the pipeline gave them."""
        return Cond(self.leaves)

    def other(self, name: str, given: Mapping[str, Any]) -> Cond:
        """The condition `name`, which differs in the arguments `given` (nested as in the call, or dotted names).

        Raises:
            ConfigError: an argument that the call does not have. ShapeError: another shape than in the call.
        """
        leaves = dict(self.leaves)
        for key, value in _flat(given).items():
            if key not in leaves:
                raise ConfigError(
                    f"condition {name!r}: the pipeline calls its network without a per-row argument {key!r}; "
                    f"it gives {sorted(leaves)}"
                )
            if value.shape != leaves[key].shape:
                raise ShapeError(
                    f"condition {name!r}: {key!r} is {tuple(value.shape)}, the pipeline gives "
                    f"{tuple(leaves[key].shape)}; give one row per image and the same length, and switch the "
                    "pipeline's own guidance off (guidance_scale=1)"
                )
            leaves[key] = value.to(leaves[key])
        return Cond(leaves)


class CallDenoiser:
    """The network behind a call as a safeplan denoiser; `aux` holds the variance channels, if any."""

    def __init__(
        self, net: nn.Module, call: Call, kind: str, sign: float = 1.0, null: bool = True, layers: PAGRows | None = None
    ):
        self.net, self.call, self.kind, self.sign, self.layers = net, call, kind, sign, layers
        caps = {"gradient"} | ({"null"} if null else set())
        self.capabilities = frozenset(caps | {f"perturb:{p}" for p in (layers.perturbations if layers else ())})

    def __call__(self, x: Tensor, a: Tensor, s: Tensor, cond: Cond, perturb: Perturb | None = None) -> Prediction:
        if perturb and self.layers is None:
            raise CapabilityError(f"perturbations {sorted(perturb)} come from a method that does not declare them")
        z = torch.cat([x, cond.leaves[CHANNELS]], 1) if CHANNELS in cond.leaves else x
        rest = _put(self.call.rest, cond.leaves)
        with self.layers.perturbed(perturb) if self.layers else nullcontext():
            out = self.net(**{self.call.first: z}, **rest)
        out = out if isinstance(out, Tensor) else out[0]
        out, variance = out.chunk(2, 1) if self.call.variance else (out, None)
        if out.shape != x.shape:
            raise ShapeError(
                f"{type(self.net).__name__} turns {tuple(x.shape)} into {tuple(out.shape)}; both must agree"
            )
        return Prediction(to_x0(self.kind, self.sign * out, x, a, s), variance)


def _channels(net: nn.Module, key: str) -> int | None:
    return getattr(getattr(net, "config", None), key, None)


def _take(value: Any, rows: int, path: str, shared: Sequence[str], leaves: dict[str, Tensor]) -> Any:
    """`value` with each tensor of `rows` rows moved to `leaves`."""
    if path in shared:
        return value
    if isinstance(value, Tensor) and value.ndim > 0 and len(value) == rows:
        leaves[path] = value
        return Slot(path)
    if isinstance(value, Mapping):
        return {k: _take(v, rows, f"{path}.{k}" if path else k, shared, leaves) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_take(v, rows, f"{path}.{i}", shared, leaves) for i, v in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    return value


def _put(value: Any, leaves: Mapping[str, Tensor]) -> Any:
    if isinstance(value, Slot):
        return leaves[value.name]
    if isinstance(value, Mapping):
        return {k: _put(v, leaves) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_put(v, leaves) for v in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def _flat(tree: Any, path: str = "") -> dict[str, Tensor]:
    if isinstance(tree, Tensor):
        return {path: tree}
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    out: dict[str, Tensor] = {}
    for k, v in items:
        out |= _flat(v, f"{path}.{k}" if path else str(k))
    return out
