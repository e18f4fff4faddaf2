"""Provenance: draws belong to the finished plan they were opened for, and to no choice."""

import numpy as np
import pytest

from safeplan.errors import CertificateError, DataError
from safeplan.reach import Counts, Ledger, Stream, certify_draws, clopper_pearson, digest, samples_needed

PLAN = digest(np.arange(6.0).reshape(2, 3), "tail")


def coin(p):
    return lambda rng, n: rng.random(n) < p


def opened(root=3, plan=PLAN):
    return Ledger(root).open(plan)


def test_digest_sees_every_number_shape_and_order():
    a, b = np.arange(6.0), np.array([1.0])
    names = [
        digest(a),
        digest(a.reshape(2, 3)),
        digest(a, b),
        digest(b, a),
        digest(a + np.eye(1, 6)[0] * 1e-16, b, 1.0),
    ]
    assert len({*names, digest("ab"), digest("a", "b")}) == 7
    assert digest(a) == digest(list(range(6))) and digest(0.0) == digest(-0.0)
    with pytest.raises(CertificateError, match="part 1 is not all finite"):
        digest(a, np.array([np.nan]))
    with pytest.raises(CertificateError, match="nothing was given"):
        digest()


def test_draws_depend_on_root_plan_attempt_and_batch_only():
    def first(root, plan, attempt):
        ledger = Ledger(root)
        for _ in range(attempt):
            stream, ledger = ledger.open(plan)
        return stream.draw(64, coin(0.5))[0].hits

    base = first(1, PLAN, 1)
    np.testing.assert_array_equal(base, first(1, PLAN, 1))
    for other in (first(2, PLAN, 1), first(1, digest(1.0), 1), first(1, PLAN, 2)):
        assert (base != other).any()
    stream, _ = opened(1)
    one, stream = stream.draw(64, coin(0.5))
    two, stream = stream.draw(64, coin(0.5))
    assert (one.start, two.start, stream.taken) == (0, 64, 128) and (one.hits != two.hits).any()


def test_a_certificate_from_draws_is_the_binomial_one():
    stream, ledger = opened()
    n = samples_needed(0.05, 0.025, 1)
    draws, _ = stream.draw(n, coin(0.002))
    c = certify_draws(ledger, draws, PLAN, gamma=0.05, delta=0.05)
    assert c.holds and c.upper == clopper_pearson(c.k, n, 0.025)[1] and c.attempt == 1 and c.assumes
    second, ledger = ledger.open(PLAN)
    draws, _ = second.draw(samples_needed(0.05, 0.0125, 1), coin(0.9))
    c = certify_draws(ledger, draws, PLAN, gamma=0.05, delta=0.05)
    assert not c.holds and (c.attempt, c.delta) == (2, 0.0125)


def test_samples_that_chose_the_plan_are_refused():
    rank, ledger = Ledger(5).select("rank")
    n = samples_needed(0.05, 0.025, 1)
    reused, _ = rank.draw(n, coin(0.0))
    stream, ledger = ledger.open(PLAN)
    fresh, stream = stream.draw(n, coin(0.0))

    def certify(ledger, draws, plan=PLAN):
        return certify_draws(ledger, draws, plan, gamma=0.05, delta=0.05)

    assert certify(ledger, fresh).holds
    with pytest.raises(CertificateError, match="select/rank took part in choosing"):
        certify(ledger, reused)
    with pytest.raises(CertificateError, match="took part in choosing"):  # the plan was repaired after a look at them
        certify(ledger.looked(fresh), fresh)
    with pytest.raises(CertificateError, match="belong to plan"):
        certify(ledger, fresh, digest(np.arange(6.0).reshape(2, 3) + 1e-12, "tail"))
    with pytest.raises(CertificateError, match=r"not come from this ledger .*root 6"):
        certify(Ledger(6, 1), fresh)
    with pytest.raises(CertificateError, match="0 attempts"):  # the ledger from before it was opened
        certify(Ledger(5), fresh)
    more, _ = stream.draw(n, coin(0.0))
    with pytest.raises(CertificateError, match="starts at draw"):
        certify(ledger, more)
    few, _ = ledger.open(PLAN)[0].draw(50, coin(0.0))
    with pytest.raises(CertificateError, match=r"50 draws; attempt 2 .* needs exactly 1"):
        certify(ledger.open(PLAN)[1], few)


def test_counts_take_every_batch_once():
    stream, _ = opened()
    one, stream = stream.draw(10, coin(1.0))
    two, _ = stream.draw(5, coin(0.0))
    counts = Counts(one.stream).add(one).add(two)
    assert (counts.n, counts.k) == (15, 10)
    for bad in (one, Ledger(8).select("x")[0].draw(15, coin(0.0))[0]):
        with pytest.raises(CertificateError, match=r"in order and once|keep to one stream"):
            counts.add(bad)
    pairs, _ = opened()[0].draw(10, lambda rng, n: np.zeros((n, 2)))
    with pytest.raises(DataError, match="one column"):
        Counts(pairs.stream).add(pairs)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [(lambda r, n: np.full(n, np.nan), "NaN"), (lambda r, n: np.zeros(n - 1), r"\(9,\), expected")],
)
def test_outcomes_are_hits_or_misses(outcome, words):
    with pytest.raises(DataError, match=words):
        Stream("s", 1).draw(10, outcome)
    with pytest.raises(CertificateError, match="n = 0"):
        Stream("s", 1).draw(0, coin(0.5))
