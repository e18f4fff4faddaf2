"""Make the image weights that ship with safeplan: model, weak net, two classifiers, model card. Resumes when run again.

  python scripts/make_image_weights.py mnist
  python scripts/make_image_weights.py mnist --data FOLDER --device cuda
  python scripts/make_image_weights.py mnist --share 0.001 --out runs/trial      a few updates, to see that it works

Writes image.safetensors, weak.safetensors (for autoguidance), classifier.safetensors (for guidance), judge.safetensors
(for metrics alone: another width and seed than the classifier) and README.md under safeplan/weights/SET/.
"""

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import torch

from safeplan.imaging import load_images
from safeplan.imaging.metrics import accuracy
from safeplan.training import load, load_model, save_model

ROOT = Path(__file__).parents[1]
# file -> policy, seed, updates, settings
PARTS: dict[str, tuple[str, int, int, tuple[str, ...]]] = {
    "image": ("image", 0, 3600, ("policy.decay_updates=3600",)),
    "weak": ("image", 0, 800, ("policy.width=16", "policy.head_width=16", "policy.decay_updates=0")),
    "classifier": ("classifier", 1, 1000, ("policy.width=16", "policy.decay_updates=1000")),
    "judge": ("classifier", 0, 2000, ("policy.width=32", "policy.decay_updates=2000")),
}

CARD = """# Weights for `model={set}`

{files}

**What for.** `image.safetensors` draws {set} images of a given class (`safeplan sample model={set}`): a diffusers
`UNet2DConditionModel` with EDM's preconditioning. `weak.safetensors` is half as wide and trained for fewer updates, for
autoguidance. `classifier.safetensors` is for guidance that needs one. `judge.safetensors`, of another width and seed,
gives the features and labels of the metrics, and no guidance may use it.

**Made with** `python scripts/make_image_weights.py {set}` (device {device}) from the training split; weights are the
moving average, stored in half precision.

{rows}

**Not guaranteed.** Nothing about single images. Distances by the judge's features compare methods here and with
nothing in the literature. Licence of the weights: Apache-2.0, as the code; of the images: see the data set.
"""


def run(*command: str) -> None:
    """Run one step; stop when it fails."""
    print("+", " ".join(command), flush=True)
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT)


def last_metrics(run_dir: Path) -> dict[str, float]:
    """The last line of metrics.csv."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return {k: float(v) for k, v in list(csv.DictReader(file))[-1].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("mnist", "fashion", "cifar10"))
    parser.add_argument("--data", help="folder with the images; default: $SAFEPLAN_DATA, or download")
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda")
    parser.add_argument("--share", type=float, default=1.0, help="of all updates; small for a trial")
    parser.add_argument("--out", type=Path, help="default: safeplan/weights/SET")
    a = parser.parse_args()
    out = (a.out or ROOT / "safeplan" / "weights" / a.set).resolve()
    test = load_images(a.set, "test", a.data)
    files, rows = [], ["| file | updates | parameters | training | test accuracy | versions | data SHA-256 |"]
    rows.append("| --- | --- | --- | --- | --- | --- | --- |")
    for file, (policy, seed, updates, settings) in PARTS.items():
        name = f"weights_{a.set}_{file}" + ("" if a.share == 1 else f"_{a.share:g}")
        command = ["scripts/train.py", f"policy={policy}", f"data={a.set}", f"name={name}", f"seed={seed}"]
        command += [f"updates={max(1, round(updates * a.share))}", f"device={a.device}", "checkpoint_every=200"]
        run(*command, *settings, *([f"data.path={Path(a.data).resolve()}"] if a.data else []))
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
    card = CARD.format(set=a.set, files="\n".join(files), rows="\n".join(rows), device=a.device)
    temporary = out / ".README.md"
    temporary.write_text(card)
    os.replace(temporary, out / "README.md")
    print(f"results: {out}/")


if __name__ == "__main__":
    main()
