"""A study of offline methods as Markdown: `offline_table.summarise` in tables, whole and as an excerpt."""

from safeplan.evaluation import offline_notes as notes
from safeplan.evaluation.report import generic, spread


def offline(data: dict) -> str:
    """Methods on logs of DSRL's tasks: a table per task, limits that were chosen when acting, all tasks, aims."""
    limit, tasks = data["limits"][0], dict.fromkeys(name.partition("/")[0] for name in data["planned"])
    at = {(f"{c['task']}/{c['method']}", c["limit"]): c for c in data["cells"]}
    parts, marks = [], notes.marks(data)
    for task in tasks:
        rows = []
        for name, seeds in data["planned"].items():
            if name.startswith(f"{task}/"):
                method = f"{name.partition('/')[2]} {marks.get(name, '')}".rstrip()
                rows.append({task: method} | offline_row(at.get((name, limit)), limit, seeds))
        log = data["logs"][task]
        best = log["best_within"][f"{limit:g}"]
        said = f"Log of {task}: {log['episodes']} episodes with returns of {log['low']:.4g} to {log['high']:.4g}"
        said += "." if best is None else f"; the best that costs at most {limit:g} has {best:.4g}."
        parts.append(generic({"rows": rows, "note": said}))
    parts += offline_limits(data, at)
    overall = [
        {
            "all tasks": o["method"],
            "tasks": f"{len(o['tasks'])} of {len(tasks)}",
            "IQM of scaled return": spread(o["scaled_iqm"]) if o["scaled_iqm"] else "not run",
            "seeds": o["seeds"],
            **offline_common(o, data),
            **offline_within(o),
        }
        for o in data["overall"]
    ]
    parts += [generic({"rows": overall}), *notes.judged(data), *notes.fresh(data)]
    parts += [f"![{name}]({name})" for name in data["pictures"]]
    s = data["settings"]
    note = (
        f"Simulated logs, not DSRL's. Means over seeds of {s['episodes']} episodes each, with Student's 95 % intervals "
        f"over seeds; violating: share of all episodes that cost more than {limit:g}, Clopper-Pearson, so of these "
        f"trainings and not of others. {notes.sizes(s)} {notes.spent(data)} CPU seconds are "
        "of one training, of the one-step policy without that of the FISOR it copies; -: no training of its own, or "
        "none that was timed. All tasks: interquartile mean over tasks and the seeds that all of these have, with a "
        "stratified bootstrap interval, which is too narrow for so few seeds. Bars in the pictures: least and most of "
        "the seeds."
    )
    note += notes.same(data)
    return "\n\n".join([*parts, note])


def offline_common(overall: dict, data: dict) -> dict:
    """Interquartile means over the tasks that all methods are planned for, where these are not all."""
    if len(data["common"]) in (0, len(data["logs"])):
        return {}
    where = " and ".join(data["common"])
    heads = {"scaled": f"IQM, {where}: scaled return", "cost": f"cost / {data['limits'][0]:g}"}
    found = overall["common"]
    return {head: spread(found[k]) if found and found[k] else "not run" for k, head in heads.items()}


def offline_limits(data: dict, at: dict) -> list[str]:
    """Every method at every limit; most act at all of them as they do at the first."""
    first, rows = data["limits"][0], []
    for name in data["planned"]:
        if (name, first) not in at:
            continue
        cells = [at[name, v] for v in data["limits"] if (name, v) in at]
        blind = len(cells) < len(data["limits"])
        if blind:  # the same flights, and another limit to divide their costs by
            c = at[name, first]
            costs = [{k: v * first / limit for k, v in c["cost"].items()} for limit in data["limits"]]
            cells = [{**c, "cost": cost} for cost in costs]
        row = {"return, scaled by the log's extremes; cost / limit": name.replace("/", ", ")}
        row |= {f"{v:g}": offline_cell(c) for v, c in zip(data["limits"], cells, strict=True)}
        mean = sum(c["cost"]["estimate"] for c in cells) / len(cells)
        rows.append(row | {"mean cost / limit": f"{mean:.2f}", "told the limit": "no" if blind else "yes"})
    told = f"Not told the limit: made for {first:g} or for no cost at all, the same flights in every column."
    return [generic({"rows": rows, "note": told})] if len(data["limits"]) > 1 and rows else []


def offline_short(data: dict) -> str:
    """Methods by tasks at the limit that methods are compared at, variants apart, the aims, the first picture."""
    limit, tasks = data["limits"][0], dict.fromkeys(name.partition("/")[0] for name in data["planned"])
    at = {(c["task"], c["method"]): c for c in data["cells"] if c["limit"] == limit}
    head, marks = f"return; cost / {limit:g}", notes.marks(data)
    rows = []
    for o in (o for o in data["overall"] if o["method"] not in data["variants"]):
        row = {head: o["method"]}
        for task in tasks:
            c = at.get((task, o["method"]))
            planned = data["planned"].get(f"{task}/{o['method']}")
            text = "not run" if planned else "-"
            if c:
                text = f"{spread(c['return'], 0)}; {spread(c['cost'])}"
                text += f" ({c['seeds']} of {planned} seeds)" if c["seeds"] < (planned or 0) else ""
            row[task] = f"{text} {marks.get(f'{task}/' + o['method'], '')}".rstrip() if c else text
        rows.append(row | offline_within(o))
    s, picture, tried = data["settings"], data["pictures"][0], len(data["variants"])
    note = (
        f"Simulated logs, not DSRL's: raw returns. Means over seeds of {s['episodes']} episodes each, with Student's "
        f"95 % intervals over seeds; bars in the picture: least and most of them; -: not planned. {notes.sizes(s)} "
        f"{notes.spent(data)}"
    )
    if tried:
        note += f" {tried} variants of FISOR that only some tasks have: results/README.md."
    said = [*notes.judged(data, short=True), *notes.fresh(data), note]
    return "\n\n".join([generic({"rows": rows}), *said, f"![{picture}](results/{picture})"])


def offline_within(overall: dict) -> dict:
    """How many runs keep the limit, and how many of their episodes do not."""
    return {
        "runs within the limit": f"{overall['safe_runs']} of {overall['runs']}",
        "episodes above it": f"{overall['episodes_above']:.0%}" if overall["runs"] else "-",
    }


def offline_row(c: dict | None, limit: float, planned: int) -> dict:
    """What a cell shows at the limit that methods are compared at."""
    cost = f"cost / {limit:g}"
    columns = ("return", "scaled by the log's extremes", cost, "violating", "seeds", "updates", "CPU s")
    if c is None:
        return dict.fromkeys(columns, "-") | {"return": "not run", "seeds": f"0 of {planned}"}
    v = c["violations"]
    share = f"{v['estimate']:.1%} [{100 * v['low']:.1f}, {100 * v['high']:.1f}]"
    seeds = f"{c['seeds']}" if c["seeds"] >= planned else f"{c['seeds']} of {planned}"
    seconds = "-" if c["cpu_seconds"] is None else f"{c['cpu_seconds']:.0f}"
    least, most = c["updates_range"]
    updates = f"{least}" if least == most else f"{least} to {most}"
    shown = (spread(c["return"], 1), spread(c["scaled"]), spread(c["cost"]), share, seeds, updates, seconds)
    return dict(zip(columns, shown, strict=True))


def offline_cell(c: dict) -> str:
    """Return and cost at one limit."""
    return f"{spread(c['scaled'])}; {spread(c['cost'])}"
