"""The table of offline methods: numbers from flights, aims judged by their words, nothing claimed of missing jobs."""

import numpy as np
import pytest

from safeplan.evaluation import offline_notes as notes
from safeplan.evaluation import offline_plots
from safeplan.evaluation.offline_aims import BEST, CLEAR, SAFE
from safeplan.evaluation.offline_markdown import offline, offline_short
from safeplan.evaluation.offline_plots import curves_figure, tradeoff_figure
from safeplan.evaluation.offline_table import log_facts, summarise
from safeplan.feasibility import FisorConfig, official
from safeplan.feasibility.config import stored

LOG = {t: log_facts(np.array([0.0, 60.0, 100.0]), np.array([0.0, 4.0, 50.0]), (10.0, 20.0), 300) for t in ("A", "B")}
PLAN = {f"{t}/{m}": [0, 1] for t in ("A", "B") for m in ("parity", "mine", "rival")}


def row(planner, seed, ret, cost, done=100, **more):
    flights = {"10": {"returns": [ret - 1, ret + 1], "costs": [cost, cost]}}
    spent = {"train": 2.0 * done, "updates": done, "all": 0.0}
    return {"planner": planner, "seed": seed, "flights": flights, "updates": 100, "cpu_seconds": spent} | more


def table(returns, costs=None, skip=()):
    rows = [
        row(name, s, returns[name.partition("/")[2]] + s, (costs or {}).get(name.partition("/")[2], 5.0))
        for name, seeds in PLAN.items()
        for s in seeds
        if (name, s) not in skip
    ]
    return summarise({"settings": {}}, rows, PLAN, LOG, (10.0, 20.0), ["mine"], "parity")


def verdicts(summary):
    return {a["aim"]: (a["reached"], a["tasks"]) for a in summary["aims"]}


def test_cells_are_means_over_seeds_in_the_units_they_say():
    c = next(c for c in table({"parity": 20, "mine": 40, "rival": 30})["cells"] if c["method"] == "mine")
    assert c["return"]["estimate"] == pytest.approx(40.5) and c["scaled"]["estimate"] == pytest.approx(0.405)
    assert c["cost"]["estimate"] == pytest.approx(0.5) and c["violations"]["estimate"] == 0
    assert LOG["A"]["best_within"] == {"10": 60.0, "20": 60.0}


def test_seeds_count_the_same_in_whatever_order_they_were_done():
    rows = [row(f"A/{m}", s, 10 * s, 1) for m in ("mine", "rival") for s in (2, 0, 1)] + [row("B/mine", 2, 50, 1)]
    plan = {k: v for k, v in PLAN.items() if k != "B/rival"}
    tables = [
        summarise({}, r, plan, LOG, (10.0,), ["mine"], "parity", dict.fromkeys(plan, (0, 1)))
        for r in (rows, rows[::-1])
    ]
    assert tables[0]["overall"] == tables[1]["overall"]
    mine = next(o for o in tables[0]["overall"] if o["method"] == "mine")
    assert mine["scaled_iqm"]["estimate"] == pytest.approx((0.2 + 0.5) / 2)  # of seed 2, which both tasks have
    assert tables[0]["common"] == ["A"] and mine["common"]["scaled"]["estimate"] == pytest.approx(0.1)
    assert mine["common"]["cost"]["estimate"] == pytest.approx(0.1) and mine["tasks"] == ["A", "B"]
    cell = next(c for c in tables[0]["cells"] if (c["task"], c["method"]) == ("A", "mine"))
    assert cell["by_seed"]["seed"] == [0, 1, 2] and cell["fresh"] == {"seeds": [2], "return": 20.0, "cost": 0.1}


def test_a_method_that_flies_as_another_does_is_named():
    rows = [row("A/mine", s, 10 + s, 1) for s in (0, 1)] + [row("A/rival", 0, 10, 1), row("A/parity", 0, 10, 2)]
    same = {c["method"]: c["same_as"] for c in summarise({}, rows, PLAN, LOG, (10.0,), ["mine"], "parity")["cells"]}
    assert same == {"mine": None, "rival": "A/mine", "parity": None}  # the other has a seed more
    cells = [{"method": m, "task": t, "limit": 10.0, "same_as": f"{t}/mine"} for t in "AB" for m in ("rival",)]
    assert notes.same({"limits": [10.0], "cells": cells}) == " Flight by flight the same: rival acts as mine on A, B."
    assert notes.same({"limits": [10.0], "cells": []}) == ""


