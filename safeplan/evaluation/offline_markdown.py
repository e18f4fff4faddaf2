"""A study of offline methods as Markdown: `offline_table.summarise` in tables, whole and as an excerpt."""

from safeplan.evaluation.report import generic, spread
from safeplan.feasibility import official

FAILED = "†"
UNTRIED = "‡"
PUBLISHED = 1_000_000  # updates of FISOR's authors [fisor]
CHOSEN = "*"


def offline(data: dict) -> str:
    """Methods on logs of DSRL's tasks: a table per task, limits that were chosen when acting, all tasks, aims."""
    limit, tasks = data["limits"][0], dict.fromkeys(name.partition("/")[0] for name in data["planned"])
    at = {(f"{c['task']}/{c['method']}", c["limit"]): c for c in data["cells"]}
    parts = []
    for task in tasks:
        rows = []
        for name, seeds in data["planned"].items():
            if name.startswith(f"{task}/"):
                method = name.partition("/")[2] + offline_mark(name, data)
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
            **offline_common(o, data),
            "runs within the limit": f"{o['safe_runs']} of {o['runs']}",
        }
        for o in data["overall"]
    ]
    parts += [generic({"rows": overall}), offline_aims(data["aims"]), *offline_leaders(data), *offline_fresh(data)]
    parts += [f"![{name}]({name})" for name in data["pictures"]]
    s = data["settings"]
    note = (
        f"Simulated logs, not DSRL's. Means over seeds of {s['episodes']} episodes each, with Student's 95 % intervals "
        f"over seeds; violating: share of all episodes that cost more than {limit:g}, Clopper-Pearson, so of these "
        f"trainings and not of others. {offline_sizes(s)} {offline_rivals(data)} CPU seconds are "
        "of one training, of the one-step policy without that of the FISOR it copies; -: no training of its own, or "
        "none that was timed. All tasks: interquartile mean over tasks and the seeds that all of these have, with a "
        "stratified bootstrap interval, which is too narrow for so few seeds."
    )
    note += offline_same(data)
    return "\n\n".join([*parts, note])


def offline_mark(name: str, data: dict) -> str:
    """What the gate of a rival says that its numbers should be read with."""
    return f" {FAILED}" if name in data["failed_gates"] else f" {UNTRIED}" if name in data["untried_gates"] else ""


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
    head = f"return; cost / {limit:g}"
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
                text += offline_mark(f"{task}/{o['method']}", data)
            row[task] = text
        rows.append(row | {"runs within the limit": f"{o['safe_runs']} of {o['runs']}"})
    s, picture, tried = data["settings"], data["pictures"][0], len(data["variants"])
    note = (
        f"Simulated logs, not DSRL's: raw returns. Means over seeds of {s['episodes']} episodes each, with Student's "
        f"95 % intervals over seeds. {offline_sizes(s)} {offline_rivals(data)}"
    )
    if tried:
        note += f" {tried} variants of FISOR that only some tasks have: results/README.md."
    said = [offline_aims(data["aims"], short=True), *offline_leaders(data), *offline_fresh(data), note]
    return "\n\n".join([generic({"rows": rows}), *said, f"![{picture}](results/{picture})"])


def offline_sizes(settings: dict) -> str:
    """How large all FISORs are, the official one among them."""
    f, o, o_full = settings["fisor"], settings["official"], official()
    return (
        f"Every FISOR makes {settings['updates']:,} updates of {f['batch']} rows with an actor of width "
        f"{f['actor_width']}; FISOR official is the authors' algorithm in this size ({o['actor_steps']} actor step an "
        f"update, no decay of its rate), not their training, with {o_full.batch:,} rows at width {o_full.actor_width} "
        f"and {PUBLISHED:,} updates."
    )


