"""Does our FISOR compute what the official agent computes? Compared number by number with stored results of its code.

  python scripts/fisor_parity.py [GOLDEN.npz]

Prints the largest error of every quantity, |a - b| / max(1, |b|), for gradients relative to the largest entry of their
leaf; exit 1 when one exceeds 1e-5. Default file: the trimmed one of the tests. All sizes are read from the file.
"""

import argparse
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads spin otherwise

import numpy as np
import torch
from torch import Tensor, nn

from safeplan.diffusion import FisorVP, Grid, ddpm
from safeplan.errors import DataError
from safeplan.feasibility import Fisor, official, select
from safeplan.feasibility.agent import actor_lr
from safeplan.feasibility.losses import bellman, feasible_bellman, policy_weights
from safeplan.feasibility.networks import TARGETS

DEFAULT = Path(__file__).parents[1] / "tests" / "golden" / "fisor_official.npz"
TOLERANCE = 1e-5
CRITICS = {"v": "V", "v_h": "Vh", "q": "Q", "q_h": "Qh", "q_target": "Q_target", "q_h_target": "Qh_target"}
NAMES = {**CRITICS, "actor": "actor", "actor_ema": "actor_ema"}  # our networks, theirs
COLUMNS = {"observations": "states", "next_observations": "next_states", "h": "costs"}
FLIP = 2.5  # Adam's first steps are of this many learning rates at most, whatever the gradient

Gold = Mapping[str, np.ndarray]
TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "as is": lambda v: v,
    "transpose": lambda v: v.mT,
    "row": lambda v: v.unsqueeze(-2),
    "column": lambda v: v.flatten(),
}


@dataclass(frozen=True)
class Row:
    """One quantity: its largest error; entries whose value float32 does not decide are counted, not compared."""

    error: float
    entries: int
    undecided: int = 0
    quantity: str = ""

    @property
    def passed(self) -> bool:
        return self.error <= TOLERANCE  # NaN fails


def error(got, want, scale: float | None = None) -> Row:
    """Largest relative error; ragged or misshapen pairs are infinitely wrong."""
    a, b = (np.asarray(v.detach().cpu() if isinstance(v, Tensor) else v, dtype=np.float64) for v in (got, want))
    if a.shape != b.shape:
        return Row(float("inf"), b.size)
    relative = np.abs(a - b) / (np.maximum(1.0, np.abs(b)) if scale is None else max(scale, 1e-30))
    return Row(float(relative.max(initial=0.0)), b.size)


def worst(quantity: str, rows: list[Row]) -> Row:
    """The rows of one quantity as one."""
    if not rows:
        raise DataError(f"golden file: nothing to compare for {quantity}")
    errors = [r.error for r in rows]
    largest = float("nan") if any(np.isnan(errors)) else max(errors)
    return Row(largest, sum(r.entries for r in rows), sum(r.undecided for r in rows), quantity)


# -------------------------------------------------------------------- parameters
def layout(agent: Fisor, name: str) -> Iterator[tuple[Tensor, str, str]]:
    """Our parameter, the path of theirs below the network's name, and what turns theirs into ours."""
    net: Any = agent.nets[name]
    if name in ("v", "v_h"):
        for i, path in zip((0, 2, 4), ("MLP_0/Dense_0", "MLP_0/Dense_1", "OutputVDense"), strict=True):
            yield net.layers[i].weight, f"{path}/kernel", "transpose"
            yield net.layers[i].bias, f"{path}/bias", "as is"
    elif name in CRITICS:
        for i, path in enumerate(("MLP_0/Dense_0", "MLP_0/Dense_1", "Dense_0")):
            yield net.weights[i], f"VmapStateActionValue_0/{path}/kernel", "as is"
            yield net.biases[i], f"VmapStateActionValue_0/{path}/bias", "row"
    else:
        yield net.w, "FourierFeatures_0/kernel", "column"
        dense = {"MLP_0/Dense_0": net.time[0], "MLP_0/Dense_1": net.time[2]}
        dense |= {"MLPResNet_0/Dense_0": net.inp, "MLPResNet_0/Dense_1": net.out}
        for i, block in enumerate(net.blocks):
            root = f"MLPResNet_0/MLPResNetBlock_{i}"
            dense |= {f"{root}/Dense_0": block.up, f"{root}/Dense_1": block.down}
            yield block.norm.weight, f"{root}/LayerNorm_0/scale", "as is"
            yield block.norm.bias, f"{root}/LayerNorm_0/bias", "as is"
        for path, layer in dense.items():
            yield layer.weight, f"{path}/kernel", "transpose"
            yield layer.bias, f"{path}/bias", "as is"


