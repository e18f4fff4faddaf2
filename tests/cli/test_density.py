"""`safeplan density`, in process: files, last lines, every system, own vehicles, refusals."""

import json
from pathlib import Path

import pytest

from safeplan.cli.main import main
from safeplan.dynamics.systems import systems

OWN = Path(__file__).resolve().parents[2] / "scripts" / "examples" / "my_vehicle.py"
SMALL = ("particles=64", "cloud=1024", "repeats=2", "boxes=3", "frames=2", "device=cpu")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["density", *argv])
    err = capsys.readouterr().err.strip()
    assert caught.value.code == 2 and len(err.splitlines()) == 1, err
    return err


def record(folder: str) -> dict:
    return json.loads((Path("runs") / folder / "density.json").read_text(), parse_constant=lambda w: pytest.fail(w))


def test_a_small_run_writes_its_files_and_says_what_it_found(capsys):
    main(["density", "system=vdp", "seed=3", *SMALL])
    said, last = capsys.readouterr().out.strip().splitlines()
    assert last == "results: runs/density_vdp/seed_3/ (density.png, density.gif, density.json)"
    assert said.startswith("vdp in 2.45: the spread (sd) goes x from 1.4") and said.count(";") == 4
    for words in ("most concentrated at x, y = ", "log-gain ", "0.00% outside the domain", "64 Sobol points give"):
        assert words in said
    folder = Path("runs/density_vdp/seed_3")
    assert (folder / "density.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "density.gif").read_bytes().startswith(b"GIF8")
    found = record("density_vdp/seed_3")
    assert found["seeds"]["particles"] == 3 and "torch" in found["made_with"] and found["source"] == "density_corl"
    assert found["box_error"]["n"] == [32, 64] and len(found["box_error"]["p"]) == 3
    main(["density", "system=vdp", "seed=3", *SMALL, "animate=false"])
    again = record("density_vdp/seed_3")
    assert {**found, "took_s": 0} == {**again, "took_s": 0}


@pytest.mark.parametrize("name", systems())
def test_every_system_works(capsys, monkeypatch, name):
    """The picture, which takes most of the time, is drawn for some of them."""
    if name not in ("hovercraft", "robot"):
        monkeypatch.setattr("safeplan.evaluation.density_plot.density_figure", lambda *_: None)
    seconds = {"dint": 2, "quad": 0.3, "robot": 0.3}.get(name, 0.5)
    main(["density", f"system={name}", *SMALL, "animate=false", f"seconds={seconds}"])
    assert capsys.readouterr().out.strip().splitlines()[-1].endswith("(density.png, density.json)")
    found = record(f"density_{name}/seed_0")
    assert found["system"] == name and found["seconds"] == pytest.approx(seconds, rel=0.3)
    assert len(found["spread"]) == 2 and found["outside_domain"][0] == 0


def test_controls_are_held_where_they_are_asked_to_be(capsys):
    main(["density", "system=car", "control=[2.0,0.5]", "axes=[ex,eth]", "seconds=1", "animate=false", *SMALL])
    assert "ex from" in (said := capsys.readouterr().out) and "eth from" in said
    fast = record("density_car/seed_0")
    main(["density", "system=car", "axes=[ex,2]", "seconds=1", "animate=false", *SMALL])
    slow = record("density_car/seed_0")
    assert fast["control"] == [2.0, 0.5] and slow["control"] == [1.0, 0.0]
    assert fast["axes"] == slow["axes"] == ["ex", "eth"] and fast["spread"][1] != slow["spread"][1]


def test_a_vehicle_of_your_own(capsys):
    file = f"system.file={OWN}"
    main(["density", file, "start=[0.5,0,0.2,0]", "axes=[px,vx]", "seconds=1", *SMALL])
    said, _, last = capsys.readouterr().out.strip().splitlines()
    assert said == f"running your code: {OWN}" and last.startswith("results: runs/density_my_vehicle/seed_0/")
    found = record("density_my_vehicle/seed_0")
    assert found["system"] == "drone" and found["seconds"] == pytest.approx(1.0) and found["control"] == [0.0, 0.0]
    # two rates fall by 0.4 v each: the log-gain is 0.8 t
    assert found["log_gain_nats"]["median"][-1] == pytest.approx(0.8)
    assert "give one of them" in refused(capsys, file, "system=vdp")
    assert "expected 4 finite numbers: px, py, vx, vy" in refused(capsys, file, "start=[1]")
    assert "expected 2 finite numbers: ax, ay" in refused(capsys, file, "control=[1]")
    assert "beyond the bounds [-1.5, -1.5] to [1.5, 1.5]" in refused(capsys, file, "control=[9,0]")
    assert "no such file" in refused(capsys, "system.file=nowhere.py")


def test_refusals(capsys):
    assert "Did you mean 'vdp'" in refused(capsys, "system=vpd")
    assert "Did you mean 'particles'" in refused(capsys, "particels=64")
    assert "Did you mean 'file'" in refused(capsys, "system.fiel=x.py")
    assert "'z' is no state of vdp" in refused(capsys, "axes=[x,z]")
    assert "Did you mean 'eth'" in refused(capsys, "system=car", "axes=[ex,et]")
    assert "give two different states of vdp: x, y" in refused(capsys, "axes=[x,0]")
    assert "'7' is no state" in refused(capsys, "axes=[0,7]")
    assert "vdp has a start of its own" in refused(capsys, "start=[0,0]")
    assert "expected 0 finite numbers" in refused(capsys, "control=[1]")
    assert "use 1024" in refused(capsys, "particles=1000")
    assert "cloud=16: must be at least 1024" in refused(capsys, "cloud=16")


def test_plan_does_not_offer_systems(capsys):
    """Its `system` is a file; only `density` has names to choose from."""
    main(["density", "--help"])
    assert "system=car|dint|" in capsys.readouterr().out
    main(["plan", "--help"])
    assert "system=car|dint|" not in capsys.readouterr().out


def test_a_system_by_name_is_for_this_command_alone(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["plan", "system=vdp"])
    assert stop.value.code == 2 and "system is no group of choices here" in capsys.readouterr().err
