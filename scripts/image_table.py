"""Guidance methods and scales on images at an equal number of network evaluations. Killed, the same command goes on.

  python scripts/image_table.py                                    # MNIST, all runs, shipped weights; hours
  python scripts/image_table.py mnist --runs none cfg:w=2 adaptive:w=3@16 unlabelled+pag:s=1 --n 500
  python scripts/image_table.py fashion --weights FOLDER --device cuda

A run is a chain: methods joined by +, each with settings as in guidance.METHOD.SETTING; `unlabelled` in front of it
draws images of no class in particular; @16 sets the steps, which otherwise are the most that cost --nfe evaluations a
sample. Features and labels come from judge.safetensors, which no guidance uses. Writes image_table_SET.study.jsonl (a
line per run and seed), .json (means over seeds with 95 % intervals by a jackknife over samples) and .png (the first ten
images of every run) to results/, and prints the table and which of the known effects were found.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from safeplan import build, schema
from safeplan.build.images import Artist
from safeplan.errors import ConfigError
from safeplan.evaluation.stats import jackknife
from safeplan.evaluation.study import by_planner, run_study
from safeplan.imaging import UNLABELLED, balanced, load_images, metrics, to_bytes
from safeplan.imaging.grid import save_grid
from safeplan.strict_json import write
from safeplan.training import load

RUNS = (
    *("none", "cfg:w=1.5", "cfg:w=2", "cfg:w=3", "cfg:w=5", "cfg:w=8", "apg:w=2", "apg:w=3", "apg:w=5", "apg:w=8"),
    *("adaptive:w=2@16", "adaptive:w=3@16", "autoguidance:w=1.5", "autoguidance:w=2", "autoguidance:w=3"),
    *("pag:s=0.5", "pag:s=1", "pag:s=2", "gfcg:s=1", "gfcg:s=4", "gfcg:s=4,net=weak+autoguidance:w=2"),
    *("unlabelled", "unlabelled+pag:s=0.5", "unlabelled+pag:s=1", "unlabelled+pag:s=2"),
    *("unlabelled+autoguidance:w=1.5", "unlabelled+autoguidance:w=2", "unlabelled+autoguidance:w=3"),
    *("cfg:w=3,sigma_min=0.2,sigma_max=5", "cfg:w=8+rescale:phi=0.7", "apg:w=8,momentum=-0.5", "cfgpp:lam=0.6"),
    *("elucd", "tcfg:w=3", "mambo:w=6", "fa_cfg", "fdg", "feedback"),
)
COLUMNS = ("fd", "precision", "recall", "accuracy", "clipped", "saturation")  # of the samples; then nfe, seconds
SHOWN = 10  # images of a run in the picture
# effect -> runs that show it -> the run that they are held against, column, and which way is better
EFFECTS: dict[str, tuple[dict[str, str], str, int]] = {
    "APG keeps the distance at high scales": ({"apg:w=8": "cfg:w=8", "apg:w=5": "cfg:w=5"}, "fd", -1),
    "APG clips less at high scales": ({"apg:w=8": "cfg:w=8", "apg:w=5": "cfg:w=5"}, "clipped", -1),
    "PAG helps without labels": ({f"unlabelled+pag:s={s}": "unlabelled" for s in ("0.5", "1", "2")}, "fd", -1),
    "autoguidance helps without labels": (
        {f"unlabelled+autoguidance:w={w}": "unlabelled" for w in ("1.5", "2", "3")},
        "fd",
        -1,
    ),
    "GFCG raises the accuracy": ({"gfcg:s=1": "none", "gfcg:s=4": "none"}, "accuracy", 1),
}
SAVING = {"adaptive:w=2@16": "cfg:w=2", "adaptive:w=3@16": "cfg:w=3"}  # AG: fewer evaluations at the same distance


@dataclass(frozen=True)
class Run:
    """A chain, whether images have labels, and the steps (None: as many as the budget allows)."""

    guidance: schema.GuidanceConfig
    labelled: bool
    steps: int | None


def parse(text: str) -> Run:
    """`unlabelled+pag:s=3@20` as settings.

    Raises:
        ConfigError: no such method or setting, or steps that are no number of at least 1.
    """
    chain, _, steps = text.partition("@")
    if "@" in text and not (steps.isdecimal() and int(steps) >= 1):
        raise ConfigError(f"--runs {text}: {steps!r} after @ is no number of steps; give @16")
    parts, cfg = [p for p in chain.split("+") if p != "none"], schema.GuidanceConfig()
    labelled = parts[:1] != ["unlabelled"]
    for part in parts if labelled else parts[1:]:
        name, _, given = part.partition(":")
        schema.one_of("--runs", name, schema.GUIDANCE)
        values: dict[str, Any] = {}
        settings = getattr(cfg, name)
        for item in filter(None, given.split(",")):
            key, _, value = item.partition("=")
            if not hasattr(settings, key):
                raise ConfigError(f"--runs {text}: {name} has no setting {key!r}; it has {', '.join(vars(settings))}")
            kind = type(getattr(settings, key))
            values[key] = kind(value) if kind in (int, float, str) else json.loads(value)
        setattr(cfg, name, replace(settings, **values))
        cfg.chain.append(name)
    return Run(cfg, labelled, int(steps) if steps else None)


def steps_for(artist: Artist, budget: int, sampler: str) -> int:
    """The most steps that cost one sample at most `budget` evaluations."""
    steps = budget
    while steps > 1:
        spent = int(artist.model.sample([0], artist.chain, steps, sampler=sampler, networks=artist.networks).nfe[0])
        if spent <= budget:
            break
        steps = max(1, min(steps - 1, steps * budget // spent))
    return steps


def drawn_by(s: dict[str, Any], device: str, run: Run, n: int, seed: int) -> tuple[Any, int]:
    """`n` images of a run in the classes' turn, and the steps that were taken."""
    model, folder = schema.ModelConfig(s["set"]), s["weights"]
    if folder != "auto":
        files = {"weights": "image", "weak": "weak", "classifier": "classifier"}
        model = replace(model, **{k: f"{folder}/{v}.safetensors" for k, v in files.items()})
    artist = build.artist(model, run.guidance, device)
    steps = run.steps or steps_for(artist, s["nfe"], s["sampler"])
    labels = balanced(n, len(artist.model.classes)) if run.labelled else [UNLABELLED] * n
    how = {"sampler": s["sampler"], "networks": artist.networks, "bf16": s["bf16"], "batch": 128}
    return artist.model.sample(labels, artist.chain, steps, seed, **how), steps


