"""Write the tables of results/README.md, and excerpts in README.md, from results/*.json, between their markers.

A marker is `<!-- table: NAME -->` ... `<!-- end -->`, or `<!-- table: NAME, short -->` for the excerpt; NAME.json lies
in results/. No file: the table says so. `--check` writes nothing and says whether all of them are true.
"""

import argparse
import json
import re
from pathlib import Path

from safeplan.evaluation.offline_markdown import offline, offline_short
from safeplan.evaluation.report import generic, markdown, number, spread

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "results/README.md")
MARKER = re.compile(r"(<!-- table: (?P<name>\w+)(?P<short>, short)? -->\n).*?(<!-- end -->)", re.DOTALL)


def fit(data: dict) -> str:
    """Held-out errors of the hovercraft's fit, per recording; coverage of its regions."""
    rows = []
    for name, r in data["held_out"].items():
        row: dict[str, object] = {"held-out recording": name}
        for horizon in ("0.1", "0.25", "0.5", "1"):
            errors = (100 * r["errors"][m][horizon]["position"] for m in ("fitted", "published", "constant velocity"))
            row[f"cm at {horizon} s: fitted / published / constant velocity"] = " / ".join(f"{e:.2f}" for e in errors)
        rows.append(row)
    cover = "; ".join(
        f"{horizon} s: position {100 * c['position']:.0f} %, yaw {100 * c['yaw']:.0f} %"
        for horizon, c in data["pooled_coverage"]["all"].items()
    )
    note = f"Mean position error of open-loop predictions. Held-out windows inside the predicted 90 % regions: {cover}."
    return generic({"rows": rows, "note": note})


def unsafe_set(data: dict) -> str:
    """FISOR's infeasible set of the point robot against the true one, as learned and calibrated."""
    now, c = {k: data[f"{k}_disc_now"] for k in ("iou", "false_safe")}, data.get("calibration")
    sets = {"FISOR": (data, c and c["new_at_zero"])}
    if c:
        sets["FISOR, calibrated"] = (c["grid"], c["new"])
    sets['"not inside a disc now"'] = (now, c and c["new_disc_now"])
    rows = []
    for name, (grid, new) in sets.items():
        row = {"unsafe set": name, "IoU": grid["iou"], "false safe": grid["false_safe"]}
        rows.append(row | ({"new states: IoU": new["iou"], "false safe there": new["false_safe"]} if new else {}))
    minutes = data["training_seconds"] / 60
    note = (
        f"{data['states']} states of a grid; {data['update']} updates in {minutes:.0f} min, seed {data['seed']}, "
        f"{data['device']}, {data['threads']} thread(s). False safe: share of truly unsafe states called safe."
    )
    return generic({"rows": rows, "note": f"{note} {calibrated(c) if c else 'Calibration: *not run yet*.'}"})


def calibrated(c: dict) -> str:
    """What a calibrated threshold promised and what it missed."""
    low, high = (100 * v for v in c["new_false_safe_interval"])
    said = (
        f"Calibrated on {c['states']} unsafe states drawn at random, so that of their kind at most "
        f"{100 * c['alpha']:g} % are called safe, for all but {100 * c['delta']:g} % of calibration sets. "
        f"Of {c['new_unsafe']} new ones {100 * c['new']['false_safe']:.2f} % are (95 % interval {low:.2f} to "
        f"{high:.2f} %), and {c['new']['false_safe_outside_discs']:.1%} of those that are not inside a disc yet."
    )
    for p in c["promises"].values():
        kind, above = "on average", ""
        if p["delta"] is not None:
            kind, above = f"for all but {100 * p['delta']:g} % of splits", f", {p['above']} splits above"
        said += (
            f" Promised: at most {100 * p['alpha']:g} % {kind}; found in {p['splits']} splits that calibrate on "
            f"{p['calibrated_on']}: mean {100 * p['mean']:.3f} % (standard error {100 * p['standard_error']:.3f} %)"
            f"{above}; {'kept' if p['kept'] else '**BROKEN**'} (p = {p['p']:.2g})."
        )
    return said


