"""Train the neural controllers of the density work by imitating a CasADi MPC. Resumes when run again.

  python scripts/make_controllers.py             # dint, robot, quad
  python scripts/make_controllers.py robot

The teacher is rolled out from an enlarged start box with noise on the state, so that its labels fill a tube around the
states that the loop visits. Labels lie in runs/controllers/ and are kept while the teacher stays the same.
Writes safeplan/weights/controllers/NAME.json, and README.md, the card, from all that are there.
"""

import argparse
import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.mlp import Mlp, load_mlp
from safeplan.dynamics.mpc import Mpc
from safeplan.dynamics.system import rk4
from safeplan.dynamics.systems import double_integrator, ground_robot, quadrotor
from safeplan.errors import SafeplanError
from safeplan.rng import fold, numpy_rng
from safeplan.strict_json import write_text

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "safeplan" / "weights" / "controllers"
LABELS = ROOT / "runs" / "controllers"
SHARD = 20  # rollouts between writes
DIGITS = 9  # significant, of a weight


class Lesson(NamedTuple):
    """What a network learns from: teacher, start box, hidden layers, noise per step `[n]`, rollouts and their steps."""

    teacher: Callable[[], Mpc]
    start: tuple[tuple[float, ...], tuple[float, ...]]
    hidden: tuple[int, ...]
    noise: tuple[float, ...]
    rollouts: int
    steps: int
    enlarge: float = 1.3  # of the start box about its centre
    adam: int = 3000
    lbfgs: int = 3000


LESSONS = {
    "dint": Lesson(double_integrator.double_integrator_mpc, double_integrator.START, (10, 5), (0.1, 0.1), 100, 40),
    "robot": Lesson(ground_robot.ground_robot_mpc, ground_robot.START, (32, 32), (0.05, 0.05, 0.1, 0.1), 280, 28),
    "quad": Lesson(quadrotor.quadrotor_mpc, quadrotor.START, (32, 32), (0.03, 0.03, 0.03, 0.06, 0.06, 0.06), 200, 14),
}


