"""Certificates as records: each kind comes out again, every number that is changed is found."""

from typing import Any

import numpy as np
import pytest

from safeplan.cli.main import main
from safeplan.errors import DataError
from safeplan.reach import (
    Ledger,
    begin,
    begin_looks,
    carry_on,
    certify_draws,
    certify_with_model,
    digest,
    samples_needed,
    tube,
)
from safeplan.reach.certificates.record import faults, load_records, record
from safeplan.strict_json import dumps, loads, write

PLAN = digest("plan")


def rare(rng, n):
    return rng.random(n) < 0.01


def made() -> dict[str, dict[str, Any]]:
    """One record of each kind, as a file would give it back."""
    stream, ledger = Ledger(7).open(PLAN)
    n = samples_needed(0.05, 0.025, 1)
    settings: Any = {"gamma": 0.05, "delta": 0.05}
    fixed = certify_draws(ledger, stream.draw(n, rare)[0], PLAN, **settings)
    sequential = carry_on(begin(ledger, stream, PLAN, **settings), stream, rare, 40)
    looks = begin_looks(ledger, stream, PLAN, [100, 200, 400], **settings)
    looks = looks.add(stream.draw(100, rare)[0])
    both = stream.draw(400, lambda rng, n: np.stack([h := rare(rng, n), h ^ (rng.random(n) < 0.005)], 1))[0]
    model = certify_with_model(ledger, both, PLAN, rare(np.random.default_rng(0), 5000), **settings)
    round_tube = tube(np.random.default_rng(0).random((200, 3)), 0.1, delta=0.1)
    certificates = fixed, sequential, looks, model, round_tube
    records = [loads(dumps(record(c))) for c in certificates]
    return {r["certificate"]: r for r in records}


@pytest.mark.parametrize("kind", made())
def test_each_kind_comes_out_again(kind):
    found = made()[kind]
    assert found["certificate"] == kind and faults(found) == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("clopper_pearson", {"k": 5}),
        ("clopper_pearson", {"upper": 0.001}),
        ("clopper_pearson", {"assumes": []}),
        ("clopper_pearson", {"n": 0}),
        ("sequential", {"upper": 0.001}),
        ("sequential", {"lowest": {"stream": "", "n": 10**6, "k": 0}}),
        ("looks", {"allowed": [3, 3, 3]}),
        ("looks", {"counts": {"stream": "", "n": 150, "k": 0}}),
        ("looks", {"holds": "flip"}),
        ("looks", {"gamma": 2.0}),
        ("model", {"only_real": 0, "only_model": 0, "model_k": 0}),
        ("clopper_pearson", {"k": 0.2}),
        ("clopper_pearson", {"k": True}),
        ("clopper_pearson", {"attempt": 10}),
        ("clopper_pearson", {"assumes": ["all is well"]}),
        ("clopper_pearson", {"n": 4 * 10**9, "k": 0, "upper": 0.0}),
        ("sequential", {"counts": {"stream": "s", "n": 1000, "k": 300}, "lowest": {"stream": "s", "n": 1000, "k": 0}}),
        ("looks", {"done": 9}),
        ("looks", {"counts": {"stream": "", "n": 100, "k": -1}}),
        ("model", {"delta": 1.2, "attempt": 1}),
        ("tube", {"radius": [], "per_step": []}),
        ("tube", {"radius": [-0.5] * 3, "per_step": [-1.0] * 3}),
        ("tube", {"rank": 3}),
        ("tube", {"n": 5}),
        ("tube", {"radius": [0.0, 0.0, 0.0]}),
    ],
)
def test_every_change_is_found(kind, change):
    found = made()[kind]
    if change.get("holds") == "flip":
        change = {"holds": not found["holds"]}
    try:
        assert faults({**found, **change})
    except DataError as e:  # of another type
        assert "wrong type" in str(e)


def test_what_is_no_record_is_refused():
    with pytest.raises(DataError, match="unknown"):
        faults({"certificate": "hope"})
    with pytest.raises(DataError, match="k is missing"):
        faults({key: v for key, v in made()["clopper_pearson"].items() if key != "k"})
    with pytest.raises(DataError, match="wrong type"):
        faults({**made()["clopper_pearson"], "delta": "small"})


def test_the_command_checks_files_of_records(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    write(good, list(made().values()))
    main(["verify", str(good)])
    assert "5 of 5 certificates follow" in capsys.readouterr().out
    write(bad, {**made()["clopper_pearson"], "upper": 0.001})
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(bad)])
    out = capsys.readouterr()
    assert stop.value.code == 2 and "recomputed" in out.out and "1 of 1 certificates do not hold" in out.err
    assert load_records(tmp_path / "none.json") is None
