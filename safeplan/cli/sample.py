"""Draw images of given classes with a guidance chain: a labelled grid and what it was made with.

  safeplan sample model=mnist guidance=cfg guidance.cfg.w=3 n=64
  safeplan sample model=mnist guidance=none labels=[3,8] sampler=dpmpp_2m steps=12
  safeplan sample model=mnist guidance=pag labels=[-1]
  safeplan sample model=mnist model.weights=runs/train_image_mnist/seed_0 seed=1

labels=[-1] draws images of no class in particular. Writes samples.png, trace.png (what the chain did, step by step) and
samples.json under runs/NAME/seed_SEED.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm.auto import tqdm

from safeplan import build
from safeplan.cli.app import shown
from safeplan.schema import SampleConfig as Config
from safeplan.strict_json import write


def nested(overrides: Sequence[str]) -> dict[str, type]:
    """Settings whose type the schema leaves open."""
    return {}


def arguments(argv: Sequence[str]) -> list[str]:
    """Nothing to translate."""
    return list(argv)


def run(cfg: Config, out: Path) -> str:
    """Draw, write the picture and the record."""
    from safeplan.evaluation.study import provenance
    from safeplan.evaluation.trace_plot import trace_figure
    from safeplan.imaging import UNLABELLED, balanced
    from safeplan.imaging.grid import save_grid

    device = build.device(cfg.device)
    artist = build.artist(cfg.model, cfg.guidance, device, steps=cfg.steps)
    model = artist.model
    labels = balanced(cfg.n, len(model.classes), cfg.labels)
    began = time.perf_counter()
    with tqdm(total=cfg.n * cfg.steps, unit="step", disable=None, leave=False) as bar:
        drawn = model.sample(
            labels,
            artist.chain,
            cfg.steps,
            cfg.seed,
            sampler=cfg.sampler,
            networks=artist.networks,
            batch=cfg.batch,
            bf16=cfg.bf16,
            progress=bar.update,
        )
    seconds = time.perf_counter() - began
    names = [model.classes[i] if i != UNLABELLED else "no label" for i in labels]
    save_grid(out / "samples.png", drawn.images, names, columns=len(cfg.labels) or len(model.classes))
    chain = ", ".join(cfg.guidance.chain) or "no guidance"
    trace_figure(drawn.traces, out / "trace.png", f"{model.name}, {chain}:")
    nfe = drawn.nfe.float()
    record = {
        "model": asdict(cfg.model),
        "seed": cfg.seed,
        "n": cfg.n,
        "labels": labels,
        "sampler": cfg.sampler,
        "steps": cfg.steps,
        "chain": [{"method": name, **asdict(getattr(cfg.guidance, name))} for name in cfg.guidance.chain],
        "cite": [m.citation() for m in artist.chain],
        "nfe": {"mean": float(nfe.mean()), "min": int(nfe.min()), "max": int(nfe.max())},
        "seconds": round(seconds, 3),
        "made_with": provenance(device),
    }
    write(out / "samples.json", record)
    print(f"{cfg.n} images of {model.name} with {chain}: {nfe.mean():.1f} evaluations each, {seconds:.1f} s.")
    return f"results: {shown(out)}/ (samples.png, trace.png, samples.json)"
