"""Sentences about a study of offline methods: who reaches which aim, on what seeds, at what size and cost."""

from safeplan.evaluation.report import spread
from safeplan.feasibility import official

FAILED = "†"
UNTRIED = "‡"
CHOSEN = "*"
PUBLISHED = 1_000_000  # updates of FISOR's authors [fisor]


def aims_lines(aims: list[dict], short: bool = False) -> str:
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
    return "\n".join(lines)


def judged(data: dict, short: bool = False) -> list[str]:
    """The aims, what their words mean, and the methods that stay within the limit everywhere."""
    limit = f"{data['limits'][0]:g}"
    said = [
        f"A run is within the limit when its episodes cost at most {limit} on average; single ones may cost more. "
        "Aims, judged for methods of our own, each by itself:",
        aims_lines(data["aims"], short),
        *leaders(data),
    ]
    if any(a["reached"] and not a["fresh"] for a in data["aims"]):
        said.append(f"{CHOSEN}: flown only with seeds that settings were chosen with.")
    return said


def leaders(data: dict) -> list[str]:
    """Methods of any kind with all runs flown, none of them above the limit on any task, by return over all tasks."""
    runs: dict[str, int] = {}
    for name, seeds in data["planned"].items():
        runs[name.partition("/")[2]] = runs.get(name.partition("/")[2], 0) + seeds
    safe = [
        o
        for o in data["overall"]
        if len(o["tasks"]) == len(data["logs"]) and o["safe_runs"] == o["runs"] >= runs[o["method"]]
    ]
    safe.sort(key=lambda o: -o["scaled_iqm"]["estimate"])
    old = {a["method"] for a in data["aims"] if not a["fresh"]}
    said = "; ".join(
        f"{o['method']}{CHOSEN if o['method'] in old else ''} {spread(o['scaled_iqm'])} ({o['seeds']} seeds)"
        for o in safe
    )
    head = "Of all methods, within the limit in every run of all tasks, by interquartile mean of scaled return"
    return [f"{head}: {said}."] if safe else []


def fresh(data: dict) -> list[str]:
    """Methods on seeds that no setting was chosen with, where there are any."""
    limit, found = data["limits"][0], {}
    for c in data["cells"]:
        if c["limit"] == limit and (f := c["fresh"]):
            seeds = " and ".join(map(str, f["seeds"]))
            found.setdefault(c["method"], []).append((c["task"], seeds, f"{f['return']:.0f}; {f['cost']:.2f}"))
    found = {m: of for m, of in found.items() if len(of) == len(data["logs"])}
    if not found:
        return []
    each = [seeds for of in found.values() for _, seeds, _ in of]
    usual = max(each, key=each.count)
    lines = [
        f"- {m}: " + ", ".join(f"{t} {text}" + (f" (seed {s} alone)" if s != usual else "") for t, s, text in of)
        for m, of in found.items()
    ]
    head = f"On the seeds that no setting was chosen with ({usual}), methods that have them on all tasks, return; cost"
    return ["\n".join([f"{head} / {limit:g}:", "", *lines])]


def sizes(settings: dict) -> str:
    """How large all FISORs are, the official one among them."""
    f, o, o_full = settings["fisor"], settings["official"], official()
    return (
        f"Every FISOR makes {settings['updates']:,} updates of {f['batch']} rows with an actor of width "
        f"{f['actor_width']}; FISOR official is the authors' algorithm in this size ({o['actor_steps']} actor step an "
        f"update, no decay of its rate), not their training, with {o_full.batch:,} rows at width {o_full.actor_width} "
        f"and {PUBLISHED:,} updates."
    )


def spent(data: dict) -> str:
    """How much CPU time rivals and one-step policies had, and what it means that some failed their gate."""
    at = {(c["task"], c["method"]): c["cpu_seconds"] for c in data["cells"] if c["limit"] == data["limits"][0]}
    at = {k: v for k, v in at.items() if v and at.get((k[0], "FISOR"))}
    shares = [s / at[task, "FISOR"] for (task, method), s in at.items() if method in data["rivals"]]
    said = "Rivals have about the CPU time of FISOR's updates"
    said += f": {min(shares):.2f} to {max(shares):.2f} of it, means over seeds." if shares else "."
    both = [(at[t, m] + at[t, of]) / at[t, "FISOR"] for m, of in data["students"].items()
            for t in data["logs"] if (t, m) in at and (t, of) in at]  # fmt: skip
    if both:
        said += f" One-step policies take {min(both):.2f} to {max(both):.2f} of it, with the FISOR that they copy."
    said += (
        " Sizes and rates that are not their authors' were chosen by their gates, on one or two tasks, ours by return "
        "and cost; but for TREBI-like they see raw observations."
    )
    shown = marks(data).values()
    if UNTRIED in shown:
        said += f" {UNTRIED}: its gate on this log was not run."
    if any(m.startswith(FAILED) for m in shown):
        said += (
            f" {FAILED} k/n: passes its gate on this log in this time with k of n seeds (rival_gates); otherwise "
            "its numbers say little about the method."
        )
    return said


def marks(data: dict) -> dict[str, str]:
    """TASK/METHOD -> what the gate of a rival says that its numbers should be read with; '': it passes."""
    found = {}
    for name, (passed, flown) in data["gates"].items():
        found[name] = UNTRIED if not flown else f"{FAILED} {passed}/{flown}" if passed < flown else ""
    return found


def same(data: dict) -> str:
    """Methods that turned out to act as another one does."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for c in data["cells"]:
        if c["limit"] == data["limits"][0] and c["same_as"]:
            pair = tuple(sorted((c["method"], c["same_as"].partition("/")[2]), key=len, reverse=True))
            pairs.setdefault(pair, []).append(c["task"])
    found = [f"{a} acts as {b} on {', '.join(dict.fromkeys(tasks))}" for (a, b), tasks in pairs.items()]
    return f" Flight by flight the same: {'; '.join(found)}." if found else ""
