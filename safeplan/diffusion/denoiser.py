"""One wrapper from a network of any parametrisation to x0: `(x, a, s, cond, perturb) -> Prediction(x0, aux)`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from safeplan.diffusion.cond import Cond, as_cond
from safeplan.diffusion.convert import check_kind, edm_scalings, like, to_x0
from safeplan.diffusion.paths import Path
from safeplan.errors import CapabilityError

Perturb = Mapping[tuple, Tensor]  # perturbation, such as ("pag", 3), -> bool row mask [B]


class Prediction(NamedTuple):
    """The denoised estimate `x0 [B, ...]` and whatever else the network reports (attention maps, features)."""

    x0: Tensor
    aux: Any = None


class DenoiserLike(Protocol):
    """Anything that predicts x0; analytic denoisers need not be a `Denoiser`."""

    def __call__(self, x: Tensor, a: Tensor, s: Tensor, cond: Cond, perturb: Perturb | None = None) -> Prediction: ...


class Raw(NamedTuple):
    """A network's own output, with the frame that it was evaluated in."""

    out: Tensor
    x: Tensor
    a: Tensor
    s: Tensor
    aux: Any


@dataclass(frozen=True)
class Denoiser:
    """A network, the path it was trained on and what it predicts.

    Args:
        net: `net(x, t, leaves, null) -> out` or `(out, aux)`; `leaves` and `null` are those of `Cond`. With a
            perturbation it also gets `perturb=`. Optional attributes: `learned_null` (it fills switched-off leaves
            itself), `nullable` (false: it was never trained without its condition), `perturbations` (names).
        path: the training path; x from another frame is rescaled to it, at equal sigma.
        predict: "eps", "x0", "v", "flow" or "edm".
        sigma_data: standard deviation of the data, for "edm".
        clock: `(a, s) -> t`, the network's time; default the path's time, ln(sigma)/4 for "edm".
        pre: applied to x in the network's frame, before pinning.
    """

    net: Callable[..., Any]
    path: Path
    predict: str = "eps"
    sigma_data: float = 1.0
    clock: Callable[[Tensor, Tensor], Tensor] | None = None
    pre: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        check_kind(self.predict)

    @property
    def capabilities(self) -> frozenset[str]:
        """What guidance may ask of it: "null", "gradient", "perturb:NAME"."""
        caps = {"gradient"} | {f"perturb:{p}" for p in getattr(self.net, "perturbations", ())}
        return frozenset(caps | ({"null"} if getattr(self.net, "nullable", True) else set()))

    def raw(self, x: Tensor, a: Tensor, s: Tensor, cond: Cond | None = None, perturb: Perturb | None = None) -> Raw:
        """The network's own output at x, after moving x to its frame. `a`, `s`: 0-d or `[B]`."""
        cond = as_cond(cond)
        if perturb:
            missing = {p[0] for p in perturb} - set(getattr(self.net, "perturbations", ()))
            if missing:
                name = type(self.net).__name__
                raise CapabilityError(f"{name} has no perturbation {sorted(missing)}; see its `perturbations`")
        a, s = torch.as_tensor(a), torch.as_tensor(s)
        t = self.path.time(a, s)
        t = torch.where(torch.isfinite(t), t, self.path.t_max)  # sigma = inf is the most noise that it was trained on
        if self.predict == "edm":
            z = x * like(edm_scalings(a, s, self.sigma_data)[2], x)
        else:
            na, ns = self.path.at(t)
            x = x * like(torch.hypot(na, ns) / torch.hypot(a, s), x)  # the same sigma in the network's frame
            a, s, z = na, ns, x
        if self.clock is not None:
            t = self.clock(a, s)
        elif self.predict == "edm":
            t = torch.log((s / a).clamp(1e-5, 1e5)) / 4
        z = z.to(x.dtype)
        if self.pre is not None:
            z = self.pre(z)
        leaves = cond.leaves
        if cond.pin is not None:
            z = cond.pin.write(z)
        if cond.null and not getattr(self.net, "learned_null", False):
            leaves = {k: _off(v, cond.null.get(k)) for k, v in leaves.items()}
        t = t.to(device=x.device, dtype=x.dtype).expand(len(x))
        extra = {"perturb": perturb} if perturb else {}
        out = self.net(z, t, leaves, cond.null, **extra)
        out, aux = out if isinstance(out, tuple) else (out, None)
        return Raw(out, x, a, s, aux)

    def __call__(
        self, x: Tensor, a: Tensor, s: Tensor, cond: Cond | None = None, perturb: Perturb | None = None
    ) -> Prediction:
        """x0 at `x [B, ...]`, noise level `(a, s)` (0-d or `[B]`); pinned entries hold their value."""
        cond = as_cond(cond)
        r = self.raw(x, a, s, cond, perturb)
        x0 = to_x0(self.predict, r.out, r.x, r.a, r.s, self.sigma_data)
        return Prediction(x0 if cond.pin is None else cond.pin.write(x0), r.aux)


def _off(leaf: Tensor, null: Tensor | None) -> Tensor:
    if null is None:
        return leaf
    return torch.where(null.reshape(-1, *[1] * (leaf.ndim - 1)), torch.zeros_like(leaf), leaf)