def speed(data: dict) -> str:
    """Training and acting speed of FISOR; what the aims are about."""
    keys = ("variant", "update ms", "over the floor", "action ms", "20 actions ms", "one-step action ms")
    drawn = lambda r: {keys[-1]: f"{number(r[keys[-1]])} (best of {r.get('one-step candidates', 1)})"}  # noqa: E731
    rows, more = [r | drawn(r) for r in data["rows"]], "minutes for 1M updates"
    columns = (*keys, more) if any(more in r for r in rows) else keys
    return generic({"rows": [{k: r.get(k, "-") for k in columns} for r in rows], "note": data["note"]})


def bench(data: dict) -> str:
    """Some rows of the analytic bench, and how many effects were found."""
    shown = ("conditional", "CFG 4", "CFG 10", "APG 10", "CFG++ 0.6", "AG 0.99 of CFG 4", "LinearAG of CFG 4", "GFCG 3")
    parts = []
    for world, title in (("clusters", "four classes of two modes in 16 dimensions"), ("trajectories", "x[8] >= 1")):
        rows = [{k: v for k, v in r.items() if k != "world"} for r in data["rows"] if r["world"] == world]
        rows = [r for r in rows if world != "clusters" or r["method"] in shown]
        parts.append(generic({"rows": [{title if k == "method" else k: v for k, v in r.items()} for r in rows]}))
    found = data["effects"]
    note = (
        f"{sum(found.values())} of {len(found)} effects found. {data['note']}; all rows in results/guidance_bench.json."
    )
    return "\n\n".join([*parts, note])


def coverage(data: dict) -> str:
    """Miss rates of certificates with plan selection in the loop: a line per setting, a column per certificate."""
    settings: dict[str, dict[str, str]] = {}
    for r in data["rows"]:
        cell = f"{r['rate']:.1%}" + (" BROKEN" if r["kept"] is False else "")
        if "bound_over_risk" in r:
            cell += f"; {r['bound_over_risk']:.2f} x risk"
        if "certified" in r:
            cell += f"; {r['draws']:.0f} draws, {r['certified']:.0%} certified"
        name = r["method"].partition(" (")[0] + (" (no promise)" if r["promised"] is None else "")
        settings.setdefault(r["setting"], {"setting": r["setting"]})[name] = cell
    alike: dict[tuple[str, ...], list[dict]] = {}
    for row in settings.values():
        alike.setdefault(tuple(row), []).append(row)
    s = data["settings"]
    note = (
        f"{s['repetitions']} repetitions a setting, seed {s['seed']}, delta {s['delta']:g}. Before each certificate a "
        "plan is chosen among K by an estimate on n samples. Cells: misses, where the bound is below the true risk (at "
        "any look, where there are several); then the mean bound relative to the risk, or mean draws and share "
        "certified. BROKEN: more misses than delta allows (exact binomial test at 1 %)."
    )
    return "\n\n".join([*(generic({"rows": rows}) for rows in alike.values()), note])


def worth(r: dict, key: str = "equals_mc") -> str:
    """What an error on the boxes equals in simulations, to two digits: 950, 38k, 1.1M."""
    if not r.get("box_rms"):
        return "refused" if "refused" in r else "-"
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if r[key] >= 0.995 * unit:
            return f"{float(f'{r[key] / unit:.2g}'):g}{letter}"
    return f"{float(f'{r[key]:.2g}'):g}"


