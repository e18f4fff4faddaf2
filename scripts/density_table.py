"""Every system, every method: how well is the density of reachable states known, and what does it cost?

  python scripts/density_table.py                          # all ten systems, about an hour on one core; resumable
  python scripts/density_table.py --system vdp car
  python scripts/density_table.py --system vdp --quick     # shipped weights and cheap methods, under a minute
  python scripts/density_table.py --quick --boxes FILE.npz # boxes of your own (t, lo, hi, p_true) for Van der Pol

Each method estimates the probability of 300 random boxes at the end of the horizon; the truth is a million Sobol
particles (half a million for the hovercraft), kept in results/density_boxes/. `equals_mc` is the number of independent
simulations that would be as accurate: the mean of (1 - p) / p over the boxes by the mean squared relative error, or
with the median of (1 - p) / p, which is smaller. Flows also give state errors (in standard deviations of each state),
log-gain errors (nats), and the published score against exact and Euler truth. Killed, the same command goes on. Writes
results/density_table.json; the last line is the learned flow's relative RMS on the boxes of the first system (exit 1
above 5 %).
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from safeplan import build
from safeplan.dynamics.systems import Case, system, systems
from safeplan.errors import CapabilityError, DataError, SafeplanError
from safeplan.evaluation.density_bench import Boxes, carried, halves, random_boxes, starts
from safeplan.evaluation.study import run_study
from safeplan.reach import rivals
from safeplan.reach.learned.flow import LearnedFlow
from safeplan.reach.learned.trajectories import simulate
from safeplan.reach.rivals.runs import ends
from safeplan.rng import numpy_rng
from safeplan.strict_json import write
from safeplan.training import load, train
from safeplan.training.published_flow import PublishedFlowConfig, published_flow
from safeplan.types import Array, Draw

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "scripts" / "data" / "published_network.npz"
LIMIT = 0.05  # relative RMS that the learned flow may have on the boxes
PUSHED = 1 << 16  # Sobol particles through a learned flow
TRUTH = {"hovercraft": 1 << 19}  # Sobol particles; 2^20 elsewhere
EPOCHS = {"vdp": 50_000}  # of the published recipe; 5,000 elsewhere
LAYERS = {"robot": (64, 64, 64)}  # as published; 32, 32 elsewhere
Row = dict[str, Any]


def boxes_of(name: str, folder: Path) -> Boxes:
    """The system's boxes, made when they are not there yet.

    Raises:
        DataError: those that are there are not this system's.
    """
    path, case = folder / "density_boxes" / f"{name}.npz", system(name)
    if not path.is_file():
        x = ends(case, starts(case, TRUTH.get(name, 1 << 20), 20_261_127)).T
        random_boxes(x, case.horizon_s, 300, numpy_rng(0, "boxes", name)).save(path)
    boxes = Boxes.load(path)
    miss = np.abs(boxes.count(ends(case, starts(case, 4096, 3)).T) - boxes.p) / np.sqrt(boxes.p * (1 - boxes.p) / 4096)
    if not (miss < 7).all():
        raise DataError(
            f"boxes {path}: off by up to {miss.max():.0f} standard errors of 4,096 particles; {name} has changed since "
            "then. Remove the file, and it is made anew"
        )
    return boxes


def flow_errors(case: Case, flow: LearnedFlow) -> Row:
    """Errors at the end of the horizon on 4,096 fresh starts."""
    truth = simulate(case.loop, starts(case, 4096, 77, "iid"), case.reference, case.start.stretch_s)
    theta = torch.as_tensor(truth.theta)
    got = flow.push(torch.as_tensor(truth.states[0].T), theta, truth.times[-1:])
    assert truth.gain is not None
    return errors_of(got.states[-1].numpy(), got.gain[-1].numpy(), truth.states[-1], truth.gain[-1])


def errors_of(states: Array, gain: Array, true_states: Array, true_gain: Array) -> Row:
    """RMSE of states `[n, N]`, in their standard deviations, and of log-gains `[N]` (nats)."""
    miss = (states - true_states) / np.maximum(true_states.std(1), 1e-12)[:, None]
    return {
        "state_rmse": float(np.sqrt(np.mean(miss**2))),
        "gain_rmse": float(np.sqrt(np.mean((gain - true_gain) ** 2))),
    }


def published_score(case: Case, flow: LearnedFlow | None, log_density: Callable[..., Any] | None = None) -> Row:
    """The self-normalised KL by both truths; with neither argument, that of a perfect model."""
    if case.start.stretch_s < np.inf:
        return {}  # parameters change on the way: no density over so many dimensions at points
    seen = halves(case, starts(case, 10_000, 1007, "iid"))
    out = {}
    for truth in seen.states:
        if log_density is not None:
            out[f"kl_{truth}"] = seen.score(truth, lambda k, s, t: log_density(s, t))
        elif flow is None:
            out[f"kl_{truth}"] = seen.score(truth, carried(seen.density[truth][0]))
        else:
            x, theta = (torch.as_tensor(a) for a in seen.support)
            gain = flow.push(x, theta, seen.times).gain.numpy()
            out[f"kl_{truth}"] = seen.score(truth, carried(seen.start + gain))
    return out


def pushed(case: Case, flow: LearnedFlow, boxes: Boxes) -> Row:
    """Everything that is asked of a flow."""
    d = starts(case, PUSHED, 5)
    x, theta = torch.as_tensor(d.x), torch.as_tensor(d.theta)
    began = time.process_time()
    p = boxes.count(flow.push(x, theta, [boxes.t]).states[-1].numpy())
    query = time.process_time() - began
    return {**boxes.score(p), **flow_errors(case, flow), **published_score(case, flow), "query_s": query}


def learned(case: Case, boxes: Boxes, runs: Path, trajectories: int, quick: bool) -> Row:
    """A learned flow: shipped (`quick`), or taught here on so many trajectories."""
    if quick:
        return pushed(case, build.shipped_flow(case.name), boxes)
    path = build.teach_flow(case, trajectories, runs / f"{case.name}_{trajectories}")
    state = torch.load(path / "state.pt", weights_only=True)
    return {**pushed(case, load(path), boxes), "simulations": trajectories, "training_s": state["seconds"]}


def published(case: Case, boxes: Boxes, runs: Path, trajectories: int, epochs: int) -> Row:
    """The published recipe on as many trajectories, with a share of its epochs."""
    config = PublishedFlowConfig(hidden=LAYERS.get(case.name, (32, 32)), epochs=epochs)
    draw = starts(case, trajectories, 1)
    learner, source = published_flow(case.loop, draw, case.command, case.steps, config)
    path = train(learner, source, runs / f"{case.name}_published", updates=epochs)
    return {**pushed(case, load(path), boxes), "simulations": trajectories, "epochs": epochs}


def published_network(case: Case, boxes: Boxes) -> Row:
    """The authors' own network, from stored predictions: for Van der Pol and (errors alone) their ground robot."""
    with np.load(PUBLISHED) as f:
        stored = {k: v.astype(float) for k, v in f.items()}
    if case.name == "robot":
        return errors_of(*(stored[f"robot_{k}"] for k in ("state", "log_gain", "true_state", "true_log_gain")))
    if case.name != "vdp":
        raise CapabilityError(f"no predictions of the published network for {case.name}")
    drawn = Draw(np.random.RandomState(1007).uniform(-2.5, 2.5, (10_000, 2)), np.zeros((10_000, 1, 0)))
    truth, seen = simulate(case.loop, drawn, case.reference, case.start.stretch_s), halves(case, drawn)
    state, gain = stored["vdp_end_state"], stored["vdp_end_log_gain"]
    assert truth.gain is not None
    own = carried(seen.start + stored["vdp_log_gain"][:, : len(seen.start)])
    scores = {f"kl_{k}": seen.score(k, own) for k in seen.states}
    return {**boxes.score(boxes.count(state)), **errors_of(state, gain, truth.states[-1], truth.gain[-1]), **scores}


