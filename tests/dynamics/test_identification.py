"""Identification: known parameters come back from simulated recordings, regions cover what they say, files exist."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from safeplan.dynamics.hovercraft import PARAMS, hovercraft, hovercraft_belief, parameters
from safeplan.dynamics.identification import (
    Craft,
    Recording,
    Regressions,
    healthy,
    lag,
    load_recordings,
    published,
    save_json,
)
from safeplan.dynamics.prediction import (
    GROUPS,
    calibrate,
    covered,
    particles,
    predict,
    roll,
    sensitivities,
    shift,
    starts,
)
from safeplan.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "scripts" / "data" / "holohover"
RATE = 120.0


@pytest.fixture(scope="module")
def prior() -> Craft:
    return published(DATA / "holohover_params_new.yaml")


@pytest.fixture(scope="module")
def truth(prior: Craft) -> Craft:
    """A made-up craft, unlike the published one."""
    coeffs = prior.coeffs * np.array([1.1, 0.9, 1.05, 0.95, 1.0, 1.15])[:, None]
    com, drag = np.array([0.001, -0.002]), 0.3
    return replace(prior, coeffs=coeffs, angle=prior.angle + 0.03, com=com, drag=drag, spin=0.4, torque=2.0, tau=0.028)


def simulated(craft: Craft, seed: int, seconds: float = 40.0, fault: slice | None = None) -> Recording:
    """A simulated recording (not a real one): signals that jump, the system rolled out, no noise.

    In `fault` the motors get nothing although the signals say otherwise.
    """
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    u = np.full((n, 6), 0.03)
    for pair in range(3):
        for k in range(0, n, 24):
            u[k : k + 24, 2 * pair + rng.integers(2)] = rng.uniform(0.03, 1.0)
    sent = u.copy()
    if fault is not None:
        sent[fault] = 0.03
    par = craft.system_parameters()
    theta = np.array([par["belief"][k]["mean"] for k in PARAMS])
    thrust = craft.thrust(sent)
    x = np.concatenate([np.zeros(6), thrust[0]])[None, None]
    path = roll(hovercraft(par), x, theta[None, None], thrust[None], 1 / RATE, n, False, list(range(1, n)))[0, 0]
    return Recording(f"simulated{seed}", RATE, shift(np.concatenate([x[0], path])[:, :6], -craft.com), u)


@pytest.fixture(scope="module")
def flights(truth: Craft) -> tuple[Recording, ...]:
    return (simulated(truth, 0), simulated(truth, 1, fault=slice(2000, 2060)))


def test_known_parameters_come_back_in_spite_of_lost_commands(flights, truth, prior):
    fit = Regressions(flights, (0.1, 0.25), "thrust").fit_lag(
        [0, 1], prior, np.array([0.024, 0.028, 0.032]), ridge=1e-4
    )
    assert fit.tau == 0.028
    full = np.eye(6) * 0.7
    np.testing.assert_allclose(fit.thrust(full), truth.thrust(full), atol=0.006)
    np.testing.assert_allclose(fit.angle, truth.angle, atol=0.01)
    np.testing.assert_allclose(fit.com, truth.com, atol=3e-4)
    assert fit.drag == pytest.approx(0.3, abs=0.05) and fit.spin == pytest.approx(0.4, abs=0.1)
    assert fit.torque == pytest.approx(2.0, abs=0.5)


def test_a_strong_ridge_keeps_the_published_parameters(flights, prior):
    fit = Regressions(flights, (0.1,), "signal").fit([0], prior, 0.03, ridge=1e4, rounds=1)
    np.testing.assert_allclose(fit.vector(), prior.vector(), atol=1e-3)


def test_prediction_with_the_true_craft_is_exact_and_beats_the_published(flights, truth, prior):
    rec = flights[0]
    first, keep = starts(rec, 0.5, 0.5), [12, 60]
    want = rec.state[first[:, None] + np.array(keep)]
    good, bad = (predict(c, rec, first, keep, "thrust") - want for c in (truth, prior))
    assert np.abs(good).max() < 2e-4
    assert np.abs(bad[..., :3]).mean() > 20 * np.abs(good[..., :3]).mean()
    # lag on the signal is another model: close, not equal
    other = predict(truth, rec, first, keep, "signal") - want
    assert 1e-4 < np.abs(other[:, 0, :2]).mean() < 5e-3


def test_lag_is_exact_and_shift_goes_there_and_back():
    z = np.r_[0.0, np.ones(50)]
    np.testing.assert_allclose(lag(z, 0.03, 0.01)[1:], 1 - np.exp(-np.arange(50) / 3), atol=1e-12)
    x, c = np.random.default_rng(0).standard_normal((4, 3, 6)), np.array([0.3, -0.2])
    np.testing.assert_allclose(shift(shift(x, c), -c), x, atol=1e-12)
    # velocity of a point of a body that spins in place
    np.testing.assert_allclose(
        shift(np.array([0.0, 0, 0, 0, 0, 2.0]), np.array([1.0, 0])), [1, 0, 0, 0, 2, 2], atol=1e-12
    )


def belief_of(craft: Craft, push: float, twist: float) -> dict:
    mean = craft.system_parameters()["belief"]
    sd = dict.fromkeys(PARAMS, 0.0) | {"ax": push, "ay": push, "aw": twist, "gain_a": 0.1}
    belief = {k: {"mean": mean[k]["mean"], "sd": sd[k]} for k in PARAMS}
    return craft.system_parameters(belief, state_sd=[1e-4, 1e-4, 1e-3, 5e-3, 5e-3, 0.05, 0.0, 0.0, 0.0], stretch_s=0.2)


def test_regions_cover_truths_drawn_from_the_belief_itself(flights, truth):
    par, keep = belief_of(truth, 0.2, 4.0), [12, 30, 60]
    first = starts(flights[0], 0.5, 0.5)
    draw = np.random.default_rng(3)
    cloud = particles(truth, par, flights[0], first, keep, 512, draw)
    worlds = particles(truth, par, flights[0], first, keep, 40, draw)  # simulated truths
    for j in range(len(keep)):
        hit = np.mean([covered(cloud[:, :, j], w[:, j]) for w in worlds], (0, 1))
        np.testing.assert_allclose(hit, 0.9, atol=0.07)
        # a belief of half the spread must be seen to be too small
        tight = cloud.mean(0) + 0.5 * (cloud - cloud.mean(0))
        assert (np.mean([covered(tight[:, :, j], w[:, j]) for w in worlds], (0, 1)) < 0.75).all()


def test_calibration_finds_the_spreads_that_made_the_errors(flights, truth):
    par, keep = belief_of(truth, 0.0, 0.0), [12, 30, 60]
    par = par | {"state_sd": [1e-4, 1e-4, 1e-3, 0, 0, 0, 0, 0, 0], "belief": truth.system_parameters()["belief"]}
    first = np.concatenate([starts(r, 0.5, 0.05) for r in flights[:1]])
    caused = sensitivities(truth, par, flights[0], first, keep)
    sd = {"velocity": 0.005, "spin_rate": 0.05, "gain": 0.06, "thrust": 0.005, "push": 0.2, "twist": 4.0}
    scale = np.array([sd.get(g, 1.0) ** 2 for g in GROUPS])
    cov = np.einsum("g,gwtij->wtij", scale, caused)
    rng = np.random.default_rng(0)
    error = np.einsum("wtij,wtj->wti", np.linalg.cholesky(cov), rng.standard_normal((*cov.shape[:2], 3)))
    low, high = {k: v / 20 for k, v in sd.items()}, {k: v * 20 for k, v in sd.items()}
    found = calibrate(caused, error, np.arange(len(first)) % 2, sd, low, high)
    assert found["push"] == pytest.approx(0.2, rel=0.25) and found["twist"] == pytest.approx(4.0, rel=0.25)
    twice = calibrate(caused, 2 * error, np.arange(len(first)) % 2, sd, low, high)
    assert twice["push"] == pytest.approx(2 * found["push"], rel=0.25)


def test_a_weak_motor_is_noticed(prior):
    weak = prior.coeffs * np.array([1, 1, 0.5, 1, 1, 1])[:, None]
    assert healthy([prior, replace(prior, coeffs=weak), prior]) == [True, False, True]


def test_committed_recordings_load_and_are_small():
    assert (DATA / "recordings.npz").stat().st_size < 3e6 and (DATA / "LICENCE").read_text().startswith("BSD 2-Clause")
    recs = load_recordings(DATA)
    assert len(recs) == 7 and sum(len(r.state) for r in recs) == pytest.approx(144_612 / 2, abs=7)
    for r in recs:
        assert r.rate == 120 and r.signals.min() >= 0.03 - 1e-4 and r.signals.max() <= 1.0
        # velocity is the derivative of position, so the two stayed aligned
        v = np.gradient(r.state[:, 0], 1 / r.rate)
        assert np.corrcoef(v, r.state[:, 3])[0, 1] > 0.98


def test_published_parameters_reproduce(prior):
    assert prior.mass == pytest.approx(0.1463, abs=1e-4) and prior.tau == pytest.approx(0.0313659, abs=1e-6)
    np.testing.assert_allclose(prior.arm, 0.04405, atol=1.1e-3)
    np.testing.assert_allclose(
        prior.angle, np.arctan2([0.99946, -0.47128, -0.52818], [0.03285, -0.88198, 0.84913]), atol=1e-4
    )
    np.testing.assert_allclose(prior.thrust(np.eye(6)[:1])[0, 0], 0.06398 + 0.97127 - 0.45002, atol=1e-4)
    first = starts(rec := load_recordings(DATA)[2], 0.5, 0.5)
    e = predict(prior, rec, first, [12], "signal")[:, 0] - rec.state[first + 12]
    assert np.hypot(e[:, 0], e[:, 1]).mean() < 0.0025  # constant velocity: 0.009 m


def test_shipped_craft_comes_from_the_fit_and_is_a_belief():
    c = parameters()
    assert "provenance" in c and np.array(c["thrust_coeffs"]).shape == (6, 3)
    b = hovercraft_belief(np.zeros(9))
    assert b.sample(8, 3, np.random.default_rng(0)).theta.shape == (8, 3, 9)
    low = {k: v["mean"] - 2 * v["sd"] for k, v in c["belief"].items()}
    assert low["tau"] > 0.01 and low["drag"] >= -1e-5 and low["spin"] >= -1e-5 and low["gain_a"] > 0.3
    pooled = c["provenance"]["pooled_coverage"]["motors whole"]
    assert all(0.85 <= v <= 0.95 for t in pooled.values() for v in t.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("rate"), "rate"),
        (lambda d: d.pop("b/U"), "b/U"),
        (lambda d: d["a/X"].__setitem__((3, 1), np.nan), "NaN"),
        (lambda d: d.__setitem__("a/U", d["a/U"][:5]), "expected both"),
        (lambda d: (d.pop("b/X"), d.pop("b/U")), "at least 2"),
    ],
)
def test_bad_recordings_end_in_one_clear_error(tmp_path, change, words):
    d = {"rate": np.float64(120)}
    for n in "ab":
        d |= {f"{n}/X": np.zeros((20, 6), np.float32), f"{n}/U": np.zeros((20, 6), np.uint16)}
    change(d)
    np.savez(tmp_path / "recordings.npz", **d)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=words):
        load_recordings(tmp_path)


def test_missing_files_and_the_script(tmp_path, capsys, monkeypatch):
    with pytest.raises(DataError, match="from-original"):
        load_recordings(tmp_path)
    with pytest.raises(DataError, match="restore"):
        published(tmp_path / "nothing.yaml")
    spec = importlib.util.spec_from_file_location("fit_hovercraft", ROOT / "scripts" / "fit_hovercraft.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fit_hovercraft", script)
    spec.loader.exec_module(script)
    assert script.main(["--data", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_json_is_short_and_whole(tmp_path):
    save_json(tmp_path / "a.json", {"x": [1 / 3, {"y": 2, 3: "z"}]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [0.333333, {"y": 2, "3": "z"}]}
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]
