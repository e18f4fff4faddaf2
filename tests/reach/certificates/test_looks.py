"""Planned looks: the exact boundary against brute force, against one look, and against the bound for all times."""

from itertools import product

import numpy as np
import pytest

from safeplan.errors import CertificateError
from safeplan.reach import Ledger, Verdict, begin_looks, boundary, clopper_pearson, crossing, digest, most_hits

PLAN = digest("plan")


def test_crossing_is_the_sum_over_all_sequences():
    looks, allowed, p = (3, 7, 12), (-1, 0, 2), 0.2
    first = np.zeros(3)
    for path in product((0, 1), repeat=12):
        k = np.cumsum(path)
        good = [i for i, (n, most) in enumerate(zip(looks, allowed, strict=True)) if k[n - 1] <= most]
        if good:
            first[good[0]] += p ** k[-1] * (1 - p) ** (12 - k[-1])
    np.testing.assert_allclose(crossing(looks, allowed, p), first, atol=1e-12)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_boundary_spends_what_it_may_and_no_hit_less(power):
    looks, gamma, delta = (120, 240, 500, 900), 0.02, 0.05
    allowed = boundary(looks, gamma, delta, power)
    share = delta * (np.array(looks) / looks[-1]) ** power
    assert (crossing(looks, allowed, gamma).cumsum() <= share + 1e-12).all()
    for i in range(len(looks)):
        more = [*allowed[:i], allowed[i] + 1]
        assert crossing(looks[: i + 1], more, gamma).sum() > share[i]
    certified = [crossing(looks, allowed, p).sum() for p in (0.002, 0.01, 0.02, 0.03, 0.06)]
    assert certified == sorted(certified, reverse=True) and certified[2] <= delta < certified[0]


def test_one_look_is_clopper_pearson():
    for n in (130, 400):
        (most,) = boundary((n,), 0.05, 0.05)
        assert clopper_pearson(most, n, 0.05)[1] <= 0.05 < clopper_pearson(most + 1, n, 0.05)[1]


def test_looks_that_are_planned_have_more_power_than_any_time():
    looks = tuple(range(60, 481, 60))
    ours, any_time = boundary(looks, 0.05, 0.05), most_hits(np.array(looks), 0.05, 0.05).tolist()
    assert crossing(looks, ours, 0.02).sum() > crossing(looks, any_time, 0.02).sum() + 0.03


def coin(p):
    return lambda rng, n: rng.random(n) < p


def test_state_follows_the_plan():
    stream, ledger = Ledger(1).open(PLAN)
    start = begin_looks(ledger, stream, PLAN, (100, 200, 400), gamma=0.05, delta=0.05)
    assert start.delta == 0.025 and start.upper == 1.0 and any("looks were fixed" in a for a in start.assumes)
    draws, rest = stream.draw(100, coin(0.5))
    bad = start.add(draws)
    assert bad.verdict is Verdict.GIVEN_UP and not bad.holds  # more hits than any later look allows
    with pytest.raises(CertificateError, match="given up already"):
        bad.add(rest.draw(100, coin(0.0))[0])
    state = start
    while state.verdict is Verdict.OPEN:
        draws, stream = stream.draw(state.looks[state.done] - state.counts.n, coin(0.0))
        state = state.add(draws)
    assert state.verdict is Verdict.CERTIFIED and state.upper == 0.05
    early, _ = Ledger(1).open(PLAN)[0].draw(50, coin(0.0))
    with pytest.raises(CertificateError, match="50 draws, the next look was planned at 100"):
        start.add(early)


@pytest.mark.parametrize(
    ("looks", "gamma", "words"),
    [
        ((200, 100), 0.05, "growing"),
        ((), 0.05, "growing"),
        ((100,), float("nan"), "gamma = nan"),
        ((20, 40), 0.05, "40 draws cannot certify 0.05"),
    ],
)
def test_refusals(looks, gamma, words):
    with pytest.raises(CertificateError, match=words):
        boundary(looks, gamma, 0.05)
    chosen, ledger = Ledger(1).select("rank")
    with pytest.raises(CertificateError, match="took part in choosing"):
        begin_looks(ledger, chosen, PLAN, (100,), gamma=0.05, delta=0.05)
