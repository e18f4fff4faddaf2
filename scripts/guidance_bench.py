"""Every guidance method where the right answer is known: one table, one page of pictures, and a check of every effect.

  python scripts/guidance_bench.py                    # about two minutes; exit 1 when an effect is missing
  python scripts/guidance_bench.py --samples 400      # quick look

Three worlds with exact denoisers: eight modes of four classes in 16 dimensions; six classes on a ring seen through a
leaky denoiser (it mixes a share of the unconditional answer in); a Gaussian process over trajectories. What needs a
network part that no formula has is a stand-in and says so: "weak" is the same world blurred, "pag" the same world
blurred less. Writes results/guidance_bench.json and results/guidance_bench.png.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safeplan.diffusion import EDM, Cond, Pin, Prediction, Trace, VPCosine, ddim, ddpm
from safeplan.diffusion.analytic import Mixture, Process, ring, smooth_process
from safeplan.evaluation.study import provenance
from safeplan.guidance import (
    APG,
    CFG,
    GFCG,
    ICG,
    MAMBO,
    PAG,
    SHUFFLED,
    TCFG,
    AdaptiveGuidance,
    AutoGuidance,
    Barrier,
    CFGpp,
    CFGZeroStar,
    ClassifierGuidance,
    ConstrictingBarrier,
    EluCD,
    Energy,
    FeedbackGuidance,
    PiGDM,
    Project,
    direct,
    fit_linear_ag,
    unit_schedule,
)
from safeplan.rng import sample_generators, torch_rng
from safeplan.strict_json import write

F64 = torch.float64
ONE, ZERO = torch.ones((), dtype=F64), torch.zeros((), dtype=F64)
Row = dict[str, Any]


@dataclass(frozen=True)
class Leaky:
    """A mixture's denoiser that mixes `leak` of the unconditional answer in; perturbed rows see a blurred world."""

    mix: Mixture
    leak: float = 0.0
    blur: float = 0.0
    capabilities = frozenset({"gradient", "null", "perturb:pag"})

    def __call__(self, x: Tensor, a: Tensor, s: Tensor, cond: Cond, perturb: Any = None) -> Prediction:
        x0 = (1 - self.leak) * self.mix.x0(x, a, s, cond) + self.leak * self.mix.x0(x, a, s, Cond())
        for rows in (perturb or {}).values():
            wide = Mixture(self.mix.means, self.mix.var + self.blur, None, self.mix.labels)
            x0 = torch.where(rows[:, None], wide.x0(x, a, s, cond), x0)
        return Prediction(x0)


def clusters(d: int = 16) -> Mixture:
    """Eight modes at distance 2 from the origin, two for each of four classes."""
    means = torch.randn(8, d, generator=torch_rng(0, "bench"), dtype=F64)
    means = 2.0 * means / means.norm(dim=1, keepdim=True)
    return Mixture(means, 0.35, None, torch.arange(8) % 4)


def figures(mix: Mixture, x: Tensor, label: Tensor) -> Row:
    """Class accuracy, entropy of the modes (nats), norm and within-mode variance relative to the data's."""
    own = torch.arange(len(mix.means)) if mix.labels is None else mix.labels
    logits = mix.logits(x, ONE, ZERO)
    classes = torch.stack([logits[:, own == k].logsumexp(1) for k in range(int(own.max()) + 1)], 1)
    mode = logits.masked_fill(own != label[:, None], -math.inf).argmax(1)
    share = torch.bincount(mode, minlength=len(own)).double() / len(x)
    data = (mix.means.square().sum(1).mean() + mix.var * x.shape[1]).sqrt()
    return {
        "accuracy": (classes.argmax(1) == label).double().mean().item(),
        "mode_entropy": -(share * share.clamp_min(1e-12).log()).sum().item(),
        "norm": (x.square().sum(1).mean().sqrt() / data).item(),
        "within_variance": ((x - mix.means[mode]).square().mean() / mix.var).item(),
    }