def test_what_rivals_had_and_which_of_them_learned_nothing_is_said():
    rows = [row("A/FISOR", 0, 1, 1), row("A/rival", 0, 1, 1, done=50), row("A/mine", 0, 1, 1, done=25)]
    rows[1]["cpu_seconds"]["train"] = 80.0
    s = summarise({}, rows, {**PLAN, "A/FISOR": [0]}, LOG, (10.0,), ["mine"], "parity")
    said = notes.spent(s | {"rivals": ["rival"], "students": {}, "gates": {"A/rival": (2, 2)}})
    assert said.startswith("Rivals have about the CPU time of FISOR's updates: 0.80 to 0.80 of it, means over seeds.")
    assert "†" not in said and "‡" not in said and "One-step" not in said
    gates = {"A/rival": (1, 3), "B/rival": (0, 0), "B/other": (3, 3)}
    said = notes.spent(s | {"rivals": [], "students": {"mine": "FISOR", "rival": "not flown"}, "gates": gates})
    assert "† k/n: passes its gate" in said and "‡: its gate on this log was not run" in said
    assert "One-step policies take 2.00 to 2.00 of it, with the FISOR that they copy." in said
    assert notes.marks({"gates": gates}) == {"A/rival": "† 1/3", "B/rival": "‡", "B/other": ""}


def test_ours_that_a_task_does_without_are_variants_and_rivals_are_not():
    plan = PLAN | {"A/tried": [0], "A/other": [0]}
    s = summarise({}, [row("A/tried", 0, 1, 1)], plan, LOG, (10.0,), ["mine", "tried", "of another suite"], "parity")
    assert s["variants"] == ["tried"]


def test_cpu_seconds_of_a_resumed_training_are_those_of_all_its_updates():
    rows = [row("A/mine", 0, 1, 1, done=25), row("A/rival", 0, 1, 1, done=0)]
    cells = summarise({}, rows, PLAN, LOG, (10.0,), ["mine"], "parity")["cells"]
    assert cells[0]["cpu_seconds"] == pytest.approx(200.0) and cells[1]["cpu_seconds"] is None


def test_aims_reached():
    s = table({"parity": 20, "mine": 40, "rival": 30})
    assert verdicts(s) == {aim: (True, {"A": True, "B": True}) for aim in (SAFE, BEST, CLEAR)}


def test_an_unsafe_rival_may_have_more_but_a_safe_one_not():
    assert verdicts(table({"parity": 20, "mine": 40, "rival": 90}, {"rival": 11.0}))[BEST][0] is True
    assert verdicts(table({"parity": 20, "mine": 40, "rival": 90}))[BEST][0] is False


def test_unsafe_is_not_best_and_overlap_is_not_clear():
    found = verdicts(table({"parity": 40, "mine": 40.5, "rival": 1}, {"mine": 11.0}))
    assert [found[aim][0] for aim in (SAFE, BEST, CLEAR)] == [False, False, False]


def test_a_return_that_costs_too_much_is_clear_of_nothing():
    assert verdicts(table({"parity": 20, "mine": 90, "rival": 1}, {"mine": 11.0}))[CLEAR][0] is False


def test_the_best_is_found_on_the_seeds_that_both_have():
    plan = {"A/mine": [0, 1, 2], "A/rival": [0, 1], "A/parity": [0, 1]}
    mine, rival = (10, 10, 90), (20, 20)  # by mean 37 against 20, and yet behind where both were flown
    rows = [row("A/mine", s, v, 1) for s, v in enumerate(mine)] + [row("A/parity", s, 0, 1) for s in (0, 1)]
    rows += [row("A/rival", s, v, 1) for s, v in enumerate(rival)]
    for method, reached in (("mine", False), ("rival", True)):
        found = verdicts(summarise({}, rows, plan, {"A": LOG["A"]}, (10.0,), [method], "parity"))
        assert found[BEST][0] is reached


def test_aims_reached_on_the_seeds_of_the_choice_alone_are_marked():
    rows = [row(n, s, 40 + s, 1) for n, seeds in PLAN.items() for s in seeds]
    for chosen, marked in (((), False), ((0,), False), ((0, 1), True)):
        old = dict.fromkeys(PLAN, chosen) if chosen else {}
        said = "\n".join(notes.judged(summarise({}, rows, PLAN, LOG, (10.0,), ["mine"], "parity", old)))
        assert ("reached by mine*" in said) is marked and ("*: flown only with seeds" in said) is marked
        assert ("mine* 0.4" in said) is marked and "parity 0.4" in said


def test_a_seed_that_chose_one_cell_is_fresh_for_the_others():
    rows = [row(n, s, 40 + s, 1) for n, seeds in PLAN.items() for s in seeds]
    old = {name: (0,) for name in PLAN} | {"B/mine": (0, 1), "A/rival": (0, 1)}
    s = summarise({}, rows, PLAN, LOG, (10.0,), ["mine"], "parity", old)
    assert [a["fresh"] for a in s["aims"]] == [True, True, True]
    (said,) = notes.fresh(s)
    assert "(1), methods that have them on all tasks" in said and said.count("\n- ") == 1 and "\n- parity: A 41" in said
    plan = PLAN | {"B/mine": [0, 1, 2]}
    (said,) = notes.fresh(summarise({}, [*rows, row("B/mine", 2, 9, 1)], plan, LOG, (10.0,), ["mine"], "parity", old))
    assert "\n- mine: A 41; 0.10, B 9; 0.10 (seed 2 alone)" in said


