"""Runs a chain for one step: the union of all branches, one forward per network, late branches second, then a fold."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from safeplan.diffusion.cond import Cond, Conditions, as_cond, concat
from safeplan.diffusion.denoiser import DenoiserLike, Prediction
from safeplan.diffusion.guidance import COND, Branch, Context, Guidance, Guided, Predictions
from safeplan.diffusion.trace import Trace, rms
from safeplan.errors import CapabilityError, ConfigError

Denoisers = DenoiserLike | Mapping[str, DenoiserLike]


def networks(denoiser: Denoisers) -> dict[str, DenoiserLike]:
    """Named networks; a single denoiser is "main".

    Raises:
        CapabilityError: none of those given is called "main".
    """
    if not isinstance(denoiser, Mapping):
        return {"main": denoiser}
    if "main" not in denoiser:
        raise CapabilityError(f"networks {sorted(denoiser)}: none is called 'main', which is the one that is guided")
    return dict(denoiser)


def conditions(cond: Any, conds: Mapping[str, Any] | None = None) -> Conditions:
    """The run's conditions: "cond", "null" (all leaves off, same pin) and the extra ones, which inherit the pin."""
    main = as_cond(cond)
    out = {"cond": main, "null": main.drop()}
    for k, v in (conds or {}).items():
        c = as_cond(v)
        out[k] = c if c.pin is not None or main.pin is None else c._replace(pin=main.pin)
    return Conditions(out)


def offered(nets: Mapping[str, Any], conds: Mapping[str, Cond], x: Tensor, decode: Any) -> frozenset[str]:
    """What the networks and the run can do for guidance."""
    caps = set(getattr(nets["main"], "capabilities", {"gradient", "null"}))
    if not conds["cond"].leaves:
        caps.discard("null")
    caps |= {f"net:{k}" for k in nets if k != "main"} | {f"cond:{k}" for k in conds if k not in ("cond", "null")}
    caps |= {f"leaf:{k}" for k in conds["cond"].leaves}
    caps |= ({"decode"} if decode is not None else set()) | ({"axis"} if x.ndim > 2 else set())
    return frozenset(caps)


def denoise(
    denoiser: Denoisers,
    ctx: Context,
    chain: Sequence[Guidance] = (),
    states: Sequence[Any] | None = None,
    *,
    max_rows: int | None = None,
    trace: Trace | None = None,
) -> tuple[Guided, tuple[Any, ...]]:
    """Guided prediction at `ctx.x` and the next states.

    Args:
        denoiser: one denoiser, or name -> denoiser.
        states: as returned by the last call; None starts a run.
        max_rows: row cap of one forward, at least 1; None: no cap.
        trace: filled in place when given.

    Raises:
        ConfigError: a row cap below 1. CapabilityError: a network or condition that is not there.
    """
    if max_rows is not None and max_rows < 1:
        raise ConfigError(f"max_rows is {max_rows}, expected at least 1, or None for no cap")
    nets = networks(denoiser)
    pin = ctx.conds["cond"].pin
    if pin is not None:
        ctx = ctx._replace(x=pin.write(ctx.x))
    if states is None:
        states = tuple(m.init(ctx) for m in chain)
    asked = [b for m, st in zip(chain, states, strict=True) for b in m.needs(ctx, st)]
    early, late = _union([COND, *(b for b in asked if not b.late)]), _union([b for b in asked if b.late])
    grad = any(m.grad for m in chain)
    preds = _evaluate(nets, early, ctx, None, grad, max_rows)
    if late:
        more = _evaluate(nets, late, ctx, preds, grad, max_rows)
        preds = preds.with_(more)
    x0 = preds.x0(COND)
    guided, out, moves = Guided(x0, x0), [], {}
    for i, (m, st) in enumerate(zip(chain, states, strict=True)):
        before = guided
        guided, st = m(guided, preds, ctx, st)
        out.append(st)
        if trace is not None:
            moves[f"{i}:{type(m).__name__}"] = rms(guided.x0 - before.x0)
    if pin is not None:
        same = guided.x0 is guided.anchor
        aim = pin.write(guided.x0)
        guided = Guided(aim, aim if same else pin.write(guided.anchor))
    if trace is not None:
        trace.record(ctx, preds, [*early, *late], moves)
    return guided, tuple(out)


def _union(branches: Sequence[Branch]) -> list[Branch]:
    if len(branches) < 2:
        return list(branches)
    merged: dict[Branch, Branch] = {}
    for b in branches:
        if b.key in merged:
            old = merged[b.key].rows
            rows = None if old is None or b.rows is None else old | b.rows
            b = Branch(b.cond, b.net, b.perturb, rows)
        merged[b.key] = b
    return list(merged.values())