def monte_carlo(case: Case, boxes: Boxes, n: int, sampler: str) -> Row:
    """Counting, over 16 repetitions."""
    errors = [boxes.score(boxes.count(ends(case, starts(case, n, s, sampler)).T)) for s in range(100, 116)]
    rms = float(np.sqrt(np.mean([e["box_rms"] ** 2 for e in errors])))
    p = boxes.p
    likely = p >= 0.05
    return {
        "box_rms": rms,
        "box_median": float(np.mean([e["box_median"] for e in errors])),
        "equals_mc": float(np.mean((1 - p) / p) / rms**2),
        "simulations": n,
        "likely_boxes": int(likely.sum()),
    }


def sobol_ratio(case: Case, boxes: Boxes) -> Row:
    """Pooled RMSE of 1,024 Sobol particles over that of as many independent ones, boxes with p >= 0.05, 32 seeds."""
    likely = boxes.p >= 0.05
    rms = {}
    for sampler in ("sobol", "iid"):
        e = [boxes.count(ends(case, starts(case, 1024, 300 + s, sampler)).T) - boxes.p for s in range(32)]
        rms[sampler] = float(np.sqrt(np.mean(np.square(e)[:, likely]))) if likely.any() else float("nan")
    if not likely.any():
        return {"boxes": 0}
    return {
        "boxes": int(likely.sum()),
        "sobol_rmse": rms["sobol"],
        "iid_rmse": rms["iid"],
        "ratio": rms["sobol"] / rms["iid"],
    }