def offline_rivals(data: dict) -> str:
    """How much CPU time rivals had, and what it means that some failed their gate."""
    at = {(c["task"], c["method"]): c["cpu_seconds"] for c in data["cells"] if c["limit"] == data["limits"][0]}
    own = {task: seconds for (task, method), seconds in at.items() if method == "FISOR" and seconds}
    shares = [s / own[task] for (task, method), s in at.items() if method in data["rivals"] and s and task in own]
    said = "Rivals have about the CPU time of FISOR's updates"
    said += f": {min(shares):.2f} to {max(shares):.2f} of it." if shares else "."
    said += (
        " Sizes and rates that are not their authors' were chosen by their gates, on one or two tasks, ours by return "
        "and cost; but for TREBI-like they see raw observations."
    )
    if data["untried_gates"]:
        said += f" {UNTRIED}: its gate on this log was not run."
    if data["failed_gates"]:
        said += f" {FAILED}: fails its gate on this log in this time (rival_gates), so it says little about the method."
    return said


def offline_same(data: dict) -> str:
    """Methods that turned out to act as another one does."""
    same: dict[tuple[str, str], list[str]] = {}
    for c in data["cells"]:
        if c["limit"] == data["limits"][0] and c["same_as"]:
            pair = tuple(sorted((c["method"], c["same_as"].partition("/")[2]), key=len, reverse=True))
            same.setdefault(pair, []).append(c["task"])
    found = [f"{a} acts as {b} on {', '.join(dict.fromkeys(tasks))}" for (a, b), tasks in same.items()]
    return f" Flight by flight the same: {'; '.join(found)}." if found else ""


def offline_leaders(data: dict) -> list[str]:
    """Methods with all runs flown, none of them above the limit on any task, by return over all tasks."""
    runs: dict[str, int] = {}
    for name, seeds in data["planned"].items():
        runs[name.partition("/")[2]] = runs.get(name.partition("/")[2], 0) + seeds
    safe = [
        o
        for o in data["overall"]
        if len(o["tasks"]) == len(data["logs"]) and o["safe_runs"] == o["runs"] >= runs[o["method"]]
    ]
    safe.sort(key=lambda o: -o["scaled_iqm"]["estimate"])
    said = "; ".join(f"{o['method']} {spread(o['scaled_iqm'])}" for o in safe)
    return (
        [f"Within the limit in every run of all tasks, by interquartile mean of scaled return: {said}."] if safe else []
    )


def offline_fresh(data: dict) -> list[str]:
    """Methods on seeds that no setting was chosen with, where there are any."""
    limit, found = data["limits"][0], {}
    for c in data["cells"]:
        if c["limit"] == limit and c["fresh"]:
            f = c["fresh"]
            found.setdefault(c["method"], []).append(f"{c['task']} {f['return']:.0f}; {f['cost']:.2f}")
    lines = [f"- {m}: {', '.join(of)}" for m, of in found.items() if len(of) == len(data["logs"])]
    head = f"On the seeds that no setting was chosen with, return; cost / {limit:g}:"
    return ["\n".join([head, "", *lines])] if lines else []


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
    shown = (spread(c["return"], 1), spread(c["scaled"]), spread(c["cost"]), share, seeds, c["updates"], seconds)
    return dict(zip(columns, shown, strict=True))


def offline_cell(c: dict) -> str:
    """Return and cost at one limit."""
    return f"{spread(c['scaled'])}; {spread(c['cost'])}"


def offline_aims(aims: list[dict], short: bool = False) -> str:
    """Which methods reach an aim on all tasks, and, unless `short`, on some."""
    lines = []
    for aim in dict.fromkeys(a["aim"] for a in aims):
        mine = [a for a in aims if a["aim"] == aim]
        reached = [a["method"] + ("" if a["fresh"] else CHOSEN) for a in mine if a["reached"]]
        judged = [a for a in mine if a["reached"] is not None]
        if reached:
            said = f"reached by {'; '.join(reached)}"
        elif len(judged) < len(mine):
            said = "open: seeds are missing"
            if judged:
                said += f" of {'; '.join(a['method'] for a in mine if a['reached'] is None)}"
        else:
            said = "**not reached**"
        on = [f"{a['method']} ({', '.join(t for t, v in a['tasks'].items() if v)})" for a in mine
              if any(a["tasks"].values()) and not a["reached"]]  # fmt: skip
        more = f"; on some tasks: {'; '.join(on)}." if on and not short else "."
        lines.append(f"- Aim: {aim}: {said}{more}")
    if any(a["reached"] and not a["fresh"] for a in aims):
        lines.append(f"\n{CHOSEN}: flown only with seeds that settings were chosen with.")
    return "\n".join(lines)
