"""Make the weights that ship with an environment: logs, FISOR, trajectory model, model card. Resumes when run again.

  python scripts/make_weights.py hovercraft
  python scripts/make_weights.py driving --device cuda

Everything comes from seeded, simulated logs (scripts/collect.py). Writes fisor.safetensors, trajectory.safetensors and
README.md, the model card, under safeplan/weights/ENV/.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from safetensors import safe_open

ROOT = Path(__file__).parents[1]
UPDATES = {"fisor": 12_000, "trajectory": 16_000}
EPISODES = {"hovercraft": 900, "driving": 800}

CARD = """# Weights for `{env}`

{list}

**What for.** `trajectory.safetensors` draws proposals for the planner (diffusion over {env} trajectories, start state
pinned, conditioned on goal, walls and nearest obstacles). `fisor.safetensors` is a FISOR policy: its V and V_h rank
proposals; acting alone it is a rival in the study.

**Made with** `python scripts/make_weights.py {env}` (seed 0, device {device}).
Simulated data: `scripts/collect.py --env {env} --episodes {episodes} --seed 0`, scripted drivers of mixed quality in
the environment's own simulator, difficulty 0.3 to 1.7, scene stream `train` (apart from `tune`, `eval` and `demo`).

{rows}

**Not guaranteed.** A proposal carries no guarantee: the certificate of a plan does not rest on these weights.
In states unlike the logs the planner leaves it aside (status `out_of_support`). Licence: Apache-2.0, as the code.
"""


def run(*command: str) -> None:
    """Run one step; stop when it fails."""
    print("+", " ".join(command), flush=True)
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT)


def newest(run_dir: Path) -> Path:
    """The model file of the newest checkpoint."""
    return max((run_dir / "checkpoints").iterdir(), key=lambda p: p.name) / "model.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env", choices=sorted(EPISODES))
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda")
    parser.add_argument("--processes", default="2", help="processes that collect logs")
    a = parser.parse_args()
    log = f"runs/data/{a.env}.hdf5"
    episodes = str(EPISODES[a.env])
    run(
        "scripts/collect.py",
        "--env",
        a.env,
        "--episodes",
        episodes,
        "--seed",
        "0",
        "--out",
        log,
        "--processes",
        a.processes,
    )
    out = ROOT / "safeplan" / "weights" / a.env
    out.mkdir(parents=True, exist_ok=True)
    files, rows = (
        [],
        [
            "| model | updates | parameters | last metrics | versions | data SHA-256 |",
            "| --- | --- | --- | --- | --- | --- |",
        ],
    )
    for kind, updates in UPDATES.items():
        command = ["scripts/train.py", f"policy={kind}", f"data={a.env}", f"updates={updates}", f"device={a.device}"]
        run(*command, "checkpoint_every=1000")
        run_dir = ROOT / "runs" / f"train_{kind}_{a.env}" / "seed_0"
        source, target = newest(run_dir), out / f"{kind}.safetensors"
        temporary = target.with_name(f".{target.name}")
        shutil.copyfile(source, temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
        with safe_open(target, "pt") as f:
            info = json.loads(f.metadata()["safeplan"])["info"]
            names = list(f.keys())
            size = sum(f.get_tensor(k).numel() for k in names)
        head, *lines = (run_dir / "metrics.csv").read_text().strip().split("\n")
        last = dict(zip(head.split(","), lines[-1].split(","), strict=True))
        shown = ", ".join(f"{k} {float(v):.3g}" for k, v in last.items() if k not in ("update", "seconds"))
        made = ", ".join(f"{k} {v}" for k, v in info["versions"].items())
        rows.append(f"| {kind} | {last['update']} | {size:,} | {shown} | {made} | {info['data'][:16]} |")
        files.append(f"- `{target.name}`: {target.stat().st_size / 1e6:.1f} MB")
    card = CARD.format(env=a.env, list="\n".join(files), rows="\n".join(rows), device=a.device, episodes=episodes)
    temporary = out / ".README.md"
    temporary.write_text(card)
    os.replace(temporary, out / "README.md")
    print(f"results: {out.relative_to(ROOT)}/")


if __name__ == "__main__":
    main()
