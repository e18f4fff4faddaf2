"""The density table in miniature: every method answers or says why not, the last line is the learned flow's error."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from safeplan.build import flows
from safeplan.dynamics.systems import system
from safeplan.training.flow import FlowConfig

PATH = Path(__file__).parents[2] / "scripts" / "density_table.py"


@pytest.fixture
def table(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("density_table", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    small = FlowConfig(hidden=(32, 32), updates=600, batch=256, lr=5e-3)
    monkeypatch.setattr(flows, "flow_config", lambda name: small)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "PUSHED", 1 << 12)
    monkeypatch.setattr(module, "TRUTH", {"vdp": 1 << 13, "car": 1 << 13})
    monkeypatch.setattr(module, "EPOCHS", {"vdp": 5, "car": 5})
    return module


def test_every_method_on_a_small_scale(table, tmp_path, capsys):
    assert table.main(["--system", "vdp", "--out", str(tmp_path)]) in (0, 1)
    out = capsys.readouterr().out.splitlines()
    rows = {line.split("|")[1].split("  ")[0].strip(): line for line in out if "|" in line}
    assert set(rows) == set(table.methods(False))
    from safeplan.strict_json import loads

    found = {
        r["planner"].split(" | ")[1]: r["result"] for r in loads((tmp_path / "density_table.json").read_bytes())["rows"]
    }
    assert out[-1] == f"{found['learned flow, 1,000 trajectories']['box_rms']:.4f}"
    few, many = found["Monte Carlo, 1,000"], found["Monte Carlo, 10,000"]
    assert 300 < few["equals_mc"] < 3000 and few["box_rms"] > 2 * many["box_rms"]
    assert found["Sobol particles, 1,024"]["ratio"] < 0.7
    assert found["perfect model"]["kl_rk4"] < found["KDE, 1,024"]["kl_rk4"]
    assert found["learned flow, 1,000 trajectories"]["gain_rmse"] < 1
    assert found["interval reachability"]["box_rms"] > 0
    if importlib.util.find_spec("hj_reachability"):
        assert found["grid (hj-reachability)"]["missed"] < 0.01
    else:
        assert "pip install 'safeplan[grid]'" in found["grid (hj-reachability)"]["refused"]


def test_the_published_network_scores_what_is_known_of_it(table, tmp_path):
    """Its log-gain RMSE, and its scores by the authors' metric: .075047 by Euler truth, .091965 by RK4 truth."""
    row = table.published_network(system("vdp"), table.boxes_of("vdp", tmp_path))
    assert row["gain_rmse"] == pytest.approx(0.608, abs=1e-3)
    assert (row["kl_euler"], row["kl_rk4"]) == pytest.approx((0.075047, 0.091965), abs=2e-5)
    assert 0.3 < row["box_rms"] < 0.6
    robot = table.published_network(system("robot"), None)
    assert 2 < robot["gain_rmse"] < 5 and set(robot) == {"gain_rmse", "state_rmse"}


def test_a_study_goes_on_where_it_was_killed(table, tmp_path, monkeypatch):
    cheap = {"sigma points", "learned flow, 1,000 trajectories"}
    every = table.methods(True)
    monkeypatch.setattr(table, "methods", lambda quick: {k: v for k, v in every.items() if k in cheap})
    monkeypatch.setattr(table.build, "shipped_flow", lambda name: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        table.main(["--system", "vdp", "--out", str(tmp_path)])
    assert len((tmp_path / "density_table.study.jsonl").read_text().splitlines()) == 1
    monkeypatch.setattr(table, "learned", None)
    flow = lambda c, b, r: {"box_rms": 0.01, "box_median": 0.01, "equals_mc": 1.0}  # noqa: E731
    every["learned flow, 1,000 trajectories"] = flow
    assert table.main(["--system", "vdp", "--out", str(tmp_path)]) == 0


def test_boxes_of_another_time_and_of_no_file_are_refused(table, tmp_path):
    from safeplan.errors import DataError, SafeplanError

    with pytest.raises(DataError, match="cannot be read"):
        table.main(["--quick", "--boxes", str(tmp_path / "none.npz"), "--out", str(tmp_path)])
    file = tmp_path / "b.npz"
    np.savez(file, t=1.0, lo=[[0.0, 0.0]], hi=[[1.0, 1.0]], p_true=[0.1])
    with pytest.raises(SafeplanError, match=r"t = 1 s, the horizon of vdp is 2.45 s"):
        table.main(["--quick", "--boxes", str(file), "--out", str(tmp_path)])


def test_boxes_of_a_system_that_changed_are_refused(table, tmp_path):
    from safeplan.errors import DataError

    boxes = table.boxes_of("vdp", tmp_path)
    replace(boxes, p=np.minimum(boxes.p * 1.5, 0.9)).save(tmp_path / "density_boxes" / "vdp.npz")
    with pytest.raises(DataError, match=r"vdp has changed since then\. Remove the file"):
        table.boxes_of("vdp", tmp_path)


def file_of(boxes, folder):
    boxes.save(folder / "any.npz")
    return folder / "any.npz"


def test_what_cannot_be_done_says_so(table, tmp_path):
    boxes = table.boxes_of("car", tmp_path)
    row = table.job(False, str(tmp_path), None, "car | published recipe (fewer epochs), 1,000", 0)
    assert "box_rms" in row["result"] and row["cpu_s"] > 0
    assert table.published_score(system("hovercraft"), None) == {}
    kop = table.published_score(system("kop"), None)
    assert set(kop) == {"kl_rk4"} and kop["kl_rk4"] > 0  # Euler steps of 0.125 run to infinity there
    row = table.job(
        False,
        str(tmp_path),
        str(file_of(boxes, tmp_path)),
        "kop | published recipe (fewer epochs), 1,000",
        0,
    )
    assert "to infinity" in row["result"]["refused"]
    assert len(boxes.p) == 300 and (tmp_path / "density_boxes" / "car.npz").is_file()
