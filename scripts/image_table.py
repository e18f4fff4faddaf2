"""Guidance methods and scales on images at an equal number of network evaluations. Killed, the same command goes on.

  python scripts/image_table.py                                    # MNIST, all runs, shipped weights; hours
  python scripts/image_table.py mnist --runs none cfg:w=2 adaptive:w=3@12 unlabelled+pag:s=1 --n 500
  python scripts/image_table.py fashion --weights FOLDER --device cuda

A run is a chain: methods joined by +, each with settings as in guidance.METHOD.SETTING; `unlabelled` in front of it
draws images of no class in particular; @12 sets the steps, which otherwise are the most that cost --nfe evaluations a
sample. Features and labels come from judge.safetensors, which no guidance uses. Writes image_table_SET.study.jsonl (a
line per run and seed), .json (means over seeds with 95 % intervals by a jackknife over samples) and .png (the first ten
images of every run) to results/, and prints the table and which of the known effects were found.
"""

import argparse
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from scipy.stats import t as student

from safeplan import build, schema
from safeplan.build.images import Artist
from safeplan.errors import ConfigError, DataError, SafeplanError
from safeplan.evaluation.stats import jackknife, jackknife_error
from safeplan.evaluation.study import by_planner, run_study
from safeplan.imaging import UNLABELLED, balanced, load_images, metrics, to_bytes
from safeplan.imaging.grid import save_grid
from safeplan.strict_json import write
from safeplan.training import load

RUNS = (
    *("none", "cfg:w=1.5", "cfg:w=2", "cfg:w=3", "cfg:w=5", "cfg:w=8", "apg:w=3", "apg:w=5", "apg:w=8"),
    *("apg:w=3,r=0.02,momentum=-0.75", "apg:w=8,r=0.02,momentum=-0.75"),  # threshold and momentum of [apg] for EDM2-S
    *("adaptive:w=2@12", "adaptive:w=3@12", "autoguidance:w=2", "pag:s=0.5", "gfcg:s=1", "gfcg:s=4"),
    *("gfcg:s=4,net=weak", "gfcg:s=4,net=weak+autoguidance:w=2", "cfg:w=8+rescale:phi=0.7", "cfgpp:lam=0.6"),
    *("unlabelled", "unlabelled+pag:s=0.5", "unlabelled+pag:s=1", "unlabelled+autoguidance:w=2"),
)
BEYOND = (  # with --beyond
    *("tcfg:w=3", "mambo:w=6", "fa_cfg", "fdg", "feedback", "cfg:w=3,sigma_min=0.2,sigma_max=5"),
    *("elucd:schedule=unit", "cfgpp:ref_steps=50", "autoguidance:w=3", "pag:s=1,layers=[0,1,2,3]"),
)
COLUMNS = ("fd", "precision", "recall", "accuracy", "clipped", "saturation", "saturation gap")
SHOWN = 10  # images of a run in the picture
BLOCKS = 10  # of the jackknife, per seed
FILES = {"weights": "image", "weak": "weak", "classifier": "classifier"}  # of a model, and the judge beside them
Rows = Sequence[dict[str, Any]]


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
        raise ConfigError(f"--runs {text}: {steps!r} after @ is no number of steps; give @12")
    parts = [p for p in chain.split("+") if p != "none"]
    labelled = parts[:1] != ["unlabelled"]
    chain, given = [], OmegaConf.structured(schema.GuidanceConfig)
    for part in parts if labelled else parts[1:]:
        name, _, settings = part.partition(":")
        schema.one_of("--runs", name, schema.GUIDANCE)
        if name in chain:
            raise ConfigError(f"--runs {text}: {name} stands there twice; a chain has each method once")
        chain.append(name)
        items = [i for i in re.split(r",(?![^\[]*\])", settings) if i]  # commas within [...] separate nothing
        try:
            given = OmegaConf.merge(given, OmegaConf.from_dotlist([f"{name}.{i}" for i in items]))
        except OmegaConfBaseException as e:
            raise ConfigError(f"--runs {text}: {str(e).splitlines()[0]}. Give {name}:SETTING=VALUE,...") from e
    return Run(OmegaConf.to_object(OmegaConf.merge(given, {"chain": chain})), labelled, int(steps) if steps else None)  # type: ignore[arg-type]