def mixture_rows(mix: Mixture, net: Leaky, n: int, steps: int, seed: int) -> tuple[list[Row], dict[str, Tensor]]:
    """All methods for classes on one mixture; samples by method."""
    own = torch.arange(len(mix.means)) if mix.labels is None else mix.labels
    k, grid = int(own.max()) + 1, EDM(sigma_max=20.0).grid(steps)
    z = torch.randn(n, mix.means.shape[1], generator=torch_rng(seed, "noise"), dtype=F64)
    label = torch.arange(n) % k
    cond = {"label": label}
    blurred = Leaky(Mixture(mix.means, mix.var + 0.15, None, mix.labels), net.leak)

    def noisy(x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        logits = mix.logits(x, a, s)
        return torch.stack([logits[:, own == j].logsumexp(1) for j in range(k)], 1)

    def clean(x: Tensor) -> Tensor:
        return noisy(x, ONE, ZERO + 0.5)

    def run(chain: tuple, trace: Trace | None = None) -> Tensor:
        nets = {"main": net, "weak": blurred}
        return ddim(nets, z, grid, cond, chain, trace=trace)

    adaptive = AdaptiveGuidance(CFG(4.0), 0.99)
    methods: dict[str, tuple] = {
        "conditional": (),
        "CFG 2": (CFG(2.0),),
        "CFG 4": (CFG(4.0),),
        "CFG 10": (CFG(10.0),),
        "CFG 4, sigma in [0.3, 5]": (CFG(4.0, interval=(0.3, 5.0)),),
        "APG 4": (APG(4.0),),
        "APG 10": (APG(10.0),),
        "APG 10, momentum -0.5": (APG(10.0, momentum=-0.5),),
        "CFG++ 0.6": (CFGpp(0.6),),
        "AG 0.99 of CFG 4": (adaptive,),
        "LinearAG of CFG 4": (fit_linear_ag(run, list(range(3, steps // 2, 2)), 4.0, order=2, stop=steps // 2),),
        "autoguidance 2 (blurred world)": (AutoGuidance(2.0),),
        "PAG 1 (stand-in)": (PAG(1.0),),
        "ICG 2": (ICG(2.0, SHUFFLED),),
        "GFCG 1": (GFCG(clean, 1.0),),
        "GFCG 3": (GFCG(clean, 3.0),),
        "null and classifier 4 (exact noisy posterior)": (CFG(0.0), ClassifierGuidance(noisy, 4.0)),
        "EluCD": (EluCD(clean, unit_schedule(grid, 0.1), unit=True),),
        "feedback": (FeedbackGuidance(pi=0.9),),
        "CFG-Zero* 4": (CFGZeroStar(4.0),),
        "TCFG 4": (TCFG(4.0),),
        "MAMBO 10": (MAMBO(10.0, alpha=2.0),),
    }
    rows, samples, base = [], {}, run((CFG(4.0),))
    for name, chain in methods.items():
        trace = Trace()
        x = run(chain, trace)
        samples[name] = x
        off = (x - base).square().mean().sqrt().item()
        nfe = trace.total_nfe().double().mean().item()
        rows.append({"method": name, **figures(mix, x, label), "nfe": nfe, "rms_from_cfg_4": off})
    return rows, samples


def roughness(x: Tensor) -> float:
    """Root mean square of second differences."""
    return x[..., 0].diff(n=2, dim=1).square().mean().sqrt().item()


def trajectory_rows(n: int, steps: int, seed: int) -> tuple[list[Row], dict[str, Tensor]]:
    """Constraint x[8] >= 1, a pinned start and a quadratic cost on a Gaussian process, against exact answers."""
    gp, grid = smooth_process(), VPCosine(t_max=0.995).grid(steps)
    z = torch.randn(n, 16, 1, generator=torch_rng(seed, "noise"), dtype=F64)
    draw = lambda *chain, cond=None: ddim(gp, z, grid, cond, chain)  # noqa: E731
    exact = torch.linalg.cholesky(gp.cov)
    data = (torch.randn(60 * n, 16, generator=torch_rng(seed, "data"), dtype=F64) @ exact.T)[..., None]
    kept = data[data[:, 8, 0] >= 1.0]
    smooth = roughness(kept)
    h = lambda v: v[:, 8, 0] - 1.0  # noqa: E731

    def lift(v: Tensor) -> Tensor:
        out = v.clone()
        out[:, 8] = out[:, 8].clamp_min(1.0)
        return out

    samples = {
        "no guidance": draw(),
        "projection of the result": lift(draw()),
        "projection of x0": draw(Project(lift)),
        "constricting tube": draw(ConstrictingBarrier(h)),
        "barrier, Euclidean": draw(Barrier(h, metric="identity")),
        "barrier, posterior metric": draw(Barrier(h)),
        "barrier, posterior metric, aim only": draw(Barrier(h, fields="aim")),
    }
    rows = [
        {
            "method": name,
            "satisfied": (x[:, 8] >= 1.0 - 1e-6).double().mean().item(),
            "mean_error": (x.mean(0) - kept.mean(0)).square().mean().sqrt().item(),
            "roughness": roughness(x) / smooth,
        }
        for name, x in samples.items()
    ]
    return rows, samples


def tilt_rows(n: int, steps: int, seed: int) -> list[Row]:
    """N(0, 1) tilted by exp(-2 (v - 1.5)^2): the answer is N(1.2, 0.2). And a start state, pinned or measured."""
    gauss = Process(torch.ones(1, 1, dtype=F64), torch.zeros(1, dtype=F64))
    z = torch.randn(n, 1, 1, generator=torch_rng(seed, "tilt"), dtype=F64)
    cost = lambda v: 2.0 * (v - 1.5).square().flatten(1).sum(1)  # noqa: E731
    grid = VPCosine().grid(steps)
    rows = []
    for name, method in {
        "proximal, posterior metric": Energy(cost),
        "explicit (DPS, universal)": Energy(cost, proximal=False),
        "DiRecT": direct(cost),
    }.items():
        x = ddim(gauss, z, grid, None, (method,))
        rows.append({"method": name, "mean": x.mean().item(), "variance": x.var().item()})
    x = ddpm(gauss, z, grid, None, (direct(cost),), generators=sample_generators(seed, n, "direct"))
    rows.append({"method": "DiRecT, ancestral steps", "mean": x.mean().item(), "variance": x.var().item()})
    gp, fine = smooth_process(), VPCosine(t_max=0.995).grid(2 * steps)
    w = torch.randn(n, 16, 1, generator=torch_rng(seed, "pin"), dtype=F64)
    mask = torch.zeros(1, 16, 1, dtype=torch.bool)
    mask[:, 0] = True
    pin = Cond(pin=Pin(mask, torch.full((n, 16, 1), 1.5, dtype=F64)))
    want = gp.conditioned(pin)[0][0, 1:6]
    start = lambda v: torch.cat([torch.full_like(v[:, :1], 1.5), v[:, 1:]], 1)  # noqa: E731
    measured = PiGDM(lambda v: v[:, 0], torch.tensor([1.5], dtype=F64), 1e-3, exact=True)
    for name, x in {
        "start pinned in training": ddim(gp, w, fine, pin),
        "start measured (PiGDM, exact)": ddim(gp, w, fine, None, (measured,)),
        "start written into x0": ddim(gp, w, fine, None, (Project(start),)),
    }.items():
        rows.append({"method": name, "mean_error": (x[:, 1:6, 0].mean(0) - want).abs().mean().item()})
    return rows


def checks(cluster: list[Row], leaky: list[Row], paths: list[Row], tilts: list[Row], steps: int) -> dict[str, bool]:
    """The effects that the methods are known for, in direction and size."""
    c, q, p, t = ({r["method"]: r for r in rows} for rows in (cluster, leaky, paths, tilts))
    plain, barrier = c["conditional"], p["barrier, posterior metric"]
    return {
        "CFG raises accuracy": c["CFG 4"]["accuracy"] > plain["accuracy"] + 0.01,
        "CFG inflates norms by a third, APG keeps them within a tenth": c["CFG 10"]["norm"] > 4 / 3 * plain["norm"]
        and abs(c["APG 10"]["norm"] / plain["norm"] - 1) < 0.1,
        "APG keeps the accuracy of CFG": c["APG 10"]["accuracy"] > c["CFG 10"]["accuracy"] - 0.02,
        # .018 to .021 nats, as the processor draws its noise; the error of 4,000 samples is .003
        "CFG loses modes": c["CFG 10"]["mode_entropy"] < plain["mode_entropy"] - 0.01,
        "the interval keeps modes and saves evaluations": c["CFG 4, sigma in [0.3, 5]"]["mode_entropy"]
        >= c["CFG 4"]["mode_entropy"] - 1e-3
        and c["CFG 4, sigma in [0.3, 5]"]["nfe"] < 0.75 * c["CFG 4"]["nfe"],
        "AG saves at least a tenth at next to no change": c["AG 0.99 of CFG 4"]["nfe"] < 1.8 * steps
        and c["AG 0.99 of CFG 4"]["rms_from_cfg_4"] < 0.03,
        "LinearAG saves more than a third at next to no change": c["LinearAG of CFG 4"]["nfe"] < 1.35 * steps
        and c["LinearAG of CFG 4"]["rms_from_cfg_4"] < 0.03,
        "the exact noisy classifier is CFG": c["null and classifier 4 (exact noisy posterior)"]["rms_from_cfg_4"]
        < 1e-6,
        "autoguidance keeps the modes": c["autoguidance 2 (blurred world)"]["mode_entropy"]
        > c["CFG 4"]["mode_entropy"],
        "GFCG raises accuracy through a leaky denoiser": q["GFCG 3"]["accuracy"] > q["conditional"]["accuracy"] + 0.005,
        "and keeps the spread that CFG loses": q["GFCG 1"]["within_variance"] > 1.5 * q["CFG 2"]["within_variance"],
        "a proximal step samples the tilt": abs(t["proximal, posterior metric"]["mean"] - 1.2) < 0.03
        and abs(t["proximal, posterior metric"]["variance"] - 0.2) < 0.04,
        "an explicit one overshoots": t["explicit (DPS, universal)"]["mean"] > 1.5,
        "DiRecT stops at the goal 1.5 where steps renew the noise, and passes it where they keep it": 1.45
        < t["DiRecT, ancestral steps"]["mean"]
        < 1.55
        < 1.65
        < t["DiRecT"]["mean"],
        "a start state by PiGDM is as good as a trained pin": t["start measured (PiGDM, exact)"]["mean_error"]
        < 0.05
        < t["start written into x0"]["mean_error"],
        "barriers satisfy": min(r["satisfied"] for r in paths if r["method"] != "no guidance") == 1.0,
        "the posterior metric stays smooth": barrier["roughness"] < 1.2
        and barrier["roughness"] < 0.7 * p["barrier, Euclidean"]["roughness"],
        "projecting the result is roughest": p["projection of the result"]["roughness"]
        == max(r["roughness"] for r in paths),
    }


def page(path: Path, leaky: dict[str, Tensor], rows: list[Row], paths: dict[str, Tensor], path_rows: list[Row]) -> None:
    """Samples of every method on the ring, then trajectories."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    total, wide = len(leaky) + len(paths), 8
    high = math.ceil(total / wide)
    fig = Figure(figsize=(2.3 * wide, 2.55 * high), layout="constrained")
    axes = list(fig.subplots(high, wide).flat)
    by = {r["method"]: r for r in rows}
    for ax, (name, x) in zip(axes, leaky.items(), strict=False):
        label = torch.arange(len(x)) % 6
        ax.scatter(*x[:1200].T, c=label[:1200], cmap="tab10", vmax=9, s=2, linewidths=0)
        r = by[name]
        ax.set_title(f"{name}\nacc {r['accuracy']:.3f}, NFE {r['nfe']:.0f}", fontsize=7)
        ax.set(xlim=(-4.2, 4.2), ylim=(-4.2, 4.2), aspect="equal", xticks=[], yticks=[])
    rough = {r["method"]: r["roughness"] for r in path_rows}
    for ax, (name, x) in zip(axes[len(leaky) :], paths.items(), strict=False):
        ax.plot(x[:25, :, 0].T, lw=0.6, color="tab:blue", alpha=0.6)
        ax.plot([8], [1.0], "v", color="tab:red", ms=5)
        ax.set_title(f"{name}\nroughness {rough[name]:.2f}", fontsize=7)
        ax.set(ylim=(-3, 4), xticks=[], yticks=[])
    for ax in axes[total:]:
        ax.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=110)


def show(title: str, rows: list[Row]) -> None:
    """One table on the terminal."""
    keys = list(dict.fromkeys(k for r in rows for k in r))
    cells = [keys, *([f"{r[k]:.3f}" if isinstance(r.get(k), float) else str(r.get(k, "")) for k in keys] for r in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    print(f"\n{title}")
    for line in cells:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args(argv)
    n, steps, seed = args.samples, args.steps, args.seed
    cluster, _ = mixture_rows(clusters(), Leaky(clusters(), blur=0.1), n, steps, seed)
    six = ring(6, 2.0, 0.08)
    leaky, pictures = mixture_rows(six, Leaky(six, leak=0.15, blur=0.1), n, steps, seed)
    paths, drawn = trajectory_rows(n, steps // 2, seed)
    tilts = tilt_rows(n, 2 * steps, seed)
    found = checks(cluster, leaky, paths, tilts, steps)
    tables = {"clusters": cluster, "leaky_ring": leaky, "trajectories": paths, "tilts": tilts}
    for title, rows in tables.items():
        show(title, rows)
    print()
    for name, ok in found.items():
        print(f"{'ok     ' if ok else 'MISSING'} {name}")
    result = {
        "rows": [{**r, "world": k} for k, v in tables.items() for r in v],
        "effects": found,
        "settings": {"samples": n, "steps": steps, "seed": seed},
        "made_with": provenance(),
        "note": f"{n} samples, {steps} steps, seed {seed}; exact denoisers",
    }
    write(args.out / "guidance_bench.json", result)
    page(args.out / "guidance_bench.png", pictures, leaky, drawn, paths)
    print(f"results: {args.out}/guidance_bench.json, {args.out}/guidance_bench.png")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