def test_pages_say_how_many_episodes_cost_too_much_and_how_far_updates_differ():
    rows = [row(n, s, 40 + s, 1) for n, seeds in PLAN.items() for s in seeds]
    rows[0]["flights"]["10"]["costs"] = [1, 11]
    rows[1]["updates"] = 90
    sizes = {"updates": 100, "episodes": 2, "fisor": stored(FisorConfig()), "official": stored(official())}
    s = summarise({"settings": sizes}, rows, PLAN, LOG, (10.0,), ["mine"], "parity")
    s |= {"pictures": ["a.png"], "rivals": ["rival"], "students": {}, "gates": {"A/rival": (0, 2), "B/rival": (2, 2)}}
    short, whole = offline_short(s), offline(s)
    assert "| runs within the limit | episodes above it |" in short and "| 4 of 4 | 12% |" in short
    assert "| 90 to 100 |" in whole and "† 0/2 |" in short and "| rival † 0/2 |" in whole


def test_leaders_are_safe_in_every_planned_run_of_all_tasks():
    head = "Of all methods, within the limit in every run of all tasks, by interquartile mean of scaled return: "
    returns = {"parity": 20, "mine": 40, "rival": 90}
    (said,) = notes.leaders(table(returns))
    assert said.startswith(head) and [w.split()[0] for w in said[len(head) :].split("; ")] == [
        "rival",
        "mine",
        "parity",
    ]
    (said,) = notes.leaders(table(returns, {"rival": 11.0}, skip={("A/parity", 1)}))
    assert said[len(head) :].startswith("mine 0.4") and said.endswith("] (2 seeds).") and ";" not in said
    assert not notes.leaders(table(returns, dict.fromkeys(returns, 11.0)))


def test_an_excerpt_leaves_out_who_reaches_an_aim_on_some_tasks():
    aims = table({"parity": 20, "mine": 40, "rival": 90})["aims"]
    aims = [a | {"reached": False, "tasks": {"A": True, "B": False}} for a in aims]
    assert notes.aims_lines(aims).count("; on some tasks: mine (A).") == 3
    assert notes.aims_lines(aims, short=True).count("**not reached**.") == 3


def test_what_missing_seeds_could_change_stays_open():
    skip = {("A/rival", 1)}
    found = verdicts(table({"parity": 20, "mine": 40, "rival": 30}, skip=skip))
    assert found[SAFE][0] is True and found[BEST] == (None, {"A": None, "B": True}) and found[CLEAR][0] is True
    gone = verdicts(table({"parity": 20, "mine": 40, "rival": 30}, {"mine": 11.0}, skip={("A/mine", 1), ("B/mine", 1)}))
    assert gone[SAFE][0] is gone[BEST][0] is False  # one seed above the limit settles both
    beaten = verdicts(table({"parity": 20, "mine": 40, "rival": 90}, skip={("A/parity", 1), ("B/rival", 1)}))
    assert beaten[BEST] == (False, {"A": False, "B": None})  # whatever the missing seed of another method brings


def test_pictures_of_every_kind_of_method(tmp_path):
    curve = [{"update": 50, "returns": [3.0], "costs": [1.0]}]
    rows = [row("A/parity", s, 20, 4, curve=curve) for s in (0, 1)] + [row("A/rival", 0, 30, 12)]
    s = summarise({"settings": {}}, rows, PLAN, LOG, (10.0, 20.0), ["mine"], "parity")
    assert s["curves"][0]["updates"] == [50, 100] and s["curves"][0]["returns"] == [3.0, 20.0]
    log = np.array([0.0, 60.0, 100.0]), np.array([0.0, 4.0, 50.0])
    kinds = {"parity": "parity", "mine": "ours", "rival": "rival"}
    for path in (
        tradeoff_figure(s, {"A": log, "B": log}, kinds, tmp_path / "a.png"),
        curves_figure(s, tmp_path / "b.png"),
    ):
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def test_a_method_costlier_than_the_log_is_in_the_picture(tmp_path, monkeypatch):
    axes = []
    saved = offline_plots._saved
    monkeypatch.setattr(offline_plots, "_saved", lambda fig, path: axes.extend(fig.axes) or saved(fig, path))
    s = summarise({}, [row("A/rival", 0, 30, 700)], PLAN, LOG, (10.0, 20.0), ["mine"], "parity")
    log = np.array([0.0, 60.0, 100.0]), np.array([0.0, 4.0, 50.0])
    tradeoff_figure(s, {"A": log}, {"rival": "rival"}, tmp_path / "a.png")
    assert axes[0].get_xlim()[1] > 700
