"""Write the tables of README.md from results/*.json, between their markers. `--check` only says whether they are true.

A marker is `<!-- table: NAME -->` ... `<!-- end -->`; NAME.json lies in results/. No file: the table says so.
"""

import json
import re
import sys
from pathlib import Path

from safeplan.evaluation.report import markdown

ROOT = Path(__file__).resolve().parents[1]
MARKER = re.compile(r"(<!-- table: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def number(value: object) -> str:
    """A cell: floats to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def generic(data: dict) -> str:
    """A result with a list `rows` of equal keys, an optional `note`."""
    rows = data["rows"]
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([number(r[k]) for k in head] for r in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return table + (f"\n\n{data['note']}" if data.get("note") else "")


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
    """FISOR's infeasible set of the point robot against the true one."""
    rows = [
        {"unsafe set": name, "IoU": data[f"iou{key}"], "false safe": data[f"false_safe{key}"]}
        for name, key in (("FISOR", ""), ('"not inside a disc now"', "_disc_now"))
    ]
    minutes = data["training_seconds"] / 60
    note = (
        f"{data['states']} states of a grid; {data['update']} updates in {minutes:.0f} min, seed {data['seed']}, "
        f"{data['device']}, {data['threads']} thread(s). False safe: share of truly unsafe states called safe."
    )
    return generic({"rows": rows, "note": note})


def speed(data: dict) -> str:
    """Training and acting speed of FISOR."""
    rows = [
        {"variant": name, "updates / s": v["updates_per_s"], "ms per action": v["act_ms"]}
        for name, v in data["variants"].items()
    ]
    s = data["settings"]
    note = f"Batch {s['batch']}, {data['threads']} thread(s), {data['device']['cpu']}; load average {data['load']:.1f}."
    return generic({"rows": rows, "note": note})


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


FORMATS = {
    "benchmark_fisor": speed,
    "certificate_coverage": coverage,
    "fit_hovercraft": fit,
    "guidance_bench": bench,
    "point_robot_iou": unsafe_set,
}


def table(name: str, results: Path) -> str:
    """Markdown of results/NAME.json."""
    path = results / f"{name}.json"
    if not path.is_file():
        return f"*not run yet* (no results/{name}.json)"
    data = json.loads(path.read_text())
    return markdown(data) if "planners" in data else FORMATS.get(name, generic)(data)


def fill(text: str, results: Path) -> str:
    """README text with every table written anew."""
    return MARKER.sub(lambda m: f"{m[1]}{table(m['name'], results)}\n{m[3]}", text)


def main(argv: list[str], readme: Path = ROOT / "README.md", results: Path = ROOT / "results") -> int:
    """Write, or with --check compare; the exit status."""
    text = readme.read_text()
    new = fill(text, results)
    if "--check" in argv:
        if new != text:
            print("README.md: its tables differ from results/*.json. Run: python scripts/make_readme_tables.py")
            return 1
        return 0
    readme.write_text(new)
    print(f"results: {readme}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