def rival(case: Case, boxes: Boxes, method: str, n: int) -> Row:
    """One of the estimators of `safeplan.reach.rivals`, fitted on n trajectories."""
    make: dict[str, Callable[[], rivals.Fitted]] = {
        "interval": lambda: rivals.interval_reach(case, case.steps),
        "grid": lambda: rivals.grid_reach(case),
        "sigma points": lambda: rivals.sigma_points(case, case.steps),
        "delaunay": lambda: rivals.delaunay(rivals.simulate(case, n, seed=1, density=True)),
        "kde": lambda: rivals.kde(rivals.simulate(case, n, seed=1)),
        "scaled kde": lambda: rivals.kde(rivals.simulate(case, n, seed=1), bandwidth=None),
        "histogram": lambda: rivals.histogram(rivals.simulate(case, n, seed=1)),
        "hull": lambda: rivals.hull(rivals.simulate(case, n, seed=1)),
        "gaussian process": lambda: rivals.gaussian_process(rivals.simulate(case, n, seed=1)),
    }
    fitted = make[method]()
    p = fitted.probability(boxes.regions())
    missed = {"missed": fitted.missed} if isinstance(fitted, rivals.GridSet) else {}
    return {**boxes.score(p), "simulations": n or None, **missed}


def score_of_rival(case: Case, method: str) -> Row:
    """The published score of KDE and histogram, fitted anew at each time."""
    if case.loop.n > 3 or case.loop.p:
        return {}  # bins and balls over so many dimensions hold no states
    make: Any = {"kde": rivals.kde, "histogram": rivals.histogram}[method]

    def log_density(support: Any, test: Any) -> Any:
        runs = rivals.Runs(case, 0.0, support, np.zeros((len(support), 1, case.loop.p)), support)
        return make(runs).log_density(test)

    return published_score(case, None, log_density)


def methods(quick: bool) -> dict[str, Callable[[Case, Boxes, Path], Row]]:
    """Name -> what does the work."""
    cheap: dict[str, Callable[[Case, Boxes, Path], Row]] = {
        "learned flow, 1,000 trajectories": partial(learned, trajectories=1000, quick=quick),
        "Monte Carlo, 1,000": lambda c, b, r: monte_carlo(c, b, 1000, "iid"),
        "Sobol particles, 1,024": lambda c, b, r: monte_carlo(c, b, 1024, "sobol") | sobol_ratio(c, b),
        "histogram, 1,024": lambda c, b, r: rival(c, b, "histogram", 1024) | score_of_rival(c, "histogram"),
        "KDE, 1,024": lambda c, b, r: rival(c, b, "kde", 1024) | score_of_rival(c, "kde"),
        "KDE with scaled states, 1,024": lambda c, b, r: rival(c, b, "scaled kde", 1024),
        "sigma points": lambda c, b, r: rival(c, b, "sigma points", 0),
        "hull, 1,024": lambda c, b, r: rival(c, b, "hull", 1024),
        "published network (its predictions)": lambda c, b, r: published_network(c, b),
        "perfect model": lambda c, b, r: published_score(c, None),
    }
    if quick:
        return cheap
    return cheap | {
        "learned flow, 100 trajectories": partial(learned, trajectories=100, quick=False),
        "published recipe (fewer epochs), 1,000": lambda c, b, r: published(c, b, r, 1000, EPOCHS.get(c.name, 5_000)),
        "gaussian process, 256": lambda c, b, r: rival(c, b, "gaussian process", 256),
        "delaunay, 1,024": lambda c, b, r: rival(c, b, "delaunay", 1024),
        "interval reachability": lambda c, b, r: rival(c, b, "interval", 0),
        "grid (hj-reachability)": lambda c, b, r: rival(c, b, "grid", 0),
        "Monte Carlo, 10,000": lambda c, b, r: monte_carlo(c, b, 10_000, "iid"),
        "Sobol particles, 8,192": lambda c, b, r: monte_carlo(c, b, 8192, "sobol"),
    }