def densities(data: dict) -> str:
    """What every method is worth on every system; then what flows know beside that."""
    found: dict[str, dict[str, dict]] = {}
    for r in data["rows"]:
        name, method = r["planner"].split(" | ")
        found.setdefault(method, {})[name] = r["result"] | {"cpu_s": r["cpu_s"]}
    names = list(dict.fromkeys(r["planner"].split(" | ")[0] for r in data["rows"]))
    perfect = found.pop("perfect model", {})
    boxes = [{"method": m} | {n: worth(by[n]) if n in by else "-" for n in names} for m, by in found.items()]
    flows = []
    for name in names:
        for method, by in found.items():
            r = by.get(name, {})
            if "gain_rmse" in r:
                line = {"system": name, "flow": method, "boxes": f"{r['box_rms']:.1%}" if "box_rms" in r else "-"}
                line |= {"log-gain (nats)": r["gain_rmse"], "state (sd)": r["state_rmse"]}
                for truth in ("euler", "rk4"):
                    kl, floor = r.get(f"kl_{truth}"), perfect.get(name, {}).get(f"kl_{truth}")
                    line[f"KL, {truth}"] = "-" if kl is None or floor is None else f"{kl:.4f} ({floor:.4f})"
                taught = r.get("training_s", r["cpu_s"] if "epochs" in r else None)
                line |= {"taught in (CPU s)": "-" if taught is None else f"{taught:.0f}"}
                flows.append(line)
    ratios = [f"{n} {r['ratio']:.2f}" for m, by in found.items() for n, r in by.items() if "ratio" in r]
    few = found.get("learned flow, 100 trajectories", {})
    median = [f"{n} {worth(r, 'equals_mc_median')}" for n, r in few.items()]
    note = (
        "First table: how many independent simulations estimate the probabilities of 300 random boxes as well. Second: "
        "relative RMS error of those, RMSE of log-gain and state, and the published score by Euler and RK4 truth "
        "(that of a perfect model in brackets). Pooled RMSE of 1,024 Sobol particles over that of as many independent "
        f"ones, boxes with p >= .05: {', '.join(ratios)}. Flows of 100 trajectories counted by the median box: "
        f"{', '.join(median)}. The published recipe has 50,000 of its 500,000 epochs on vdp, 5,000 elsewhere; the "
        "published network's predictions for the robot are under another controller."
    )
    return "\n\n".join([generic({"rows": boxes}), generic({"rows": flows}), note])


def densities_short(data: dict) -> str:
    """What every method is worth on every system."""
    return densities(data).partition("\n\n")[0]


def evaluated_short(data: dict) -> str:
    """Outcomes of every planner; the paired differences are left out."""
    return markdown(data).partition("\n\n")[0] + "\n\nBrackets: exact 95 % intervals."


def particles(data: dict) -> str:
    """Variants of the particle engine; queries of learned flows."""
    rows, ratios, queries = [], [], []
    for r in data["rows"]:
        on = f"{r['threads']} thread(s)" if "threads" in r else r.get("device", "")
        if "ratio" in r:
            ratios.append(f"{r['variant']} {r['ratio']:.1f} x ({on})")
        elif "times_numpy" in r:
            rows.append(
                {
                    "variant": r["variant"],
                    "on": on,
                    "ms": f"{r['ms']:.2f}",
                    "million particle-steps / s": f"{r['particle_steps_per_s'] / 1e6:,.1f}",
                    "x numpy": f"{r['times_numpy']:,.1f}",
                    "x streaming": f"{r['times_streaming']:.1f}",
                }
            )
        else:
            queries.append(f"{r['variant'].removeprefix('flow ')} {r['ms']:.2f}")
    made = data["made_with"]
    machine = made["machine"] if made["device"] == "cpu" else f"{made['device']}, {made['machine']}"
    said = [f"{a['aim']}: {'met' if a['met'] else 'MISSED'}, {a['note']}" for a in data.get("aims", [])]
    note = (
        "Risk of a 50-step plan with 10,000 particles where no number is given, or of 20 plans with 500 each. "
        f"{'; '.join(ratios)}. Learned flows at 1,000 points, ms: {'; '.join(queries)}. "
        f"{machine}, memory {data['memory_bytes_per_s'] / 1e9:,.1f} GB/s."
    )
    return "\n\n".join([generic({"rows": rows}), note, *([f"Aims: {'; '.join(said)}."] if said else [])])


