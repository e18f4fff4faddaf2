"""Teach the learned flows that ship: one for each system of the density work. Resumes when run again.

  python scripts/make_flows.py             # all ten, about half an hour on one core
  python scripts/make_flows.py vdp car

Runs lie in runs/density/, where scripts/density_table.py finds them too. Writes safeplan/weights/flows/NAME.safetensors
and README.md, the card, from all that are there.
"""

import argparse
import os
import shutil
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from safeplan import build
from safeplan.build.flows import WEIGHTS
from safeplan.dynamics.systems import system, systems
from safeplan.strict_json import write_text
from safeplan.training import load_model

RUNS = Path(__file__).resolve().parents[1] / "runs" / "density"
TRAJECTORIES = 1000
CARD = """# Learned flows of the density work

| system | trajectories | updates | parameters | segment (s) | scales | versions | data SHA-256 |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

**What for.** `safeplan.build.shipped_flow(NAME).push(x, theta, times)` gives states and log-gain of the closed loops in
`safeplan/dynamics/systems/` without integrating them; `scripts/density_table.py` says how exactly.

**Made with** `python scripts/make_flows.py`: simulated trajectories from Sobol starts, RK4.

**Not guaranteed.** A flow knows the start box, the parameters and the controls that it was taught with; elsewhere it
extrapolates, and with scales at each time it is refused beyond its horizon. A probability from it is an estimate:
`reach.certify_with_model` bounds what it may be off.
Licence: Apache-2.0, as the code.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", choices=[*systems(), []], help="default: all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    for name in args.systems or systems():
        checkpoint = build.teach_flow(system(name), TRAJECTORIES, RUNS / f"{name}_{TRAJECTORIES}")
        temporary = WEIGHTS / f".{name}.tmp"
        shutil.copyfile(checkpoint / "model.safetensors", temporary)
        temporary.replace(WEIGHTS / f"{name}.safetensors")
        print(f"{name}: {WEIGHTS / name}.safetensors", flush=True)
    rows = []
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        m = load_model(path)
        size = sum(t.numel() for k, t in m.tensors.items() if ".body." in k)
        made = ", ".join(f"{k} {v}" for k, v in sorted(m.info["versions"].items()))
        scales = "mean and spread at each time" if "follows" in m.meta else "one"
        rows.append(
            f"| {path.stem} | {m.meta['facts']['trajectories']} | {m.info['step']} | {size:,} | "
            f"{m.meta['segment_s']:g} | {scales} | {made} | {m.info['data'][:16]} |"
        )
    write_text(WEIGHTS / "README.md", CARD.format(rows="\n".join(rows)))


if __name__ == "__main__":
    main()
