"""What guidance costs beyond the network, and against the guiders of diffusers on the same network in the same run.

  python scripts/benchmark_guidance.py                # image and trajectory networks, B = 1, 16, 256
  python scripts/benchmark_guidance.py --quick        # B = 1 and 16, fewer rounds
  python scripts/benchmark_guidance.py --device cuda  # to results/benchmark_guidance_cuda.json

`overhead`: time of one guided step over that of the network alone on as many rows in the same pieces (equal
evaluations), less one. `diffusers`: time of one forward per branch and the guider's own step, over ours. The row cap
of the stacked forward is measured first. What is compared is timed call by call in turn, in CPU time of the one thread
that works (on a GPU: in blocks, in wall time until the device is done), so that other load on the machine counts
little; figures are medians over rounds of paired ratios.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from diffusers.utils.logging import set_verbosity_error
from tqdm import tqdm

from safeplan.diffusion import Context, Denoiser, Guidance, VPCosine, conditions, denoise, measured_row_cap
from safeplan.diffusion.cond import concat
from safeplan.evaluation.study import provenance
from safeplan.guidance import (
    APG,
    CFG,
    FACFG,
    FDG,
    MAMBO,
    PAG,
    TCFG,
    AdaptiveGuidance,
    CFGpp,
    CFGZeroStar,
    FeedbackGuidance,
    Rescale,
)
from safeplan.imaging import ImageConfig, LabelUNet
from safeplan.nets import TemporalUNet
from safeplan.strict_json import write

CLASSES = 10
WORK = ("ours", "bare", "theirs")  # what is timed of a case
AFFINE = ("CFG", "CFG++", "CFG + PAG", "FA-CFG")


def networks(device: str) -> dict[str, tuple[Denoiser, tuple[int, ...]]]:
    """Name -> (denoiser of the shipped size with random weights, shape of a sample)."""
    torch.manual_seed(0)
    image = LabelUNet(1, CLASSES, ImageConfig()).eval().requires_grad_(False).to(device)
    path = TemporalUNet(12, {"label": CLASSES}, width=32).eval().requires_grad_(False).to(device)

    def one_hot(x: Any, t: Any, leaves: Any, null: Any) -> Any:
        return path(x, t, {"label": torch.nn.functional.one_hot(leaves["label"], CLASSES).to(x.dtype)}, null)

    one_hot.learned_null = True  # type: ignore[attr-defined]
    return {
        "image U-Net": (Denoiser(image, VPCosine(), "v"), (1, 32, 32)),
        "trajectory U-Net": (Denoiser(one_hot, VPCosine(), "v"), (24, 12)),
    }


def chains(net: Denoiser) -> dict[str, tuple[Guidance, ...]]:
    """Methods by name."""
    out: dict[str, tuple[Guidance, ...]] = {
        "CFG": (CFG(3.0),),
        "CFG++": (CFGpp(0.6),),
        "FA-CFG": (FACFG(),),
        "APG": (APG(3.0, r=0.1, momentum=-0.5),),
        "CFG + rescale": (CFG(3.0), Rescale(0.7)),
        "CFG-Zero*": (CFGZeroStar(3.0, zero=0.0),),
        "TCFG": (TCFG(3.0),),
        "MAMBO": (MAMBO(3.0),),
        "FDG": (FDG(),),
        "AG": (AdaptiveGuidance(CFG(3.0), 1.1),),
        "feedback": (FeedbackGuidance(),),
    }
    if "perturb:pag" in net.capabilities:
        out["CFG + PAG"] = (CFG(3.0), PAG(2.0))
    return out


def guiders(name: str) -> Any:
    """The guider of diffusers for a method, or None."""
    from diffusers.guiders.adaptive_projected_guidance import AdaptiveProjectedGuidance
    from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance
    from diffusers.guiders.classifier_free_zero_star_guidance import ClassifierFreeZeroStarGuidance
    from diffusers.guiders.tangential_classifier_free_guidance import TangentialClassifierFreeGuidance

    make: dict[str, Callable[[], Any]] = {
        "CFG": lambda: ClassifierFreeGuidance(3.0),
        "CFG + rescale": lambda: ClassifierFreeGuidance(3.0, guidance_rescale=0.7),
        "APG": lambda: AdaptiveProjectedGuidance(
            2.0, -0.5, adaptive_projected_guidance_rescale=3.0, eta=0.0, use_original_formulation=True
        ),
        "CFG-Zero*": lambda: ClassifierFreeZeroStarGuidance(3.0, zero_init_steps=0),
        "TCFG": lambda: TangentialClassifierFreeGuidance(3.0),
    }
    if name not in make:
        return None
    guider = make[name]()
    guider.set_state(step=0, num_inference_steps=10, timestep=torch.tensor(500))
    if hasattr(guider, "momentum_buffer"):
        from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer

        guider.momentum_buffer = MomentumBuffer(-0.5)
    return guider


def timed(case: dict[str, Any], seconds: float, device: str) -> dict[str, float]:
    """Seconds per call of what is timed of a case: CPU time, call by call in turn, for about `seconds` each.

    On a GPU wall time, each block of calls until the device is done.
    """
    work = {k: case[k] for k in WORK if case[k]}
    spent, count = dict.fromkeys(work, 0.0), 0
    if device == "cpu":
        while count == 0 or sum(spent.values()) < seconds * len(work):
            for key, run in work.items():
                begin = time.process_time()
                run()
                spent[key] += time.process_time() - begin
            count += 1
        return {k: v / count for k, v in spent.items()}
    for key, run in work.items():
        torch.cuda.synchronize()
        begin, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - begin < seconds:
            run()
            count += 1
        torch.cuda.synchronize()
        spent[key] = (time.perf_counter() - begin) / count
    return spent


def cases(net: Denoiser, shape: tuple[int, ...], batch: int, cap: int, device: str) -> list[dict[str, Any]]:
    """What is timed for one network and batch: per method, ours, the bare network and diffusers."""
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch)).to(device)
    conds = conditions({"label": torch.arange(batch, device=device) % CLASSES})
    a = s = torch.tensor(0.5**0.5, dtype=torch.float64)
    ctx = Context(x, a, s, 1.0, 3, conds, sigma_next=0.8, steps=10)
    cond, null = conds["cond"], conds["null"]
    out: list[dict[str, Any]] = []
    for name, chain in chains(net).items():
        states = tuple(m.init(ctx) for m in chain)
        branches = 1 + len({b for m, st in zip(chain, states, strict=True) for b in m.needs(ctx, st)})
        rows, tail = branches * batch, [1] * (x.ndim - 1)
        both = concat([cond, *[null] * (branches - 1)])
        pieces = [slice(i, i + cap) for i in range(0, rows, cap)]
        inputs = [(x.repeat(branches, *tail)[i], both.take(i)) for i in pieces]

        def ours(chain: Any = chain, states: Any = states) -> Any:
            return denoise(net, ctx, chain, states, max_rows=cap)

        def bare(inputs: Any = inputs) -> Any:
            return [net(z, a, s, c) for z, c in inputs]

        guider = guiders(name)

        def theirs(guider: Any = guider) -> Any:
            return guider.forward(net(x, a, s, cond).x0, net(x, a, s, null).x0)

        out.append({"method": name, "branches": branches, "ours": ours, "bare": bare, "theirs": guider and theirs})
    return out


def aims(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was aimed at, whether it is so in every row, and the worst row."""
    affine = [(r["overhead"], r) for r in rows if r["method"] in AFFINE]
    rivals = [(r["diffusers_over_ours"], r) for r in rows if r["diffusers_over_ours"] is not None]
    single = [(v, r) for v, r in rivals if r["B"] == 1]
    found = []
    for aim, values, worst, met in (
        ("affine methods cost at most 3 % over the network", affine, max, lambda v: v <= 0.03),
        ("never slower than diffusers", rivals, min, lambda v: v >= 1),
        ("1.5x faster than diffusers at B = 1", single, min, lambda v: v >= 1.5),
    ):
        value, row = worst(values, key=lambda pair: pair[0])
        shown = f"{value:.1%}" if worst is max else f"{value:.2f}x"
        count = sum(bool(met(v)) for v, _ in values)
        note = f"{count} of {len(values)} rows; worst {shown} ({row['network']}, B = {row['B']}, {row['method']})"
        found.append({"aim": aim, "met": count == len(values), "note": note})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each timing in each round")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, help="default: results/benchmark_guidance[_cuda].json")
    args = parser.parse_args()
    device = args.device
    args.out = args.out or Path("results") / f"benchmark_guidance{'' if device == 'cpu' else '_cuda'}.json"
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch sees no CUDA device here; leave --device out")
    if args.quick:
        args.batches, args.rounds, args.seconds = [1, 16], 3, 0.1
    torch.set_num_threads(1)
    set_verbosity_error()  # the guiders say at each construction that they are experimental
    rows: list[dict[str, Any]] = []
    caps = {}
    with torch.no_grad():
        for net_name, (net, shape) in networks(device).items():
            x = torch.randn(64, *shape, generator=torch.Generator().manual_seed(0)).to(device)
            label = torch.arange(64, device=device) % CLASSES
            cap = caps[net_name] = measured_row_cap(net, x, {"label": label}, largest=1024)
            print(f"{net_name}: row cap {cap}")
            for batch in args.batches:
                work = cases(net, shape, batch, cap, device)
                for case in work:
                    for key in WORK:
                        if case[key]:
                            case[key]()
                times: list[dict[str, list[float]]] = [{k: [] for k in WORK} for _ in work]
                for _ in tqdm(range(args.rounds), desc=f"{net_name}, B = {batch}", disable=None):
                    for case, t in zip(work, times, strict=True):
                        for key, value in timed(case, args.seconds, device).items():
                            t[key].append(value)
                for case, t in zip(work, times, strict=True):
                    over = [o / b - 1 for o, b in zip(t["ours"], t["bare"], strict=True)]
                    ratio = [v / o for v, o in zip(t["theirs"], t["ours"], strict=False)]
                    row = {"network": net_name, "B": batch, "method": case["method"], "branches": case["branches"]}
                    row |= {"ms": 1e3 * median(t["ours"]), "overhead": median(over)}
                    row |= {"diffusers_over_ours": median(ratio) if ratio else None}
                    rows.append(row)
                    beside = f"{row['diffusers_over_ours']:.2f}x" if ratio else "-"
                    print(
                        f"{net_name:18}{batch:4d}  {case['method']:14}{row['ms']:10.2f} ms"
                        f"{100 * row['overhead']:8.1f} %   diffusers / ours {beside}"
                    )
    found = aims(rows)
    said = [f"{f['aim']}: {'met' if f['met'] else 'MISSED'} ({f['note']})" for f in found]
    result = {
        "rows": rows,
        "aims": found,
        "row_cap": caps,
        "settings": {k: v for k, v in vars(args).items() if k != "out"},
        "load": os.getloadavg()[0],
        "made_with": provenance(device) | {"threads": "1"},
        "note": f"row cap measured: {caps}; one thread; load average {os.getloadavg()[0]:.1f}. "
        + "; ".join(said)
        + ".",
    }
    write(args.out, result)
    print(*said, sep="\n")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
