"""Guidance methods and scales on images at an equal number of network evaluations. Killed, the same command goes on.

  python scripts/image_table.py mnist
  python scripts/image_table.py mnist --runs none cfg:w=2 cfg:w=4,sigma_max=5 --n 500 --seeds 2

A run is a chain: methods joined by +, each with settings as in guidance.METHOD.SETTING. Steps are chosen so that a
sample costs at most --nfe evaluations. Features and labels come from judge.safetensors, which no guidance uses. Writes
results/image_table_SET.study.jsonl (a line per run and seed) and results/image_table_SET.json, and prints the table.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from safeplan import build, schema
from safeplan.build.images import Artist
from safeplan.errors import ConfigError
from safeplan.evaluation.stats import stratified_bootstrap
from safeplan.evaluation.study import by_planner, run_study
from safeplan.imaging import balanced, load_images, metrics, to_bytes
from safeplan.strict_json import write
from safeplan.training import load

SCALES = (1.5, 2.0, 3.0, 5.0, 8.0)
COLUMNS = ("fd", "precision", "recall", "accuracy", "clipped", "saturation", "nfe", "seconds")


def default_runs() -> list[str]:
    """No guidance, and every method with a scale w that needs nothing but labels, at SCALES."""
    found = ["none"]
    for name in build.METHODS:
        if name != "energy" and hasattr(getattr(schema.GuidanceConfig(), name), "w"):
            found += [f"{name}:w={w:g}" for w in SCALES]
    return found


def parse(run: str) -> schema.GuidanceConfig:
    """`cfg:w=2,sigma_max=5+pag:s=3` as settings.

    Raises:
        ConfigError: no such method or setting.
    """
    cfg = schema.GuidanceConfig()
    for part in () if run == "none" else run.split("+"):
        name, _, text = part.partition(":")
        schema.one_of("--runs", name, schema.GUIDANCE)
        values: dict[str, Any] = {}
        settings = getattr(cfg, name)
        for item in filter(None, text.split(",")):
            key, _, value = item.partition("=")
            if not hasattr(settings, key):
                raise ConfigError(f"--runs {run}: {name} has no setting {key!r}; it has {', '.join(vars(settings))}")
            kind = type(getattr(settings, key))
            values[key] = kind(value) if kind in (int, float, str) else json.loads(value)
        setattr(cfg, name, replace(settings, **values))
        cfg.chain.append(name)
    return cfg


def steps_for(artist: Artist, budget: int, sampler: str) -> int:
    """The most steps that cost one sample at most `budget` evaluations."""
    steps = budget
    while steps > 1:
        spent = int(artist.model.sample([0], artist.steer, steps, sampler=sampler, networks=artist.networks).nfe[0])
        if spent <= budget:
            break
        steps = max(1, min(steps - 1, steps * budget // spent))
    return steps


@lru_cache(maxsize=2)
def reference(kind: str, data: str | None, weights: str, n: int) -> Any:
    """The judge, with features and moments of `n` real training images."""
    judge = load(build.shipped_weights(kind, "judge") if weights == "auto" else Path(weights) / "judge.safetensors")
    features, _ = judge.apply_to(torch.from_numpy(load_images(kind, "train", data).images[:n]))
    return judge, features, metrics.moments(features)


def work(settings: dict[str, Any], data: str | None, device: str, run: str, seed: int) -> dict[str, Any]:
    """Draw and judge one run with one seed."""
    import time

    s, folder = settings, settings["weights"]
    model = schema.ModelConfig(s["set"])
    if folder != "auto":
        files = {"weights": "image", "weak": "weak", "classifier": "classifier"}
        model = replace(model, **{k: f"{folder}/{v}.safetensors" for k, v in files.items()})
    artist = build.artist(model, parse(run), device)
    steps = steps_for(artist, s["nfe"], s["sampler"])
    labels, began = balanced(s["n"], len(artist.model.classes)), time.perf_counter()
    drawn = artist.model.sample(
        labels, artist.steer, steps, seed, sampler=s["sampler"], networks=artist.networks, batch=128
    )
    seconds = time.perf_counter() - began
    judge, real, real_moments = reference(s["set"], data, folder, s["real"])
    pixels = to_bytes(drawn.images).cpu()  # what a viewer would see
    features, probabilities = judge.apply_to(pixels)
    covered = metrics.precision_recall(real[: s["n"]], features)
    return {
        "steps": steps,
        "fd": metrics.frechet(metrics.moments(features), real_moments),
        "precision": covered.precision,
        "recall": covered.recall,
        "accuracy": metrics.accuracy(probabilities, drawn.labels),
        "clipped": metrics.clipped(drawn.images),
        "saturation": metrics.saturation(pixels) if pixels.shape[1] == 3 else None,
        "nfe": float(drawn.nfe.float().mean()),
        "seconds": round(seconds, 2),
    }


def table(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per run: mean over seeds of every column, with its bootstrap interval over seeds."""
    out = {}
    for run, mine in by_planner(rows).items():
        out[run] = {"seeds": len(mine), "steps": mine[0]["steps"]}
        for key in COLUMNS:
            if mine[0][key] is not None:
                values = np.array([[r[key]] for r in mine])
                out[run][key] = stratified_bootstrap(values, lambda v: float(v.mean()))._asdict()
    return out


def markdown(summary: dict[str, Any]) -> str:
    """The table, one line per run."""
    shown = [k for k in COLUMNS if any(k in row for row in summary.values())]
    lines = ["| run | steps | " + " | ".join(shown) + " |", "| --- " * (len(shown) + 2) + "|"]
    for run, row in summary.items():
        cells = [f"{row[k]['estimate']:.3g} [{row[k]['low']:.3g}, {row[k]['high']:.3g}]" for k in shown]
        lines.append(f"| {run} | {row['steps']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=schema.IMAGES)
    parser.add_argument("--runs", nargs="+", help="default: none, and each method with a w at " + str(SCALES))
    parser.add_argument("--n", type=int, default=2000, help="samples per run and seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--nfe", type=int, default=32, help="most evaluations per sample")
    parser.add_argument("--sampler", default="dpmpp_2m", choices=schema.SAMPLERS)
    parser.add_argument("--real", type=int, default=10_000, help="training images that the distance is taken to")
    parser.add_argument("--data", help="folder with the images; default: $SAFEPLAN_DATA, or download")
    parser.add_argument("--weights", default="auto", help="folder that make_image_weights.py wrote, or auto (shipped)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results"))
    a = parser.parse_args()
    runs = a.runs or default_runs()
    try:
        for run in runs:
            parse(run)  # a fault must not wait for its turn
    except ConfigError as e:
        parser.error(str(e))
    settings = {k: getattr(a, k) for k in ("set", "n", "nfe", "sampler", "real", "weights")}
    path = a.out / f"image_table_{a.set}.study.jsonl"
    device = build.device(a.device)
    doing = partial(work, settings, a.data, device)
    header, rows = run_study(
        doing, runs, range(a.seeds), path, settings, processes=a.processes, device=device, kinds={}
    )
    summary = table(rows)
    target = path.with_name(f"image_table_{a.set}.json")
    write(target, {**header, "runs": summary})
    print(markdown(summary))
    print(f"results: {target} ({path.name})")


if __name__ == "__main__":
    main()
