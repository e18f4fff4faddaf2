"""Fit the hovercraft and its uncertainty on recordings of real craft, holding each recording out in turn.

    python scripts/fit_hovercraft.py            # writes safeplan/dynamics/hovercraft.json and results/fit_hovercraft.*
    python scripts/fit_hovercraft.py --quick    # coarse, a few seconds, writes nothing unless --out is given

The recordings (PREDICT-EPFL/holohover-sysid, BSD-2) lie decimated in scripts/data/holohover; --from-original FILE
makes that copy anew. Fitted parameters are compared with the published ones, each with its motor lag on the signals,
and with constant velocity; "planned" is the fit as the planner's 9-state system has it, with the lag on the thrust.
The belief's 90 % regions come from particles through that system and are counted on the held-out windows.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm import tqdm

from safeplan.dynamics.hovercraft import PAIRS, PARAMS
from safeplan.dynamics.identification import (
    Craft,
    Recording,
    Regressions,
    healthy,
    load_recordings,
    published,
    regression,
    save_json,
)
from safeplan.dynamics.prediction import calibrate, covered, particles, predict, sensitivities, starts
from safeplan.errors import DataError, SafeplanError
from safeplan.rng import numpy_rng

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "scripts" / "data" / "holohover"
HORIZONS = (0.1, 0.25, 0.5)
MODELS = ("fitted", "planned", "published", "constant velocity")
FIXED_SD = {"position": 5e-4, "yaw": 2e-3}  # m and rad, of motion capture
GUESS = {"velocity": 0.005, "spin_rate": 0.08, "thrust": 0.01, "push": 0.15, "twist": 4.0}
# what the start state may be blamed for is bounded by the noise of motion capture's derivatives (m/s, rad/s) and by
# what the lag model may be off (N); the gain, drawn once per flight, by a weak battery; disturbances carry the rest
LOW = {"velocity": 3e-3, "spin_rate": 0.03, "thrust": 5e-3, "push": 0.02, "twist": 0.5}
HIGH = {"velocity": 8e-3, "spin_rate": 0.1, "thrust": 0.04, "gain": 0.2, "push": 2.0, "twist": 50.0}


@dataclass(frozen=True)
class Size:
    """How fine the run is."""

    stride: int  # samples between regression windows
    every_s: float  # s between windows of the error table
    cover_s: float  # s between windows of the coverage
    particles: int
    taus: dict[str, np.ndarray]


FULL = Size(5, 0.1, 0.25, 512, {"signal": np.arange(0.024, 0.0341, 0.002), "thrust": np.arange(0.02, 0.0321, 0.002)})
QUICK = Size(12, 0.5, 1.0, 128, {"signal": np.array([0.029]), "thrust": np.array([0.026])})


def decimate(source: Path, folder: Path, by: int = 2) -> None:
    """Write every `by`-th state and the mean of the signals in between as `recordings.npz` in `folder`."""
    if not source.is_file():
        raise DataError(f"{source}: no such file; --from-original takes holohover_sysid.npz")
    step = np.array([1e-5, 1e-5, 1e-4, 1e-4, 1e-4, 1e-3])  # m, rad, m/s, rad/s: below the noise, so that it packs well
    with np.load(source) as data:
        names = sorted({k.split("/")[0] for k in data.files})
        out = {"rate": np.float64(240 / by)}
        for name in names:
            x, u = data[f"{name}/X"].astype(float), data[f"{name}/U"]
            n = len(x) // by
            out[f"{name}/X"] = (np.round(x[::by][:n] / step) * step).astype(np.float32)
            out[f"{name}/U"] = np.round(u[: n * by].reshape(n, by, 6).mean(1) * 1e4).astype(np.uint16)
    part = folder / "recordings.tmp.npz"
    np.savez_compressed(part, **out)  # pyright: ignore[reportArgumentType]
    part.replace(folder / "recordings.npz")


def errors(path: np.ndarray, rec: Recording, first: np.ndarray, keep: list[int]) -> dict[str, dict[str, float]]:
    """Mean (and median) error per horizon of the predicted motion `path [W, T, 6]`."""
    e = path - rec.state[first[:, None] + np.array(keep)]
    size = {
        "position": np.hypot(e[..., 0], e[..., 1]),
        "yaw": np.abs(e[..., 2]),
        "velocity": np.hypot(e[..., 3], e[..., 4]),
    }
    return {
        f"{k / rec.rate:g}": {q: float(v[:, j].mean()) for q, v in size.items()}
        | {f"{q}_median": float(np.median(v[:, j])) for q, v in size.items()}
        for j, k in enumerate(keep)
    }


def constant_velocity(rec: Recording, first: np.ndarray, keep: list[int]) -> np.ndarray:
    """Motion `[W, T, 6]` when velocity and spin stay as they are."""
    x = rec.state[first][:, None].repeat(len(keep), 1)
    x[..., :3] += x[..., 3:] * (np.array(keep) / rec.rate)[:, None]
    return x


def residual_memory(rec: Recording, craft: Craft, span_s: float = 0.05) -> tuple[float, float]:
    """Integral time (s) of the autocorrelation of translation residuals, and the share beyond 6 robust sd."""
    k = round(span_s * rec.rate)
    rows = regression(rec, craft.tau, k, "thrust", k)[0]
    e = (rows @ np.r_[-craft.effects()[0], 1.0])[: len(rows) // 2].reshape(2, -1)
    sd = 1.4826 * np.median(np.abs(e))
    lost = float((np.abs(e) > 6 * sd).mean())
    e = np.clip(e, -4 * sd, 4 * sd)
    e = e - e.mean(1, keepdims=True)
    rho = [float((e[:, j:] * e[:, : e.shape[1] - j]).sum() / (e**2).sum()) for j in range(1, 21)]
    stop = next((j for j, r in enumerate(rho) if r < 0.05), len(rho))
    return span_s * (1 + 2 * sum(rho[:stop])), lost


def spreads(crafts: list[Craft], middle: Craft) -> dict[str, float]:
    """Standard deviation between crafts of pair gains, lag, drag and spin drag."""
    s = np.linspace(0, 1, 11)
    signals = np.concatenate([np.outer(s, row) for row in np.eye(6)])
    want = middle.thrust(signals)
    gain = [(c.thrust(signals) * want).sum(0) / (want**2).sum(0) * c.mass / middle.mass for c in crafts]
    std = {k: float(np.std([getattr(c, k) for c in crafts], ddof=1)) for k in ("tau", "drag", "spin")}
    return std | {"gain": float(np.std(gain, axis=0, ddof=1).mean())}


class Study:
    """All fits that leave recordings out, made once each."""

    def __init__(self, recs: tuple[Recording, ...], prior: Craft, size: Size):
        self.recs, self.prior, self.size = recs, prior, size
        self.sets = {on: Regressions(recs, (0.1, 0.25), on, size.stride) for on in ("signal", "thrust")}
        self.own = [self.sets["thrust"].fit_lag([i], prior, size.taus["thrust"]) for i in range(len(recs))]
        self._fits: dict[tuple, Craft] = {}

    def pool(self, out: set[int]) -> list[int]:
        """Recordings to fit on when those in `out` are held out: all others whose motors are whole."""
        rest = [i for i in range(len(self.recs)) if i not in out]
        return [i for i, ok in zip(rest, healthy([self.own[i] for i in rest]), strict=True) if ok]

    def fit(self, out: set[int], on: str = "thrust", tau: float | None = None) -> Craft:
        """The craft fitted without the recordings in `out`; the lag is searched unless given."""
        key = (frozenset(out), on, tau)
        if key not in self._fits:
            taus = self.size.taus[on] if tau is None else np.array([tau])
            self._fits[key] = self.sets[on].fit_lag(self.pool(out), self.prior, taus)
        return self._fits[key]

    def belief(self, craft: Craft, out: set[int], stretch_s: float) -> dict:
        """System parameters whose spreads are calibrated on the recordings not in `out`.

        Each recording's errors come from a fit that has seen neither it nor those in `out`.
        """
        pool = self.pool(out)
        wide = spreads([self.own[i] for i in pool], craft)
        # at least a tenth of the lag, because the true lag is not on the thrust; drag that stays positive at the cut
        fixed = {"tau": float(np.clip(wide["tau"], craft.tau / 10, craft.tau / 4))}
        fixed |= {k: min(wide[k], max(getattr(craft, k), 0.0) / 2) for k in ("drag", "spin")}
        par = assemble(craft, fixed, dict.fromkeys(HIGH, 0.0), stretch_s)
        caused, error, work = [], [], []
        for i in pool:
            rec, other = self.recs[i], self.fit(out | {i}, tau=craft.tau)
            keep = [round(t * rec.rate) for t in HORIZONS]
            first = starts(rec, HORIZONS[-1], self.size.cover_s)
            caused.append(sensitivities(other, par, rec, first, keep))
            path = predict(other, rec, first, keep, "thrust")
            error.append((path - rec.state[first[:, None] + np.array(keep)])[..., :3])
            work.append(effort(other, rec, first, keep[-1]))
        w = np.concatenate(work)
        guess = GUESS | {"gain": wide["gain"]}
        low = LOW | {"gain": min(wide["gain"], 0.9 * HIGH["gain"])}
        bins = np.digitize(w, np.quantile(w, [1 / 3, 2 / 3]))
        found = calibrate(np.concatenate(caused, 1), np.concatenate(error), bins, guess, low, HIGH)
        return assemble(craft, fixed, found, stretch_s)


def effort(craft: Craft, rec: Recording, first: np.ndarray, steps: int) -> np.ndarray:
    """Mean total thrust `[W]` (N) commanded in each window."""
    total = np.concatenate([[0.0], np.cumsum(np.abs(craft.thrust(rec.signals)).sum(1))])
    return (total[first + steps] - total[first]) / steps


def assemble(craft: Craft, fixed: dict[str, float], found: dict[str, float], stretch_s: float) -> dict:
    """What `hovercraft.json` holds, from a craft and the spreads of its belief."""
    mean = craft.system_parameters()["belief"]
    sd = fixed | {f"gain_{k}": found["gain"] for k in PAIRS}
    sd |= {"ax": found["push"], "ay": found["push"], "aw": found["twist"]}
    p, y, f = FIXED_SD["position"], FIXED_SD["yaw"], found["thrust"]
    state_sd = [p, p, y, found["velocity"], found["velocity"], found["spin_rate"], f, f, f]
    belief = {k: {"mean": mean[k]["mean"], "sd": sd[k]} for k in PARAMS}
    return craft.system_parameters(belief, state_sd=state_sd, stretch_s=stretch_s)


def hold_out(study: Study, n: int, stretch_s: float, seed: int) -> dict:
    """Errors and coverage on recording `n` of everything fitted without it."""
    rec, size = study.recs[n], study.size
    keep = [round(t * rec.rate) for t in (*HORIZONS, 1.0)]
    first = starts(rec, 1.0, size.every_s)
    best, plan = study.fit({n}, "signal"), study.fit({n}, "thrust")
    paths = {
        "fitted": predict(best, rec, first, keep, "signal"),
        "planned": predict(plan, rec, first, keep, "thrust"),
        "published": predict(study.prior, rec, first, keep, "signal"),
        "constant velocity": constant_velocity(rec, first, keep),
    }
    table = {k: errors(v, rec, first, keep) for k, v in paths.items()}
    par = study.belief(plan, {n}, stretch_s)
    first = starts(rec, HORIZONS[-1], size.cover_s)
    cloud = particles(plan, par, rec, first, keep[:3], size.particles, numpy_rng(seed, "fit_hovercraft", rec.name))
    hit = np.stack([covered(cloud[:, :, j], rec.state[first + k]) for j, k in enumerate(keep[:3])], 1)
    slow, easy = np.abs(rec.state[first, 5]) < 2, effort(plan, rec, first, keep[2])
    parts = {"all": np.ones(len(first), bool), "slow": slow, "gentle": easy <= np.quantile(easy, 1 / 3)}
    sd = {"push": par["belief"]["ax"]["sd"], "twist": par["belief"]["aw"]["sd"], "gain": par["belief"]["gain_a"]["sd"]}
    return {"errors": table, "windows": len(paths["fitted"]), "sd": sd, "hit": hit, "parts": parts}


def share(hit: np.ndarray) -> dict[str, dict[str, float]]:
    """Coverage per horizon from `hit [W, T, 2]`."""
    return {f"{t:g}": {"position": float(h[0]), "yaw": float(h[1])} for t, h in zip(HORIZONS, hit.mean(0), strict=True)}


def percent(cover: dict[str, dict[str, float]]) -> str:
    """Coverage of position/yaw per horizon in words."""
    return ", ".join(f"{t} s {v['position']:.0%}/{v['yaw']:.0%}" for t, v in cover.items())


def report(result: dict) -> None:
    """Print the tables."""
    heads = "".join(f"{m:>12s}" for m in ("fitted", "planned", "published", "const. vel."))
    print(f"{'held-out recording':40s}{heads}      fitted/published")
    for name, row in result["held_out"].items():
        for t, q in ((t, q) for t in ("0.1", "0.25", "0.5", "1") for q in ("position", "yaw")):
            if (t, q) != ("1", "yaw"):
                scale, unit = (1e3, "mm") if q == "position" else (1.0, "rad")
                e = [row["errors"][m][t][q] * scale for m in MODELS]
                numbers = "".join(f"{v:11.3g} " for v in e)
                print(f"{name:34s}{t:>5s} s{numbers} {unit:4s}{e[0] / e[2]:6.2f}")
        print(f"{'':6s}90 % regions hold (position/yaw): {percent(row['coverage']['all'])}")
    for k, c in result["pooled_coverage"].items():
        print(f"pooled, {k}: {percent(c)}")
    print(result["found"])


def picture(result: dict, file: Path) -> None:
    """Errors relative to the published parameters, and coverage, per held-out recording."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(result["held_out"])
    short = [f"{n[:10]}\n{n.split('_', 5)[-1].replace('sysid_', '')}" for n in names]
    fig, axes = plt.subplots(2, 2, figsize=(13, 7.5), sharex=True)
    x = np.arange(len(names))
    for ax, q in zip(axes[0], ("position", "yaw"), strict=True):
        for j, t in enumerate(("0.1", "0.25", "0.5")):
            for m, colour in (("fitted", f"C{j}"), ("planned", "none")):
                rows = [result["held_out"][n]["errors"] for n in names]
                r = [row[m][t][q] / row["published"][t][q] for row in rows]
                label = f"{t} s" if m == "fitted" else ("with lag on thrust" if j == 0 else None)
                ax.scatter(x + 0.2 * (j - 1), r, color=colour, edgecolor=f"C{j}", label=label, zorder=3)
        ax.axhline(1, color="k", lw=0.8)
        ax.set_title(f"{q} error of the fit / of the published parameters (held out)")
        ax.legend(loc="upper left")
        ax.grid(alpha=0.3)
    for ax, k in zip(axes[1], (0, 1), strict=True):
        q = ("position", "yaw")[k]
        for j, t in enumerate(("0.1", "0.25", "0.5")):
            for part, colour in (("all", f"C{j}"), ("slow", "none")):
                c = [100 * result["held_out"][n]["coverage"][part][t][q] for n in names]
                label = f"{t} s" if part == "all" else ("only |w| < 2 rad/s" if j == 0 else None)
                ax.scatter(x + 0.2 * (j - 1), c, color=colour, edgecolor=f"C{j}", label=label, zorder=3)
        ax.axhspan(85, 95, color="C2", alpha=0.15)
        ax.set_title(f"windows inside the predicted 90 % region of {q}, %")
        ax.set_xticks(x, short, fontsize=8)
        ax.set_ylim(40, 101)
        ax.grid(alpha=0.3)
        ax.legend(loc="lower left")
    fig.tight_layout()
    part = file.with_name(file.stem + ".tmp.png")
    fig.savefig(part, dpi=90)
    plt.close(fig)
    part.replace(file)


