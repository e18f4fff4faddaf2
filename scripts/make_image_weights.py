"""Make the image weights that ship with safeplan: model, weak net, two classifiers, model card. Resumes when run again.

  python scripts/make_image_weights.py mnist
  python scripts/make_image_weights.py fashion --data FOLDER --device cuda --together
  python scripts/make_image_weights.py mnist --share 0.001 --out runs/trial      a few updates, to see that it works

Writes image.safetensors, weak.safetensors (for autoguidance), classifier.safetensors (for guidance), judge.safetensors
(for metrics alone: another width and seed than the classifier) and README.md under safeplan/weights/SET/.
"""

import argparse
import csv
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from safeplan import build
from safeplan.evaluation.study import device_name
from safeplan.imaging import load_images
from safeplan.imaging.metrics import accuracy
from safeplan.training import load, load_model, save_model

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Part:
    """How one file is trained; `decays`: the learning rate falls over all its updates."""

    policy: str
    seed: int
    updates: int
    settings: tuple[str, ...] = ()
    decays: bool = True


def parts(image: Part, weak: Part, classifier: Part, judge: Part) -> dict[str, Part]:
    """By file; longest first, so that side by side they end together."""
    return {"image": image, "weak": weak, "classifier": classifier, "judge": judge}


def image(updates: int, width: int, *settings: str, decays: bool = True) -> Part:
    """A model with heads as wide as its first level."""
    return Part("image", 0, updates, (f"policy.width={width}", f"policy.head_width={width}", *settings), decays)


def classifier(updates: int, width: int, seed: int) -> Part:
    return Part("classifier", seed, updates, (f"policy.width={width}",))


MANY = "policy.batch=256"  # a GPU takes them in the time of a few
SETS = {
    "mnist": parts(image(3600, 32), image(800, 16, decays=False), classifier(1000, 16, 1), classifier(2000, 32, 0)),
    "fashion": parts(
        image(4000, 32, MANY), image(1000, 16, MANY, decays=False), classifier(1500, 16, 1), classifier(3000, 32, 0)
    ),
    "cifar10": parts(
        image(4000, 48, MANY), image(1000, 24, MANY, decays=False), classifier(2500, 32, 1), classifier(4000, 64, 0)
    ),
}

CARD = """# Weights for `model={set}`

{files}

**What for.** `image.safetensors` draws {set} images of a given class (`safeplan sample model={set}`): a diffusers
`UNet2DConditionModel` with EDM's preconditioning. `weak.safetensors` is half as wide and trained for fewer updates, for
autoguidance. `classifier.safetensors` is for guidance that needs one. `judge.safetensors`, of another width and seed,
gives the features and labels of the metrics, and no guidance may use it.

**Made with** `python scripts/make_image_weights.py {set}` (device {device}) from {images:,} images of the training
split; weights are the moving average, stored in half precision.

{rows}

**Not guaranteed.** Nothing about single images. Distances by the judge's features compare methods here and with
nothing in the literature. Licence of the weights: Apache-2.0, as the code; of the images: see the data set.
"""


def run(commands: list[list[str]], together: bool) -> None:
    """Run the steps, one by one or all at once; stop when one fails."""
    started = []
    for command in commands:
        print("+", " ".join(command), flush=True)
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT)
        started.append(process)
        if not together and process.wait():
            break
    if any([p.wait() for p in started]):
        raise SystemExit("a step failed, see above; the same command again goes on from its last checkpoint")


def last_metrics(run_dir: Path) -> dict[str, float]:
    """The last line of metrics.csv."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return {k: float(v) for k, v in list(csv.DictReader(file))[-1].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=tuple(SETS))
    parser.add_argument("--data", help="folder with the images; default: $SAFEPLAN_DATA, or download")
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda")
    parser.add_argument("--together", action="store_true", help="train all files at once, on a GPU or many cores")
    parser.add_argument("--share", type=float, default=1.0, help="of all updates; small for a trial")
    parser.add_argument("--out", type=Path, help="default: safeplan/weights/SET")
    a = parser.parse_args()
    out = (a.out or ROOT / "safeplan" / "weights" / a.set).resolve()
    test, images = load_images(a.set, "test", a.data), len(load_images(a.set, "train", a.data).labels)
    wanted, commands = SETS[a.set], []
    names = {f: f"weights_{a.set}_{f}" + ("" if a.share == 1 else f"_{a.share:g}") for f in wanted}
    for file, part in wanted.items():
        updates = max(1, round(part.updates * a.share))
        command = ["scripts/train.py", f"policy={part.policy}", f"data={a.set}", f"name={names[file]}"]
        command += [f"seed={part.seed}", f"updates={updates}", f"device={a.device}", "checkpoint_every=200"]
        command += [*part.settings, f"policy.decay_updates={updates if part.decays else 0}"]
        commands.append(command + ([f"data.path={Path(a.data).resolve()}"] if a.data else []))
    run(commands, a.together)
    files, rows = [], ["| file | updates | parameters | training | test accuracy | versions | data SHA-256 |"]
    rows.append("| --- | --- | --- | --- | --- | --- | --- |")
    for file, part in wanted.items():
        policy, seed, name = part.policy, part.seed, names[file]
        run_dir = ROOT / "runs" / name / f"seed_{seed}"
        model, last = load_model(run_dir), last_metrics(run_dir)
        half = {k: v.half() for k, v in model.tensors.items()}
        kept = {k: model.info[k] for k in ("step", "seed", "data")}
        target = save_model(out / f"{file}.safetensors", model.kind, half, model.meta, **kept)
        os.chmod(target, 0o644)
        score = "-"
        if policy == "classifier":
            _, probabilities = load(target).apply_to(torch.from_numpy(test.images))
            score = f"{accuracy(probabilities, torch.from_numpy(test.labels)):.2%}"
        shown = ", ".join(f"{k} {v:.3g}" for k, v in last.items() if k not in ("update", "seconds"))
        spent = f"{shown}; {last['seconds'] / 60:.1f} min"
        made = ", ".join(f"{k} {v}" for k, v in model.info["versions"].items())
        size = sum(v.numel() for v in half.values())
        rows.append(f"| {file} | {kept['step']} | {size:,} | {spent} | {score} | {made} | {kept['data'][:16]} |")
        files.append(f"- `{target.name}`: {target.stat().st_size / 1e6:.1f} MB")
    card = CARD.format(
        set=a.set,
        files="\n".join(files),
        rows="\n".join(rows),
        device=device_name(build.device(a.device)),
        images=images,
    )
    temporary = out / ".README.md"
    temporary.write_text(card)
    os.replace(temporary, out / "README.md")
    print(f"results: {out}/")


if __name__ == "__main__":
    main()