def job(quick: bool, folder: str, given: str | None, which: str, seed: int) -> Row:
    """One system and method; a method that cannot do it says why."""
    name, method = which.split(" | ")
    case, boxes = system(name), Boxes.load(given) if given else boxes_of(name, Path(folder))
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        found: Row = methods(quick)[method](case, boxes, ROOT / "runs" / "density")
    except SafeplanError as e:
        found = {"refused": str(e)}
    return {"result": found, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def line(row: Row) -> str:
    """One row as text."""
    r = row["result"]
    if "refused" in r:
        return f"{row['planner']:58s} {r['refused'][:80]}"
    numbers = [
        f"{k} {r[k]:.4g}"
        for k in ("gain_rmse", "state_rmse", "box_rms", "equals_mc", "ratio", "kl_euler", "kl_rk4")
        if k in r
    ]
    return f"{row['planner']:58s} {', '.join(numbers)}  ({row['cpu_s']:.1f} CPU-s)"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--system", nargs="+", choices=systems(), default=None, help="default: all ten; vdp with --boxes"
    )
    parser.add_argument("--boxes", default=None, help="a .npz with t, lo, hi, p_true for the one system")
    parser.add_argument("--quick", action="store_true", help="shipped weights and cheap methods")
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = args.system or (["vdp"] if args.boxes or args.quick else list(systems()))
    if args.boxes:
        if len(names) > 1:
            parser.error("--boxes is about one system")
        b, case = Boxes.load(args.boxes), system(names[0])
        if abs(b.t - case.horizon_s) > 1e-9:
            raise SafeplanError(
                f"boxes {args.boxes}: t = {b.t:g} s, the horizon of {case.name} is {case.horizon_s:g} s"
            )
    for name in [] if args.boxes else names:
        boxes_of(name, args.out)
    jobs = [f"{n} | {m}" for n in names for m in methods(args.quick)]
    tag = "_quick" if args.quick else ""
    study = args.out / f"density_table{tag}.study.jsonl"
    if args.quick:
        study.unlink(missing_ok=True)
    work = partial(job, args.quick, str(args.out), args.boxes)
    settings = {"quick": args.quick, "boxes": args.boxes, "truth": 1 << 20, "epochs": EPOCHS, "pushed": PUSHED}
    header, rows = run_study(work, jobs, [0], study, settings, kinds={"result": dict})
    for row in rows:
        name, r = row["planner"].split(" | ")[0], row["result"]
        if r.get("box_rms"):
            p = Boxes.load(args.boxes or args.out / "density_boxes" / f"{name}.npz").p
            r["equals_mc_median"] = float(np.median((1 - p) / p)) / r["box_rms"] ** 2
    for row in rows:
        print(line(row))
    write(args.out / f"density_table{tag}.json", {**header, "rows": rows})
    if args.quick:
        study.unlink()
    print(f"results: {args.out}/density_table{tag}.json")
    (rms,) = (r["result"]["box_rms"] for r in rows if r["planner"] == f"{names[0]} | learned flow, 1,000 trajectories")
    print(f"{rms:.4f}")
    return 0 if rms <= LIMIT else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SafeplanError as e:
        print(f"density_table: error: {e}", file=sys.stderr)
        sys.exit(2)