def pairs(gold: Gold, agent: Fisor, name: str, group: str = "") -> Iterator[tuple[Tensor, Tensor]]:
    """(our parameter, their value) for every leaf of one network that `group` holds."""
    for ours, path, how in layout(agent, name):
        value = gold.get(f"{group}{NAMES[name]}/{path}")
        if value is not None:
            theirs = torch.tensor(value)
            yield ours, TURNS[how](theirs)


def agent_of(gold: Gold, steps: int | None = None) -> Fisor:
    """The agent of the file, with its parameters.

    Raises:
        DataError: the file lacks a setting or a parameter, or holds a network that ours cannot be.
    """
    try:
        cfg = {k[4:]: v.item() for k, v in gold.items() if k.startswith("cfg/")}
        rows = len(gold["batch/states"])
        config = official(
            gamma=_round(cfg["discount"]), tau_reward=_round(cfg["expectile_V"]),
            tau_feasible=_round(cfg["expectile_Vh"]), target_rate=_round(cfg["tau"]), ema_rate=_round(cfg["actor_tau"]),
            cost_temperature=_round(cfg["cost_temperature"]), reward_temperature=_round(cfg["reward_temperature"]),
            cost_clip=_round(cfg["cost_ub"]), reward_clip=_round(cfg["reward_ub"]), lr=_round(cfg["lr"]),
            batch=rows, critic_rows=min(256, rows), hidden=gold["V/MLP_0/Dense_0/bias"].size,
            actor_width=cfg["actor_hidden"], actor_blocks=cfg["actor_blocks"], dropout=0.0,
            steps=steps or cfg["T"], candidates=cfg["N"],
        )  # fmt: skip
        agent = Fisor(cfg["obs_dim"], cfg["act_dim"], config)
    except KeyError as e:
        raise DataError(f"golden file: no entry {e}. It must have the layout of the official results") from e
    for name in NAMES:
        held = list(pairs(gold, agent, name))
        if len(held) != sum(1 for _ in layout(agent, name)):
            raise DataError(f"golden file: parameters of {NAMES[name]} are missing")
        for ours, theirs in held:
            if ours.shape != theirs.shape:
                raise DataError(
                    f"golden file: {NAMES[name]} has a leaf {tuple(theirs.shape)}, ours {tuple(ours.shape)}"
                )
            with torch.no_grad():
                ours.copy_(theirs)
    agent.nets.eval()
    return agent


def _round(value: float) -> float:
    """The decimal that a float32 of the file was written from."""
    return float(f"{value:.7g}")


def tensors(gold: Gold, group: str) -> dict[str, Tensor]:
    """Entries directly below `group` as tensors."""
    return {k[len(group) :]: torch.tensor(v) for k, v in gold.items() if k.startswith(group)}


def batch_of(gold: Gold) -> dict[str, Tensor]:
    keys = ("observations", "actions", "rewards", "h", "masks", "next_observations")
    return {k: torch.tensor(gold[f"batch/{COLUMNS.get(k, k)}"]) for k in keys}


# -------------------------------------------------------------------- what is compared
@torch.no_grad()
def networks(gold: Gold) -> Iterator[Row]:
    """Forward passes of all eight networks, with dropout too."""
    agent, b = agent_of(gold), batch_of(gold)
    obs, act, next_obs = b["observations"], b["actions"], b["next_observations"]
    for name in CRITICS:
        got = agent._value(name, obs) if name in ("v", "v_h") else agent._heads(name, obs, act)
        yield worst(f"network {CRITICS[name]}", [error(got, gold[f"out/{CRITICS[name]}"])])
    yield worst("network V, V_h of s'", [error(agent.v(next_obs), gold["out/V_next"]),
                                         error(agent.v_h(next_obs), gold["out/Vh_next"])])  # fmt: skip
    x, t = torch.tensor(gold["out/noisy_actions"]), torch.tensor(gold["fixed/t"]).float()
    actor: Any = agent.nets["actor"]
    yield worst("time features", [error(actor.time_features(t), gold["out/time_features"])])
    for name, key in (("actor", "eps_hat"), ("actor_ema", "eps_hat_ema")):
        yield worst(f"network {name}", [error(agent.nets[name](x, t, {"obs": obs}), gold[f"out/{key}"])])
    if "layernorm/x" in gold:
        got = actor.blocks[0].norm(torch.tensor(gold["layernorm/x"]))
        yield worst("layer norm", [error(got, gold["layernorm/y"])])
    if "dropout/keep_mask" in gold:
        for block, mask in zip(actor.blocks, gold["dropout/keep_mask"], strict=True):
            block.dropout = Kept(torch.tensor(mask).float() / 0.9)
        yield worst("network actor, dropout", [error(actor(x, t, {"obs": obs}), gold["dropout/eps_hat"])])


