"""One namespace per backend, so that a system is written once: NUMPY, TORCH, CASADI (SX and MX).

Elementary functions work on components of any shape. `stack`/`unstack` act on the last axis, `pack`/`unpack` on the
first (components first, about a third faster for particles); CasADi has rows only, so both pairs agree there.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np

Namespace = Any

_ELEMENTARY = ("sin", "cos", "tan", "tanh", "exp", "log", "sqrt", "square", "arctan2", "maximum", "minimum", "where")


def _pack_numpy(xs):
    shapes = {getattr(c, "shape", ()) for c in xs}
    shape = shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)
    out = np.empty((len(xs), *shape))
    for i, c in enumerate(xs):
        out[i] = c
    return out


def _plus(a, s, b):
    """a + s b."""
    return a + s * b


def _numpy() -> Namespace:
    names = {n: getattr(np, n) for n in _ELEMENTARY}
    return SimpleNamespace(
        name="numpy",
        pi=np.pi,
        **names,
        abs=np.abs,
        clip=lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi),
        wrap=lambda a: np.arctan2(np.sin(a), np.cos(a)),
        plus=_plus,
        dense=lambda W, b, h: h @ W.T + b,
        stack=lambda xs: np.stack(np.broadcast_arrays(*xs), axis=-1),
        unstack=lambda x: tuple(np.moveaxis(x, -1, 0)),
        pack=_pack_numpy,
        unpack=tuple,
        asarray=lambda x: np.asarray(x, float),
    )


def _torch() -> Namespace:
    import torch

    def lift(fn):  # a Python number beside a tensor, as the other backends allow
        def call(a, b):
            ref = a if isinstance(a, torch.Tensor) else b
            if not isinstance(ref, torch.Tensor):
                ref = torch.tensor(float(a))
            a = a if isinstance(a, torch.Tensor) else torch.as_tensor(a, dtype=ref.dtype, device=ref.device)
            b = b if isinstance(b, torch.Tensor) else torch.as_tensor(b, dtype=ref.dtype, device=ref.device)
            return fn(a, b)

        return call

    def like(a, h):  # weights are NumPy arrays, whatever the type and the device of the state
        return torch.as_tensor(a, dtype=h.dtype, device=h.device)

    plain = ("sin", "cos", "tan", "tanh", "exp", "log", "sqrt", "square", "where")
    maximum, minimum = lift(torch.maximum), lift(torch.minimum)
    return SimpleNamespace(
        name="torch",
        pi=np.pi,
        **{n: getattr(torch, n) for n in plain},
        arctan2=lift(torch.arctan2),
        maximum=maximum,
        minimum=minimum,
        abs=torch.abs,
        clip=lambda x, lo, hi: minimum(maximum(x, lo), hi),
        wrap=lambda a: torch.sub(a, torch.round(a / (2 * np.pi)), alpha=2 * np.pi),  # far faster than arctan2(sin, cos)
        plus=lambda a, s, b: torch.add(a, b, alpha=s) if isinstance(a, torch.Tensor) else a + s * b,
        dense=lambda W, b, h: torch.nn.functional.linear(h, like(W, h), like(b, h)),
        stack=lambda xs: torch.stack(torch.broadcast_tensors(*xs), dim=-1),
        unstack=lambda x: x.unbind(-1),
        pack=lambda xs: torch.stack(torch.broadcast_tensors(*map(torch.as_tensor, xs))),
        unpack=lambda x: x.unbind(0),
        asarray=torch.as_tensor,
    )


def _casadi() -> Namespace:
    import casadi as ca

    return SimpleNamespace(
        name="casadi",
        pi=np.pi,
        sin=ca.sin,
        cos=ca.cos,
        tan=ca.tan,
        tanh=ca.tanh,
        exp=ca.exp,
        log=ca.log,
        sqrt=ca.sqrt,
        square=lambda x: x * x,
        arctan2=ca.atan2,
        maximum=ca.fmax,
        minimum=ca.fmin,
        where=ca.if_else,
        abs=ca.fabs,
        clip=lambda x, lo, hi: ca.fmin(ca.fmax(x, lo), hi),
        wrap=lambda a: ca.atan2(ca.sin(a), ca.cos(a)),
        plus=_plus,
        dense=lambda W, b, h: ca.mtimes(ca.DM(np.asarray(W)), h) + ca.DM(np.asarray(b)),
        stack=lambda xs: ca.vertcat(*xs),
        unstack=lambda x: tuple(ca.vertsplit(x)),
        pack=lambda xs: ca.vertcat(*xs),
        unpack=lambda x: tuple(ca.vertsplit(x)),
        asarray=lambda x: x,
    )


NUMPY: Namespace = _numpy()


def __getattr__(name: str) -> Namespace:
    """TORCH and CASADI are made on first use, so that importing a system stays light."""
    make = {"TORCH": _torch, "CASADI": _casadi}.get(name)
    if make is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = make()
    return globals()[name]