def steps_for(artist: Artist, labelled: bool, budget: int, sampler: str) -> int:
    """The most steps that cost one sample at most `budget` evaluations."""

    def cost(steps: int) -> int:
        label = [0] if labelled else [UNLABELLED]
        return int(artist.model.sample(label, artist.chain, steps, sampler=sampler, networks=artist.networks).nfe[0])

    steps = budget
    while steps > 1 and (spent := cost(steps)) > budget:
        steps = max(1, min(steps - 1, steps * budget // spent))
    while steps < budget and cost(steps + 1) <= budget:
        steps += 1
    return steps


def artist_of(s: Mapping[str, Any], device: str, run: Run, steps: int) -> Artist:
    """Networks of a run, and its chain for so many steps."""
    model, folder = schema.ModelConfig(s["set"]), s["weights"]
    if folder != "auto":
        model = replace(model, **{k: f"{folder}/{v}.safetensors" for k, v in FILES.items()})
    return build.artist(model, run.guidance, device, steps=steps)


def drawn_by(s: Mapping[str, Any], device: str, run: Run, n: int, seed: int) -> tuple[Any, int]:
    """`n` images of a run in the classes' turn, and the steps that were taken."""
    steps = run.steps or steps_for(artist_of(s, device, run, s["nfe"]), run.labelled, s["nfe"], s["sampler"])
    artist = artist_of(s, device, run, steps)
    labels = balanced(n, len(artist.model.classes)) if run.labelled else [UNLABELLED] * n
    how: dict[str, Any] = {"sampler": s["sampler"], "networks": artist.networks, "bf16": s["bf16"]}
    how["batch"] = 128 if device == "cpu" else 1000  # fits a cache, fills a GPU; the images are the same
    return artist.model.sample(labels, artist.chain, steps, seed, **how), steps


def weights_of(kind: str, weights: str, file: str) -> Path:
    """The file `image`, `weak`, `classifier` or `judge`."""
    return build.shipped_weights(kind, file) if weights == "auto" else Path(weights) / f"{file}.safetensors"


@lru_cache(maxsize=2)
def reference(kind: str, data: str | None, weights: str, n: int) -> Any:
    """The judge, with features and moments of `n` real training images."""
    judge = load(weights_of(kind, weights, "judge"))
    real = torch.from_numpy(load_images(kind, "train", data).images[:n])
    features, _ = judge.apply_to(real)
    return judge, features, metrics.moments(features), metrics.saturation(real) if real.shape[1] == 3 else np.nan


def work(s: dict[str, Any], data: str | None, device: str, text: str, seed: int) -> dict[str, Any]:
    """Draw and judge one run with one seed: columns, and their values without one tenth of the samples at a time."""
    import time

    run, began = parse(text), time.perf_counter()
    try:
        drawn, steps = drawn_by(s, device, run, s["n"], seed)
    except DataError as e:
        return {"columns": {}, "failed": str(e)}
    seconds = time.perf_counter() - began
    judge, real, real_moments, real_saturation = reference(s["set"], data, s["weights"], s["real"])
    pixels = to_bytes(drawn.images).cpu()  # what a viewer would see
    features, probabilities = judge.apply_to(pixels)

    def judged(rows: np.ndarray) -> np.ndarray:
        covered = metrics.precision_recall(real[: s["n"]], features[rows])
        saturation = metrics.saturation(pixels[rows]) if pixels.shape[1] == 3 else np.nan
        return np.array([
            metrics.frechet(metrics.moments(features[rows]), real_moments),
            covered.precision,
            covered.recall,
            metrics.accuracy(probabilities[rows], drawn.labels[rows]) if run.labelled else np.nan,
            metrics.clipped(drawn.images[rows]),
            saturation,
            abs(saturation - real_saturation),
        ])  # fmt: skip

    values, left = jackknife(s["n"], judged, BLOCKS)
    columns = {
        key: {"value": float(values[i]), "left": [float(v) for v in left[:, i]]}
        for i, key in enumerate(COLUMNS)
        if np.isfinite(values[i])
    }
    nfe = float(drawn.nfe.float().mean())
    return {"steps": steps, "columns": columns, "nfe": nfe, "seconds": round(seconds, 2)}


def combination(rows: Rows, key: str, of: Mapping[str, float]) -> tuple[float, float, float]:
    """The sum of a column over runs, each times its factor: mean over seeds, standard error, Student's 97.5 % point.

    Runs of one seed share noise and labels, so what is left out of one is left out of all.
    """
    mine = by_planner(rows)
    seeds = range(len(next(iter(mine[r] for r in of))))
    values = [sum(c * mine[r][k]["columns"][key]["value"] for r, c in of.items()) for k in seeds]
    left = [np.sum([c * np.array(mine[r][k]["columns"][key]["left"]) for r, c in of.items()], axis=0) for k in seeds]
    error = float(np.sqrt(sum(float(jackknife_error(v)) ** 2 for v in left)) / len(values))
    return float(np.mean(values)), error, float(student.ppf(0.975, (BLOCKS - 1) * len(values)))


def table(rows: Rows) -> dict[str, Any]:
    """Per run: every column's mean over seeds with its 95 % interval, or why there is none."""
    out: dict[str, Any] = {}
    for text, mine in by_planner(rows).items():
        row: dict[str, Any] = {"seeds": len(mine)}
        failed = [r["failed"] for r in mine if "failed" in r]
        if failed:
            out[text] = row | {"failed": failed[0]}
            continue
        for key in mine[0]["columns"]:
            mean, error, q = combination(mine, key, {text: 1.0})
            row[key] = {"estimate": mean, "low": mean - q * error, "high": mean + q * error}
        out[text] = row | {k: float(np.mean([r[k] for r in mine])) for k in ("steps", "nfe", "seconds")}
    return out


def effects(rows: Rows, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Which of the known effects appear in the runs that are there: a combination of runs, with 95 % confidence."""
    have = {k: v for k, v in summary.items() if "failed" not in v}
    found = []
    for effect, run, key, below, note in claims(have):
        if all(r in have and key in have[r] for r in below):
            mean, error, q = combination([r for r in rows if r["planner"] in below], key, below)
            shown = ", ".join(f"{have[r][key]['estimate']:.3g} ({r})" for r in below)
            found.append(
                {"effect": effect, "run": run, "appears": mean + q * error < 0, "note": f"{key} {shown}{note}"}
            )
    return found


def claims(have: Mapping[str, Any]) -> Iterator[tuple[str, str, str, dict[str, float], str]]:
    """Effect, run, column, what must be below 0 (run -> factor), remark."""
    scales = [r for r in have if re.fullmatch(r"cfg:w=[\d.]+", r)]
    best = min(scales, key=lambda r: have[r]["fd"]["estimate"], default="")
    for key, floor in (("fd", best), ("clipped", "none"), ("saturation gap", "none")):
        if len({floor, "cfg:w=8"}) == 2:
            yield f"CFG loses it at scale 8: {key}", "cfg:w=8", key, {floor: 1.0, "cfg:w=8": -1.0}, ""
            for apg in (r for r in have if r.startswith("apg:w=8")):
                yield f"APG loses less than CFG: {key}", apg, key, {apg: 1.0, "cfg:w=8": -1.0}, ""
                kept = {apg: 1.0, floor: -0.8, "cfg:w=8": -0.2}
                yield f"APG loses at most a fifth of that: {key}", apg, key, kept, ""
    for w in ("2", "3"):
        ag, cfg = f"adaptive:w={w}@12", f"cfg:w={w}"
        if ag in have and cfg in have and have[ag]["steps"] == have[cfg]["steps"]:
            saved = 1 - have[ag]["nfe"] / have[cfg]["nfe"]
            yield (
                "AG is within 2 % of CFG's distance",
                ag,
                "fd",
                {ag: 1.0, cfg: -1.02},
                f"; {saved:.0%} evaluations saved",
            )
    for run in have:
        if run.startswith(("unlabelled+pag", "unlabelled+autoguidance")):
            yield "lowers the distance without labels", run, "fd", {run: 1.0, "unlabelled": -1.0}, ""
            yield "raises the precision without labels", run, "precision", {run: -1.0, "unlabelled": 1.0}, ""
        if re.fullmatch(r"gfcg:s=[\d.]+", run):
            yield "GFCG raises the accuracy", run, "accuracy", {run: -1.0, "none": 1.0}, ""


def markdown(summary: Mapping[str, Any]) -> str:
    """The table, one line per run."""
    shown = [k for k in COLUMNS if any(k in row for row in summary.values())]
    lines = ["| run | steps | NFE | " + " | ".join(shown) + " | s |", "| --- " * (len(shown) + 4) + "|"]
    for run, row in summary.items():
        if "failed" in row:
            lines.append(f"| {run} | {row['failed']} |")
            continue
        cells = [
            f"{row[k]['estimate']:.3g} +- {(row[k]['high'] - row[k]['low']) / 2:.2g}" if k in row else "-"
            for k in shown
        ]
        lines.append(f"| {run} | {row['steps']:g} | {row['nfe']:.1f} | {' | '.join(cells)} | {row['seconds']:.0f} |")
    return "\n".join(lines)


def picture(s: dict[str, Any], device: str, runs: Sequence[str], path: Path) -> None:
    """The first images of every run, a line each: those of seed 0 in the table."""
    images = torch.cat([drawn_by(s, device, parse(r), SHOWN, 0)[0].images for r in runs])
    save_grid(path, images, [r if i == 0 else "" for r in runs for i in range(SHOWN)], columns=SHOWN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", nargs="?", default="mnist", choices=schema.IMAGES)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), help="default: " + " ".join(RUNS))
    parser.add_argument("--beyond", action="store_true", help="further runs: " + " ".join(BEYOND))
    parser.add_argument("--n", type=int, default=2000, help="samples per run and seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--nfe", type=int, default=24, help="most evaluations per sample")
    parser.add_argument("--sampler", default="dpmpp_2m", choices=schema.SAMPLERS)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="networks in bfloat16")
    parser.add_argument("--real", type=int, default=10_000, help="training images that the distance is taken to")
    parser.add_argument("--data", help="folder with the images; default: $SAFEPLAN_DATA, or download")
    parser.add_argument("--weights", default="auto", help="folder that make_image_weights.py wrote, or auto (shipped)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results"))
    a = parser.parse_args()
    a.runs += BEYOND if a.beyond else ()
    settings = {k: getattr(a, k) for k in ("set", "n", "nfe", "sampler", "bf16", "real", "weights")}
    device = build.device(a.device)
    try:
        for run in a.runs:
            artist_of(settings, device, parse(run), a.nfe)  # a fault must not wait for its turn
        data = load_images(a.set, "train", a.data).digest()
    except SafeplanError as e:
        parser.error(str(e))
    files = {f: weights_of(a.set, a.weights, f) for f in (*FILES.values(), "judge")}
    sums = {f: hashlib.sha256(p.read_bytes()).hexdigest()[:16] for f, p in files.items() if p.is_file()}
    path = a.out / f"image_table_{a.set}.study.jsonl"
    doing = partial(work, settings, a.data, device)
    decides = settings | {"sha256": sums | {"data": data[:16]}}
    header, rows = run_study(
        doing, a.runs, range(a.seeds), path, decides, processes=a.processes, device=device, kinds={"columns": dict}
    )
    summary = table(rows)
    found = effects(rows, summary)
    target = path.with_name(f"image_table_{a.set}.json")
    write(target, {**header, "runs": summary, "effects": found})
    picture(settings, device, [r for r, row in summary.items() if "failed" not in row], target.with_suffix(".png"))
    print(markdown(summary))
    for f in found:
        print(f"{f['effect']}: {'yes' if f['appears'] else 'NOT FOUND'} ({f['run']}: {f['note']})")
    print(f"results: {target} ({path.name}, {target.stem}.png)")


if __name__ == "__main__":
    main()