class Kept(nn.Module):
    """Dropout with a given mask."""

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def losses(gold: Gold) -> Iterator[Row]:
    """Targets, weights, losses and gradients, all from the file's parameters."""
    agent, b = agent_of(gold), batch_of(gold)
    obs, act = b["observations"], b["actions"]
    out = tensors(gold, "out/")
    yield worst("target y", [error(bellman(b["rewards"], b["masks"], agent.v(b["next_observations"]),
                                           agent.config.gamma), out["y"])])  # fmt: skip
    yield worst("target y_h", [error(feasible_bellman(b["h"], b["masks"], agent.v_h(b["next_observations"]),
                                                      agent.config.gamma), out["yh"])])  # fmt: skip
    yield worst("q, q_h", [error(agent.q(obs, act), out["q"]), error(agent.q_h(obs, act), out["qh"])])
    c = agent.config
    limits = {"cost_temperature": c.cost_temperature, "reward_temperature": c.reward_temperature}
    limits |= {"cost_clip": c.cost_clip, "reward_clip": c.reward_clip}
    yield worst(
        "weights, of stored values",
        [error(policy_weights(out["V"], out["q"], out["Vh"], out["qh"], **limits), out["w"])],
    )
    w = agent.weights(obs, act)
    yield worst("weights", [error(w, out["w"])])
    kind = torch.where(agent.v_h(obs) > 0, 1, torch.where(agent.q_h(obs, act) <= 0, 2, 0))
    yield worst("kinds of rows", [error(kind, out["row_kind"])])
    t, eps = torch.tensor(gold["fixed/t"]).float(), torch.tensor(gold["fixed/eps"])
    a, s = agent.path.at(t.double())
    noisy = (a[:, None] * act + s[:, None] * eps).float()
    yield worst("noisy actions", [error(noisy, out["noisy_actions"])])
    found = {
        "V": agent.loss_v(obs, act),
        "Vh": agent.loss_v_h(obs, act),
        "Q": agent.loss_q(obs, act, b["rewards"], b["masks"], b["next_observations"]),
        "Qh": agent.loss_q_h(obs, act, b["h"], b["masks"], b["next_observations"]),
        "actor": agent.loss_actor(obs, act, w, t, eps),
    }
    ones = agent.loss_actor(obs, act, torch.ones_like(w), t, eps)
    yield worst("loss actor, unweighted", [error(ones, gold["loss/actor_unweighted"])])
    yield worst("mean weight", [error(w.mean(), gold["loss/actor_mean_w"])])
    for ours, theirs in NAMES.items():
        if theirs not in found:
            continue
        yield worst(f"loss {theirs}", [error(found[theirs], gold[f"loss/{theirs}"])])
        agent.nets[ours].zero_grad()
        found[theirs].backward()
        leaves = list(pairs(gold, agent, ours, "grad/"))
        yield worst(f"gradient {theirs}", [error(p.grad, g, float(g.abs().max())) for p, g in leaves])
        norm = (
            torch.stack([p.grad.square().sum() for p in agent.nets[ours].parameters() if p.grad is not None])
            .sum()
            .sqrt()
        )
        yield worst(f"gradient norm {theirs}", [error(norm, gold[f"gradnorm/{theirs}"])])


def steps(gold: Gold) -> Iterator[Row]:
    """One optimiser step along the stored gradients, and the target's step after it."""
    agent = agent_of(gold)
    slow, fast = agent.config.ema_rate, agent.config.target_rate
    for ours in ("v", "q", "v_h", "q_h", "actor"):
        for p, g in pairs(gold, agent, ours, "grad/"):
            p.grad = g.contiguous()
        agent.apply(ours, slow if ours == "actor" else fast)
        yield worst(f"optimiser {NAMES[ours]}", [error(p, w) for p, w in pairs(gold, agent, ours, "after/")])
        for target in (k for k, v in TARGETS.items() if v == ours):
            yield worst(
                f"target network {NAMES[target]}", [error(p, w) for p, w in pairs(gold, agent, target, "after/")]
            )