def rollout(teacher: Mpc, lesson: Lesson, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noisy states `[steps, n]` and the teacher's controls `[steps, m]` along one run."""
    low, high = np.array(lesson.start)
    x = (low + high) / 2 + lesson.enlarge * (high - low) / 2 * rng.uniform(-1, 1, len(low))
    xs, us = [], []
    for _ in range(lesson.steps):
        x = x + np.array(lesson.noise) * rng.normal(size=len(x))
        u = teacher(x)
        xs.append(x)
        us.append(u)
        x = rk4(teacher.plant, 0.0, x, tuple(u), tuple(teacher.plant.theta), teacher.dt, NUMPY)
    return np.array(xs), np.array(us)


def key_of(lesson: Lesson, teacher: Mpc, seed: int) -> str:
    """Digest of everything that a label depends on."""
    told = (teacher.fingerprint(), lesson.start, lesson.noise, lesson.steps, lesson.enlarge, seed)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def labels(name: str, split: str, count: int, seed: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """States `[N, n]` and controls `[N, m]` of `count` rollouts; goes on where an earlier call was stopped."""
    lesson, file = LESSONS[name], folder / f"{name}_{split}.npz"
    teacher, xs, us = lesson.teacher(), [], []
    key = key_of(lesson, teacher, seed)
    if file.is_file():
        with np.load(file) as data:
            if str(data["key"]) == key:
                xs, us = list(data["states"]), list(data["controls"])
    for i in tqdm(range(len(xs), count), desc=f"{name} {split}", initial=len(xs), total=count, disable=None):
        x, u = rollout(teacher, lesson, numpy_rng(seed, "controllers", name, split, i))
        xs.append(x)
        us.append(u)
        if len(xs) % SHARD == 0 or len(xs) == count:
            folder.mkdir(parents=True, exist_ok=True)
            part = file.with_name(f"{file.stem}.{os.getpid()}.tmp.npz")
            np.savez_compressed(part, states=np.array(xs), controls=np.array(us), key=key)
            part.replace(file)
    return np.concatenate(xs[:count]), np.concatenate(us[:count])


def fit(lesson: Lesson, x: np.ndarray, u: np.ndarray, low: np.ndarray, high: np.ndarray, seed: int) -> Mlp:
    """Least squares on the outputs scaled to [-1, 1]: full-batch Adam, then L-BFGS, in float64."""
    import torch

    torch.manual_seed(seed)
    middle, spread = x.mean(0), x.std(0)
    z = torch.as_tensor((x - middle) / spread)
    y = torch.as_tensor((2 * u - high - low) / (high - low))
    sizes = [x.shape[1], *lesson.hidden, u.shape[1]]
    layers = [torch.nn.Linear(a, b).double() for a, b in pairwise(sizes)]
    params = [p for layer in layers for p in layer.parameters()]

    def loss() -> torch.Tensor:
        h = z
        for layer in layers:
            h = torch.tanh(layer(h))
        return torch.mean((h - y) ** 2)

    adam = torch.optim.Adam(params, 1e-2)
    cool = torch.optim.lr_scheduler.CosineAnnealingLR(adam, lesson.adam)
    for _ in range(lesson.adam):
        adam.zero_grad()
        loss().backward()
        adam.step()
        cool.step()
    polish = torch.optim.LBFGS(
        params, max_iter=lesson.lbfgs, tolerance_grad=1e-10, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        polish.zero_grad()
        value = loss()
        value.backward()
        return value

    polish.step(closure)
    weights = [layer.weight.detach().numpy().copy() for layer in layers]
    biases = [layer.bias.detach().numpy().copy() for layer in layers]
    weights[0] = weights[0] / spread  # the network takes the state as it is
    biases[0] = biases[0] - weights[0] @ middle
    short = np.vectorize(lambda v: float(f"{v:.{DIGITS}g}"))
    return Mlp(
        tuple(map(short, weights)), tuple(map(short, biases)), low, high, short(x.min(0)), short(x.max(0)), card={}
    )


def errors(net: Mlp, x: np.ndarray, u: np.ndarray) -> dict[str, list[float]]:
    """RMS and 99th percentile of |network - teacher|, per control in its own unit."""
    e = np.abs(np.stack(net(tuple(x.T), NUMPY), axis=-1) - u)
    return {"rms": np.sqrt((e**2).mean(0)).tolist(), "p99": np.quantile(e, 0.99, axis=0).tolist()}


def make(name: str, seed: int, folder: Path, out: Path) -> None:
    """Labels, training, and one JSON file with its errors on rollouts that training has not seen."""
    lesson, began = LESSONS[name], time.process_time()
    x, u = labels(name, "train", lesson.rollouts, seed, folder)
    held = labels(name, "held", max(SHARD, lesson.rollouts // 5), seed, folder)
    teacher = lesson.teacher()
    plant = teacher.plant
    net = fit(lesson, x, u, plant.control_low, plant.control_high, fold(seed, "controllers", name) % 2**32)
    net.card.update(
        seed=seed,
        teacher=teacher.fingerprint(),
        states=len(x),
        held_states=len(held[0]),
        controls=[f"{q.name} ({q.unit})" for q in plant.controls],
        train=errors(net, x, u),
        held=errors(net, *held),
        versions={k: version(k) for k in ("numpy", "torch", "casadi")} | {"python": platform.python_version()},
    )
    net.save(out / f"{name}.json")
    print(f"{name}: {len(x)} labels, {time.process_time() - began:.0f} CPU-s, held out {net.card['held']}", flush=True)


CARD = """# Neural controllers of the density work

{rows}

**What for.** `safeplan.dynamics.systems` closes the loop of `dint`, `robot` and `quad` with them. The published
networks have the same sizes, are ReLU and are not part of this package; these are tanh: a smooth divergence.

**Made with** `python scripts/make_controllers.py` (seed {seed}): each imitates a CasADi MPC, whose source is beside its
system in `safeplan/dynamics/systems/`, on noisy rollouts from an enlarged start box. Held-out rollouts have their own
random stream.

**Not guaranteed.** Outside `domain_low`, `domain_high` (the box of the training states) the output stays within the
control bounds and imitates nothing. Licence: Apache-2.0, as the code.
"""


def card(out: Path) -> str:
    """The model card, from the JSON files in `out`."""
    rows = ["| network | layers | training states | held-out RMS error | held-out 99 % |", "| --- " * 5 + "|"]
    seeds = set()
    for file in sorted(out.glob("*.json")):
        net = load_mlp(file.stem, out)
        sizes = "-".join(str(n) for n in (len(net.domain_low), *(len(b) for b in net.biases)))
        held = {k: ", ".join(f"{v:.3g}" for v in net.card["held"][k]) for k in ("rms", "p99")}
        units = ", ".join(net.card["controls"])
        rows.append(f"| {file.stem} | {sizes} | {net.card['states']} | {held['rms']} of {units} | {held['p99']} |")
        seeds.add(net.card["seed"])
    return CARD.format(rows="\n".join(rows), seed=", ".join(map(str, sorted(seeds))))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(LESSONS)}; all when none is given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--labels", type=Path, default=LABELS, help="folder of the labels")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the networks")
    a = parser.parse_args(argv)
    for name in a.names or LESSONS:
        if name not in LESSONS:
            parser.error(f"{name}: no such network; choose from {', '.join(LESSONS)}")
        make(name, a.seed, a.labels, a.out)
    write_text(a.out / "README.md", card(a.out))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SafeplanError as e:
        sys.exit(f"error: {e}")