def black_box(data: dict) -> str:
    """Conditional flow against the linear-Gaussian model, per held-out recording."""
    rows = []
    for r in data["rows"]:
        row: dict[str, object] = {"held-out recording": r["planner"]}
        for h, m in r["horizons"].items():
            a, b = m["linear_gaussian"], m["conditional_flow"]
            row[f"{h} s: log-likelihood, linear / flow (nats)"] = (
                f"{a['log_likelihood']:.2f} / {b['log_likelihood']:.2f}"
            )
            row[f"{h} s: 90 % regions hold, linear / flow"] = f"{a['coverage']:.0%} / {b['coverage']:.0%}"
        rows.append(row)
    better = ", ".join(f"{n} of {len(rows)} at {h} s" for h, n in data["flow_better"].items())
    return generic({"rows": rows, "note": f"The flow is above the linear model on {better}."})


def image_effects(data: dict) -> str:
    """Which of the known effects of guidance on images appear, and what was measured."""
    found: dict[str, list[dict]] = {}
    for e in data["effects"]:
        found.setdefault(e["effect"], []).append(e)
    says = [
        f"- {effect}: "
        + "; ".join(f"{'yes' if e['appears'] else '**not found**'} (`{e['run']}`: {e['note']})" for e in those)
        for effect, those in found.items()
    ]
    s, device = data["settings"], data["made_with"]["device"]
    n = next(iter(data["runs"].values()))["seeds"]
    note = f"{n} x {s['n']:,} samples, {s['sampler']}, at most {s['nfe']} evaluations a sample, device {device}."
    return "\n".join([*says, "", note])


def images(data: dict) -> str:
    """Methods on images at equal cost, then which of the known effects appear."""
    columns = ("fd", "precision", "recall", "accuracy", "clipped", "saturation")
    shown = [k for k in columns if any(k in r for r in data["runs"].values())]
    rows = []
    for run, r in data["runs"].items():
        if "failed" in r:
            rows.append({"run": f"`{run}`", "steps": "failed", "NFE": "-"} | dict.fromkeys(shown, "-"))
            continue
        row = {"run": f"`{run}`", "steps": f"{r['steps']:g}", "NFE": f"{r['nfe']:.1f}"}
        for key in shown:
            percent = key != "fd"
            row[key] = "-" if key not in r else worded(r[key], percent)
        rows.append(row)
    note = (
        f"+- is half the 95 % interval. fd: Frechet distance to {data['settings']['real']:,} training images in "
        "features of a classifier trained here that no guidance used: it compares within this table only. Steps after "
        "@ are given. Runs of a seed share their noise, and effects are tested on paired samples. An evaluation of the "
        "weak net, half as wide as the model, counts as one; the classifier that GFCG and EluCD ask is not counted."
    )
    return "\n\n".join([generic({"rows": rows}), image_effects(data), note])


def worded(v: dict, percent: bool) -> str:
    """An estimate with half its interval."""
    half = (v["high"] - v["low"]) / 2
    return f"{v['estimate']:.1%} +- {100 * half:.1f}" if percent else f"{v['estimate']:.2f} +- {half:.2f}"