def updates(gold: Gold) -> Iterator[Row]:
    """Three whole updates."""
    exact, twin = three_updates(gold, torch.float32), three_updates(gold, torch.float64)
    yield worst("three updates: losses", [error(exact[1], gold["update3/losses"])])
    for ours, theirs in NAMES.items():
        rows = []
        for (p, want), (p64, _) in zip(*(pairs(gold, a, ours, "update3/") for a, _ in (exact, twin)), strict=True):
            # where rounding alone moves our own result, a gradient near zero was divided by itself
            open_ = (p.double() - p64.double()).abs() > TOLERANCE / 4
            row = error(p[~open_], want[~open_])
            off = float((p - want)[open_].abs().max()) if open_.any() else 0.0
            within = off <= 2 * 3 * FLIP * float(gold["cfg/lr"])
            rows.append(Row(row.error if within else off, row.entries, int(open_.sum())))
        yield worst(f"three updates: {theirs}", rows)


def three_updates(gold: Gold, dtype: torch.dtype) -> tuple[Fisor, Tensor]:
    """The agent after three updates on the stored batch and noise, computed in `dtype`, and the losses `[3, 5]`."""
    agent = agent_of(gold)
    agent.nets.to(dtype)
    b = {k: v.to(dtype) for k, v in batch_of(gold).items()}
    found = []
    for t, eps in zip(gold["update3/t"], gold["update3/eps"], strict=True):  # of each actor step, [2, B / 2]
        steps, noise = (torch.as_tensor(np.concatenate(x)).to(dtype) for x in (t, eps))
        got = agent.body(b, steps, noise)
        found.append(torch.stack([got[f"loss_{n}"] for n in ("actor", "v", "q", "v_h", "q_h")]))
    return agent, torch.stack(found)


def schedules(gold: Gold) -> Iterator[Row]:
    """Noise schedules, learning rates, sizes of the default networks."""
    for name in sorted({k.split("/")[1] for k in gold if k.startswith("diffusion/")}):
        kind, T = name.split("_T")
        alphas = torch.tensor(FisorVP(int(T), schedule=kind).log_alpha(), dtype=torch.float64).exp()
        found = {"betas": 1 - alphas, "alphas": alphas, "alpha_hats": alphas.cumprod(0)}
        yield worst(f"schedule {name}", [error(v, gold[f"diffusion/{name}/{k}"]) for k, v in found.items()])
    rates = [actor_lr(official(), int(k)) for k in gold["lr/steps"]]
    yield worst("learning rate, in 1e-4", [error(1e4 * np.array(rates), 1e4 * gold["lr/actor"])])
    agent = agent_of(gold)
    big = Fisor(agent.obs_size, agent.act_size, official())
    for key, made in (("count_here", agent), ("count_default", big)):
        sizes = [
            (sum(p.numel() for p in made.nets[ours].parameters()), gold[f"{key}/{n}"]) for ours, n in NAMES.items()
        ]
        yield worst(f"parameters, {key[6:]} width", [error(a, b) for a, b in sizes])


@contextmanager
def replayed(*stored: Tensor) -> Iterator[None]:
    """The entries of the stored arrays, one after the other, in place of what the generators would draw."""
    rows = iter([row for array in stored for row in array])
    with patch.object(torch, "randn", lambda *a, **k: next(rows)):
        yield


def sampling(gold: Gold) -> Iterator[Row]:
    """Each denoising step from the stored input of that step, and the whole chain."""
    agent = agent_of(gold)
    groups = [("sample", "sample/", agent, gold["sample/states"])]
    state = gold["eval/state"]
    groups.append(("evaluation", "eval/", agent, np.repeat(state[None], len(gold["eval/x_T"]), 0)))
    if "T10/sample/x_T" in gold:
        ten = agent_of(gold, 10)
        states = gold.get("T10/sample/states", gold["sample/states"])
        groups.append(("T = 10", "T10/sample/", ten, states))
        b, t = batch_of(gold), torch.tensor(gold["T10/t"]).float()
        w = torch.tensor(gold["out/w"])
        loss = ten.loss_actor(b["observations"], b["actions"], w, t, torch.tensor(gold["T10/eps"]))
        yield worst("T = 10: loss actor", [error(loss, gold["T10/loss_actor"])])
    for title, group, who, states in groups:
        yield from chain(gold, title, group, who, torch.tensor(states))