@lru_cache(maxsize=2)
def reference(kind: str, data: str | None, weights: str, n: int) -> Any:
    """The judge, with features and moments of `n` real training images."""
    judge = load(build.shipped_weights(kind, "judge") if weights == "auto" else Path(weights) / "judge.safetensors")
    features, _ = judge.apply_to(torch.from_numpy(load_images(kind, "train", data).images[:n]))
    return judge, features, metrics.moments(features)


def work(s: dict[str, Any], data: str | None, device: str, text: str, seed: int) -> dict[str, Any]:
    """Draw and judge one run with one seed: columns, and their standard errors."""
    import time

    began = time.perf_counter()
    drawn, steps = drawn_by(s, device, parse(text), s["n"], seed)
    seconds = time.perf_counter() - began
    judge, real, real_moments = reference(s["set"], data, s["weights"], s["real"])
    pixels = to_bytes(drawn.images).cpu()  # what a viewer would see
    features, probabilities = judge.apply_to(pixels)

    def judged(rows: np.ndarray) -> np.ndarray:
        covered = metrics.precision_recall(real[: s["n"]], features[rows])
        labelled = int(drawn.labels.min()) != UNLABELLED
        return np.array([
            metrics.frechet(metrics.moments(features[rows]), real_moments),
            covered.precision,
            covered.recall,
            metrics.accuracy(probabilities[rows], drawn.labels[rows]) if labelled else np.nan,
            metrics.clipped(drawn.images[rows]),
            metrics.saturation(pixels[rows]) if pixels.shape[1] == 3 else np.nan,
        ])  # fmt: skip

    values, errors = jackknife(s["n"], judged)
    known = [i for i, v in enumerate(values) if np.isfinite(v)]
    return {
        "steps": steps,
        "columns": {COLUMNS[i]: {"value": float(values[i]), "se": float(errors[i])} for i in known},
        "nfe": float(drawn.nfe.float().mean()),
        "seconds": round(seconds, 2),
    }


