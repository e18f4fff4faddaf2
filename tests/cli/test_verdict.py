"""The paragraph that a mission ends with."""

from types import SimpleNamespace

import pytest

from safeplan.cli.verdict import verdict
from safeplan.planning import Mission
from safeplan.types import Certificate, Status


def plan(status, upper=None, stops=None):
    stops = status is not Status.CERTIFIED if stops is None else stops
    certificate = None if upper is None else Certificate(upper, 555, 1, 0.025, 1, 7, 0.01, ("the belief is right",))
    return SimpleNamespace(status=status, certificate=certificate, risk=None, message="why", stops=stops)


def mission(*plans, **kw):
    return Mission(plans=[(0.3 * i, p) for i, p in enumerate(plans)], planning_s=[0.1, 0.2], seconds=4.0, **kw)


def test_success_names_the_worst_bound_and_what_it_rests_on():
    text = verdict(mission(plan(Status.CERTIFIED, 0.004), plan(Status.CERTIFIED, 0.009), reached=True, clearance=0.05))
    assert text.startswith("Goal reached after 4.0 s, without collision; worst clearance 5.0 cm. 2 of 2 plans")
    assert (
        "at most 0.90% (worst" in text
        and "at least 97.5% confidence" in text
        and "assumes: the belief is right." in text
    )
    assert "p50 150 ms" in text and "came late" not in text


@pytest.mark.parametrize(("late", "said"), [(1, False), (3, True)])
def test_many_late_plans_are_explained(late, said):
    plans = [plan(Status.LATE)] * late + [plan(Status.CERTIFIED, 0.005)] * 6
    text = verdict(mission(*plans, reached=True))
    assert ("planner.latency=6 planner.replan_every=6" in text) is said
    assert f"safe stops: {late} late" in text


def test_failure_says_why():
    text = verdict(mission(plan(Status.UNREACHABLE), collided=True, clearance=-0.01))
    assert text.startswith("COLLISION after") and "The last plan: why." in text and "0 of 1 plans" in text


def test_plans_without_learned_proposals_are_told_apart_from_stops():
    moved = plan(Status.OUT_OF_SUPPORT, 0.008, stops=False)
    text = verdict(mission(plan(Status.CERTIFIED, 0.004), moved, plan(Status.OUT_OF_SUPPORT, 0.02), clearance=0.05))
    assert "2 of 3 plans are certified, 1 of them along hand-made lines" in text
    assert "safe stops: 1 out_of_support." in text and "at most 0.80% (worst" in text