def off_policy(data: dict) -> str:
    """Fitted-Q estimates beside what flights gave."""
    names = {"rewards": "return", "costs": "cost"}
    shown = ("estimate", "flown", "bias", "bias / spread", "covered")
    columns = [f"{name}: {what}" for name in names.values() for what in shown]
    rows = []
    for c in data["cells"]:
        cells = ["not run", *["-"] * (len(columns) - 1)]
        if "signals" in c:
            cells = [cell for key in names for cell in off_policy_cells(c["signals"][key])]
        rows.append(
            {"policy": f"{c['task']}, {c['method']}", "seed": c["seed"]} | dict(zip(columns, cells, strict=True))
        )
    said = []
    for key, name in names.items():
        mine = [c["signals"][key] for c in data["cells"] if "signals" in c]
        low, high = sum(s["bias"]["high"] < 0 for s in mine), sum(s["bias"]["low"] > 0 for s in mine)
        said.append(
            f"{name.capitalize()}: the interval covers the truth for {sum(s['covers'] for s in mine)} of {len(mine)} "
            f"policies; the bias is clearly below 0 for {low}, clearly above for {high}."
        )
    s, q, made = data["settings"], data["settings"]["fqe"], data["made_with"]
    said.append(
        f"Discounted by {q['gamma']:g} a step. Estimates: {s['episodes']} episodes of the log, {q['members']} "
        f"bootstrap members, {q['updates']} updates of {q['batch']}. Flown: {s['flights']} flights of {s['steps']} "
        "steps, past the time limit as the estimate goes past it; what comes later is left out: "
        f"{s['left']:.0%} of the discounted weight. Intervals of 95 %; spread: standard deviation of the log's "
        "episodes; covered: by the estimate's interval. "
        f"{made['device']}, torch {made['torch']}."
    )
    return generic({"rows": rows, "note": " ".join(said)})


def off_policy_cells(s: dict) -> list[str]:
    """Estimate, truth, bias, bias over spread, and whether the interval covers."""
    relative = "-" if s["relative"] is None else f"{s['relative']:+.2f}"
    return [*(spread(s[k], 1) for k in ("estimate", "truth", "bias")), relative, "yes" if s["covers"] else "**no**"]


def gates(data: dict) -> str:
    """Which rivals learn the log when they have no limit."""
    said = {True: "yes", False: "**no**", None: "not run"}
    return generic(data | {"rows": [r | {"passed": said[r["passed"]]} for r in data["rows"]]})


FORMATS = {
    "evaluate_driving": markdown,
    "evaluate_hovercraft": markdown,
    "benchmark_density": particles,
    "benchmark_density_cuda": particles,
    "benchmark_fisor": speed,
    "benchmark_fisor_cuda": speed,
    "certificate_coverage": coverage,
    "density_black_box": black_box,
    "density_table": densities,
    "dsrl_bullet": offline,
    "dsrl_safety": offline,
    "fit_hovercraft": fit,
    "fqe_bias": off_policy,
    "guidance_bench": bench,
    "image_table_fashion": image_effects,
    "image_table_mnist": images,
    "point_robot_iou": unsafe_set,
    "rival_gates_bullet": gates,
    "rival_gates_safety": gates,
}
SHORT = {
    "density_table": densities_short,
    "dsrl_bullet": offline_short,
    "dsrl_safety": offline_short,
    "evaluate_driving": evaluated_short,
    "evaluate_hovercraft": evaluated_short,
}


def table(name: str, results: Path, short: bool = False) -> str:
    """Markdown of results/NAME.json, whole or its excerpt."""
    path = results / f"{name}.json"
    if not path.is_file():
        return f"*not run yet* (no results/{name}.json)"
    return (SHORT if short else FORMATS).get(name, generic)(json.loads(path.read_text()))


def fill(text: str, results: Path) -> str:
    """A page with every table written anew."""
    return MARKER.sub(lambda m: f"{m[1]}{table(m['name'], results, bool(m['short']))}\n{m[4]}", text)


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    """Write, or with --check compare; the exit status."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true", help="write nothing; exit 1 when a table differs from its results")
    check, status = p.parse_args(argv).check, 0
    for name in PAGES:
        page = root / name
        text = page.read_text()
        new = fill(text, root / "results")
        if not check:
            page.write_text(new)
            print(f"results: {page}")
        elif new != text:
            print(f"{name}: its tables differ from results/*.json. Run: python scripts/make_readme_tables.py")
            status = 1
    return status


if __name__ == "__main__":
    raise SystemExit(main())