def _evaluate(
    nets: Mapping[str, DenoiserLike],
    todo: Sequence[Branch],
    ctx: Context,
    known: Predictions | None,
    grad: bool,
    max_rows: int | None,
) -> Predictions:
    items: dict[Branch, Prediction] = {}
    pulls: dict[Branch, Any] = {}
    main = known.x0(COND) if known is not None else None
    idle: list[Branch] = []  # nobody needs them any more
    for net in dict.fromkeys(b.net for b in todo):
        if net not in nets:
            raise CapabilityError(f"a branch asks for network {net!r}; this run has {sorted(nets)}")
        mine, index = [], []
        for b in (b for b in todo if b.net == net):
            # compiled graphs have fixed shapes: all rows are evaluated there, and the others masked
            rows = None if b.rows is None or torch.compiler.is_compiling() else b.rows.nonzero()[:, 0]
            if rows is not None and not len(rows):
                idle.append(b)
            else:
                mine.append(b)
                index.append(rows)
        if not mine:
            continue
        cond = _conds(mine, index, ctx, known)

        def forward(x: Tensor, net=net, mine=mine, index=index, cond=cond):
            rows = [x if i is None else x[i] for i in index]
            return _stacked(nets[net], rows, ctx, cond, [b.perturb for b in mine], max_rows)

        if grad:
            x0s, pull, aux = _vjp(forward, ctx.x)
        else:
            (x0s, aux), pull = forward(ctx.x), None
        for k, (b, i, x0) in enumerate(zip(mine, index, x0s, strict=True)):
            if pull is not None:
                rest = pulls.get(COND) or (known.pulls[COND] if known is not None else None)
                pulls[b.key] = _puller(pull, x0s, k, i, b.rows, rest)
            if b.rows is not None:
                fill = main if main is not None else items[COND].x0
                if i is None:
                    x0 = torch.where(b.rows.reshape(-1, *[1] * (x0.ndim - 1)), x0, fill)
                else:
                    x0 = fill.index_copy(0, i, x0)
            items[b.key] = Prediction(x0, aux[k])
    if idle:
        items |= {b.key: Prediction(main if main is not None else items[COND].x0) for b in idle}
    if grad and idle:
        pulls |= dict.fromkeys((b.key for b in idle), pulls[COND] if known is None else known.pulls[COND])
    return Predictions(items, pulls)


def _conds(mine: Sequence[Branch], index: Sequence[Tensor | None], ctx: Context, known: Predictions | None) -> Cond:
    """The conditions of branches that share a network, row-wise."""
    conds = [_cond(b, ctx, known) for b in mine]
    names = tuple(b.cond for b in mine if isinstance(b.cond, str))
    whole = len(names) == len(mine) and all(i is None for i in index)
    if whole and isinstance(ctx.conds, Conditions):
        return ctx.conds.stacked(names)
    return concat([c if i is None else c.take(i) for c, i in zip(conds, index, strict=True)])


def _cond(b: Branch, ctx: Context, known: Predictions | None) -> Cond:
    if not isinstance(b.cond, str):
        assert known is not None
        return as_cond(b.cond(known, ctx))
    if b.cond not in ctx.conds:
        raise CapabilityError(f"a branch asks for condition {b.cond!r}; this run has {sorted(ctx.conds)}")
    return ctx.conds[b.cond]


def _stacked(net, rows, ctx, cond, perturbs, max_rows):
    """One forward over all rows, cut into pieces of at most `max_rows`."""
    sizes = [r.shape[0] for r in rows]
    x = rows[0] if len(rows) == 1 else torch.cat(rows)
    masks = {}
    for p in dict.fromkeys(filter(None, perturbs)):
        masks[p] = torch.cat([torch.full((n,), q == p, device=x.device) for n, q in zip(sizes, perturbs, strict=True)])
    if max_rows is None or x.shape[0] <= max_rows:
        y = net(x, ctx.a, ctx.s, cond, masks or None)
        x0, aux = y.x0, y.aux
    else:
        parts = []
        for i in range(0, len(x), max_rows):
            take = slice(i, i + max_rows)  # views: nothing is copied
            piece = {p: m[take] for p, m in masks.items()} or None
            parts.append(net(x[take], ctx.a, ctx.s, cond.take(take), piece))
        x0 = torch.cat([p.x0 for p in parts])
        aux = _tree(lambda *v: torch.cat(v), *[p.aux for p in parts])
    if aux is None:
        split = [None] * len(sizes)
    else:
        split = [_tree(lambda v, k=k: v.split(sizes)[k], aux) for k in range(len(sizes))]
    return tuple(x0.split_with_sizes(sizes)), split


def _tree(fn, first, *rest):
    """`fn` on every leaf of what a network reported: None, a tensor `[rows, ...]`, or dicts and tuples of such."""
    if first is None:
        return None
    if isinstance(first, Mapping):
        return {k: _tree(fn, v, *[r[k] for r in rest]) for k, v in first.items()}
    if isinstance(first, (tuple, list)):
        return tuple(_tree(fn, *vs) for vs in zip(first, *rest, strict=True))
    return fn(first, *rest)


def _vjp(forward, x: Tensor):
    """`torch.func.vjp` whose auxiliary output may hold None, which functorch refuses."""
    spec: list[Any] = []

    def tensors_only(x: Tensor):
        x0s, aux = forward(x)
        leaves: list[Tensor] = []

        def keep(v: Tensor) -> int:
            leaves.append(v)
            return len(leaves) - 1

        spec.append([_tree(keep, v) for v in aux])
        return x0s, tuple(leaves)

    x0s, pull, leaves = torch.func.vjp(tensors_only, x, has_aux=True)  # pyright: ignore[reportAssignmentType]
    return x0s, pull, [_tree(lambda i: leaves[i], v) for v in spec[-1]]


def _puller(pull, x0s, k, index, rows, rest):
    """The pull-back of branch k; rows that nobody asked for hold the main prediction, so they take its pull-back."""

    def vjp(v: Tensor) -> Tensor:
        own = v if rows is None else torch.where(rows.reshape(-1, *[1] * (v.ndim - 1)), v, 0)
        mine = own if index is None else own[index]
        out = pull(tuple(mine if j == k else torch.zeros_like(y) for j, y in enumerate(x0s)))[0]
        return out if rows is None else out + rest(v - own)

    return vjp