def alignment(study: Study) -> dict[str, float]:
    """Mean loss of the best own fits when the signals are moved by some milliseconds (+: the craft answers later)."""
    out = {}
    whole = study.pool(set())
    for ms in (-8.33, -4.17, 0.0, 4.17, 8.33):
        moved = []
        for r in study.recs:
            t = np.arange(len(r.signals))
            u = np.stack([np.interp(t - ms * 1e-3 * r.rate, t, s) for s in r.signals.T], 1)
            moved.append(replace(r, signals=u))
        trial = Regressions(tuple(moved), (0.1,), "signal", 4 * study.size.stride)
        best = [trial.fit_lag([i], study.prior, np.arange(0.016, 0.041, 0.004)) for i in whole]
        out[f"{ms:g}"] = float(np.mean([trial.loss(c, i).mean() for c, i in zip(best, whole, strict=True)]))
    return out


def run(folder: Path, size: Size, seed: int) -> tuple[dict, dict]:
    """The whole study: what `hovercraft.json` gets, and the results."""
    recs = load_recordings(folder)
    prior = published(folder / "holohover_params_new.yaml")
    bar = tqdm(total=len(recs) + 3, disable=not sys.stderr.isatty(), desc="fit_hovercraft")
    study = Study(recs, prior, size)
    bar.update()
    whole = study.pool(set())
    memory = [residual_memory(r, study.own[i]) for i, r in enumerate(recs)]
    stretch_s = float(np.clip(round(np.median([m for m, _ in memory]) / 0.05) * 0.05, 0.2, 0.5))
    delay = alignment(study)
    bar.update()
    folds = []
    for n in range(len(recs)):
        folds.append(hold_out(study, n, stretch_s, seed))
        bar.update()
    craft, sharp = study.fit(set()), study.fit(set(), "signal")
    par = study.belief(craft, set(), stretch_s)
    bar.update()
    bar.close()

    held = {}
    for n, (r, f) in enumerate(zip(recs, folds, strict=True)):
        held[r.name] = {
            "errors": f["errors"],
            "coverage": {k: share(f["hit"][m]) for k, m in f["parts"].items()},
            "windows": {"errors": f["windows"]} | {k: int(m.sum()) for k, m in f["parts"].items()},
            "sd": f["sd"],
            "motors_whole": n in whole,
            "residual_memory_s": memory[n][0],
            "unexplained_share": memory[n][1],
        }
    pooled = {}
    for label, which in (("all", range(len(recs))), ("motors whole", whole)):
        for part in ("all", "slow", "gentle"):
            hits = np.concatenate([folds[n]["hit"][folds[n]["parts"][part]] for n in which])
            pooled[label if part == "all" else f"{label}, {part}"] = share(hits)

    def wins(model: str, q: str, t: str) -> int:
        return sum(r["errors"][model][t][q] < r["errors"]["published"][t][q] for r in held.values())

    better = {
        m: {q: {f"{t:g}": wins(m, q, f"{t:g}") for t in HORIZONS} for q in ("position", "yaw")}
        for m in ("fitted", "planned")
    }
    b, w = better["fitted"], par["belief"]
    found = (
        f"Found: the fit beats the published parameters on {b['position']['0.1']} and {b['position']['0.25']} of "
        f"{len(recs)} held-out recordings in position at 0.1 and 0.25 s ({b['yaw']['0.1']} and {b['yaw']['0.25']} in "
        f"yaw); the belief has disturbances of {w['ax']['sd']:.2f} m/s^2 and {w['aw']['sd']:.1f} rad/s^2 (sd, per "
        f"{stretch_s:g} s, cut at 2 sd) and pair gains of +-{w['gain_a']['sd']:.0%}; its 90 % regions hold of held-out "
        f"windows (position/yaw) {percent(pooled['all'])}, and of craft with whole motors "
        f"{percent(pooled['motors whole'])}."
    )
    result = {
        "what": "hovercraft fitted on real recordings, leave one recording out; every number comes from this run",
        "command": "python scripts/fit_hovercraft.py" + ("" if size is FULL else " --quick"),
        "notes": [
            "errors are means over windows of open-loop predictions; medians beside them",
            "fitted and published: lag on the motor signals; planned: the planner's 9 states, lag on the pair thrust",
            "published: holohover_params_new.yaml; its thrust polynomials are those that its authors identified on "
            "recording 2024_03_14-16_00_32_sysid_h4_yellow (their models/2024_03_14-11_19_34_sysid_h4), so seen",
            "the authors aligned signals and motion in time, so these recordings cannot show a pure actuation delay",
            "slow: |w| < 2 rad/s at the start; gentle: the third of windows with the least commanded thrust",
        ],
        "seed": seed,
        "device": "cpu",
        "versions": {p: version(p) for p in ("numpy", "scipy")} | {"python": sys.version.split()[0]},
        "found": found,
        "held_out": held,
        "pooled_coverage": pooled,
        "better_than_published_of_" + str(len(recs)): better,
        "left_out_for_a_weak_motor": [recs[i].name for i in range(len(recs)) if i not in whole],
        "spread_between_crafts": spreads([study.own[i] for i in whole], craft),
        "lag_s": {"signal": sharp.tau, "thrust": craft.tau, "own": [c.tau for c in study.own]},
        "loss_by_moved_signals_ms": delay,
        "fitted": {k: np.asarray(getattr(sharp, k)).tolist() for k in Craft.__dataclass_fields__},
    }
    table = {
        n: {m: {t: [v["position"], v["yaw"]] for t, v in r["errors"][m].items()} for m in MODELS}
        for n, r in held.items()
    }
    shipped = {
        "source": "scripts/fit_hovercraft.py on seven recordings of real craft by PREDICT-EPFL/holohover-sysid (BSD-2)",
        **par,
        "provenance": {k: result[k] for k in ("command", "seed", "versions", "left_out_for_a_weak_motor")}
        | {"held_out_errors_m_rad": table, "pooled_coverage": pooled},
    }
    return shipped, result


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="coarse run of a few seconds; writes only where --out says")
    p.add_argument("--seed", type=int, default=0, help="of the particles")
    p.add_argument("--data", type=Path, default=DATA, help="folder of recordings.npz and the published parameters")
    p.add_argument("--out", type=Path, help="folder for what is written, instead of the repository's places")
    p.add_argument(
        "--from-original", type=Path, metavar="FILE", help="first make recordings.npz anew from the 240 Hz npz"
    )
    args = p.parse_args(argv)
    try:
        if args.from_original:
            decimate(args.from_original, args.data)
        shipped, result = run(args.data, QUICK if args.quick else FULL, args.seed)
    except SafeplanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    report(result)
    if args.quick and not args.out:
        print("quick run: nothing written (give --out FOLDER to keep it)")
        return 0
    craft_file = (args.out or ROOT / "safeplan" / "dynamics") / "hovercraft.json"
    results = args.out or ROOT / "results"
    results.mkdir(parents=True, exist_ok=True)
    save_json(craft_file, shipped)
    save_json(results / "fit_hovercraft.json", result)
    picture(result, results / "fit_hovercraft.png")
    print(f"written: {craft_file}, {results / 'fit_hovercraft.json'}, {results / 'fit_hovercraft.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