def table(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per run: every column's mean over seeds, with its 95 % interval (seeds draw independent samples)."""
    out: dict[str, Any] = {}
    for text, mine in by_planner(rows).items():
        row: dict[str, Any] = {"seeds": len(mine), "steps": mine[0]["steps"]}
        for key in mine[0]["columns"]:
            mean = float(np.mean([r["columns"][key]["value"] for r in mine]))
            se = float(np.sqrt(np.sum([r["columns"][key]["se"] ** 2 for r in mine])) / len(mine))
            row[key] = {"estimate": mean, "low": mean - 1.96 * se, "high": mean + 1.96 * se, "se": se}
        for key in ("nfe", "seconds"):
            row[key] = float(np.mean([r[key] for r in mine]))
        out[text] = row
    return out


def effects(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Which of the known effects appear (difference beyond 1.96 standard errors) in the runs that are there."""
    found = []
    for effect, (pairs, key, sign) in EFFECTS.items():
        for run, base in pairs.items():
            if run in summary and base in summary:
                a, b = summary[run][key], summary[base][key]
                z = sign * (a["estimate"] - b["estimate"]) / max(np.hypot(a["se"], b["se"]), 1e-12)
                note = f"{key} {a['estimate']:.3g} against {b['estimate']:.3g} ({base})"
                found.append({"effect": effect, "run": run, "appears": bool(z > 1.96), "note": note})
    for run, base in SAVING.items():
        if run in summary and base in summary:
            a, b, saved = summary[run]["fd"], summary[base]["fd"], 1 - summary[run]["nfe"] / summary[base]["nfe"]
            worse = (a["estimate"] - b["estimate"]) / max(np.hypot(a["se"], b["se"]), 1e-12)
            yes = bool(worse < 1.96 and saved >= 0.2)
            note = f"{saved:.0%} fewer, fd {a['estimate']:.3g} against {b['estimate']:.3g} ({base})"
            effect = "AG saves about a quarter of the evaluations"
            found.append({"effect": effect, "run": run, "appears": yes, "note": note})
    return found


def markdown(summary: dict[str, Any]) -> str:
    """The table, one line per run."""
    shown = [k for k in COLUMNS if any(k in row for row in summary.values())]
    lines = ["| run | steps | NFE | " + " | ".join(shown) + " | s |", "| --- " * (len(shown) + 4) + "|"]
    for run, row in summary.items():
        cells = [f"{row[k]['estimate']:.3g} +- {1.96 * row[k]['se']:.2g}" if k in row else "-" for k in shown]
        lines.append(
            f"| {run} | {row['steps']} | {row['nfe']:.1f} | " + " | ".join(cells) + f" | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def picture(s: dict[str, Any], device: str, runs: Sequence[str], path: Path) -> None:
    """The first images of every run, a line each: those of seed 0 in the table."""
    images = torch.cat([drawn_by(s, device, parse(r), SHOWN, 0)[0].images for r in runs])
    save_grid(path, images, [r if i == 0 else "" for r in runs for i in range(SHOWN)], columns=SHOWN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", nargs="?", default="mnist", choices=schema.IMAGES)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), help="default: " + " ".join(RUNS))
    parser.add_argument("--n", type=int, default=2000, help="samples per run and seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--nfe", type=int, default=32, help="most evaluations per sample")
    parser.add_argument("--sampler", default="dpmpp_2m", choices=schema.SAMPLERS)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="networks in bfloat16")
    parser.add_argument("--real", type=int, default=10_000, help="training images that the distance is taken to")
    parser.add_argument("--data", help="folder with the images; default: $SAFEPLAN_DATA, or download")
    parser.add_argument("--weights", default="auto", help="folder that make_image_weights.py wrote, or auto (shipped)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results"))
    a = parser.parse_args()
    try:
        for run in a.runs:
            parse(run)  # a fault must not wait for its turn
    except ConfigError as e:
        parser.error(str(e))
    settings = {k: getattr(a, k) for k in ("set", "n", "nfe", "sampler", "bf16", "real", "weights")}
    path = a.out / f"image_table_{a.set}.study.jsonl"
    device = build.device(a.device)
    doing = partial(work, settings, a.data, device)
    header, rows = run_study(
        doing, a.runs, range(a.seeds), path, settings, processes=a.processes, device=device, kinds={"columns": dict}
    )
    summary = table(rows)
    found = effects(summary)
    target = path.with_name(f"image_table_{a.set}.json")
    write(target, {**header, "runs": summary, "effects": found})
    picture(settings, device, list(summary), target.with_suffix(".png"))
    print(markdown(summary))
    for f in found:
        print(f"{f['effect']}: {'yes' if f['appears'] else 'NOT FOUND'} ({f['run']}: {f['note']})")
    print(f"results: {target} ({path.name}, {target.stem}.png)")


if __name__ == "__main__":
    main()