def chain(gold: Gold, title: str, group: str, agent: Fisor, states: Tensor) -> Iterator[Row]:
    g, grid, ema = tensors(gold, group), agent.path.grid(), agent.denoiser("actor_ema")
    options = {"variance": "beta", "generators": [torch.Generator()] * len(states)}
    eps, one, whole = [], [], []
    for k in range(grid.steps):
        start = g["x_T"] if k == 0 else g["x"][k - 1]
        t = torch.full((len(start),), float(grid.steps - 1 - k))
        with torch.no_grad():
            eps.append(error(agent.nets["actor_ema"](start, t, {"obs": states}), g["eps_hat"][k]))
        with replayed(g["z"][k][None]):
            part = Grid(grid.a[k : k + 2], grid.s[k : k + 2])
            one.append(error(ddpm(ema, start / grid.s[k], part, {"obs": states}, **options), g["x_preclip"][k]))
    yield worst(f"{title}: noise of each step", eps)
    yield worst(f"{title}: each step from its stored input", one)
    with replayed(g["z"]):
        ddpm(ema, g["x_T"] / grid.s[0], grid, {"obs": states}, clip=(-1.0, 1.0), **options,
             callback=lambda k, x: whole.append(error(x, g["x"][k])))  # fmt: skip
    yield worst(f"{title}: the whole chain", whole)
    with replayed(g["x_T"][None], g["z"]):
        got = agent.sample(states, torch.Generator())
    yield worst(f"{title}: actions", [error(got, g["final"] if "final" in g else g["candidates"])])


def selection(gold: Gold) -> Iterator[Row]:
    """Scores of stored candidates, which of them is taken, and the action choice from end to end."""
    agent, g = agent_of(gold), tensors(gold, "select/")
    states = g["states"].repeat_interleave(g["candidates"].shape[1], 0)
    flat = g["candidates"].flatten(0, 1)
    q_h, q = (f(states, flat).reshape(g["q_min"].shape) for f in (agent.q_h, agent.q))
    yield worst("candidates: Q_h, Q", [error(q_h, g["qh_max"]), error(q, g["q_min"])])
    for pick in ("minqc", "maxq"):
        clear = g[f"margin_{pick}"] > 2 * TOLERANCE * q.abs().max().clamp_min(1)
        row = error(select(q_h, q, pick)[clear], g[f"idx_{pick}"][clear])
        taken = [Row(row.error, row.entries, int((~clear).sum()))]
        e = tensors(gold, "eval/")
        with replayed(e["x_T"][None], e["z"]):
            action = agent.act(e["state"], torch.Generator(), pick=pick)
        yield worst(f"{pick}: candidate taken, action", [*taken, error(action, e[f"action_{pick}"])])


def compare(gold: Gold) -> Iterator[Row]:
    """All quantities of a golden file.

    Raises:
        DataError: an entry is missing, or holds a network that ours cannot be.
    """
    try:
        for part in (networks, losses, steps, updates, schedules, sampling, selection):
            yield from part(gold)
    except KeyError as e:
        raise DataError(f"golden file: no entry {e}. It must have the layout of the official results") from e


def read(path: str | Path) -> Gold:
    """A golden file; DataError when it is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as e:  # TypeError: a single array, .npy
        raise DataError(f"golden file {path}: cannot be read ({e}). Give an .npz file of official results") from e


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", nargs="?", default=DEFAULT, type=Path, help="default: %(default)s")
    path = parser.parse_args().golden
    torch.set_num_threads(1)
    rows = []
    try:
        print(f"{'quantity':<46} {'largest error':>13} {'entries':>9}")
        for row in compare(read(path)):
            rows.append(row)
            note = f"   {row.undecided} not decided by float32" if row.undecided else ""
            print(
                f"{row.quantity:<42} {row.error:>13.2e} {row.entries:>9}{'' if row.passed else '   ABOVE 1e-5'}{note}"
            )
    except DataError as e:
        print(f"fisor_parity: error: {e}", file=sys.stderr)
        return 2
    failed = [r.quantity for r in rows if not r.passed]
    largest = max(rows, key=lambda r: r.error)
    print(
        f"{len(rows)} quantities, {len(failed)} above {TOLERANCE:g}; "
        f"largest error {largest.error:.2e} ({largest.quantity})"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
