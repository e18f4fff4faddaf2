"""Bad input ends in one clear error that names the thing and the remedy, or in a status; nothing made is lost."""

import json
from pathlib import Path

import numpy as np
import pytest

from safeplan.cli.main import main
from safeplan.dynamics.own import load_scene, load_vehicle
from safeplan.errors import ConfigError, DataError

EXAMPLES = Path(__file__).resolve().parents[1] / "scripts" / "examples"
SMALL = ("policy.batch=16", "policy.critic_rows=8", "policy.hidden=8", "policy.actor_width=8", "updates=2", "name=t")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    err = capsys.readouterr().err.strip()
    assert caught.value.code == 2 and "Traceback" not in err
    assert err.startswith(f"safeplan {argv[0]}: error: ")
    return err


def write(path: Path, change=lambda columns: columns) -> Path:
    """A small log in the DSRL layout with `change` applied to its columns."""
    import h5py

    n, rng = 48, np.random.default_rng(0)
    x = rng.normal(size=(n + 1, 3)).astype(np.float32)
    columns = {
        "observations": x[:-1],
        "next_observations": x[1:],
        "actions": rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        "rewards": rng.normal(size=n).astype(np.float32),
        "costs": (rng.random(n) < 0.2).astype(np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": np.arange(n) % 16 == 15,
    }
    with h5py.File(path, "w") as file:
        for key, value in change(columns).items():
            file[key] = value
    return path


def put(key, index, value):
    def change(columns):
        columns[key][index] = value
        return columns

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("observations", (7, 1), np.nan), ("observations", "7")),
        (put("rewards", 3, np.inf), ("rewards", "3")),
        (lambda c: {k: v for k, v in c.items() if k != "costs"}, ("costs",)),
        (lambda c: {**c, "actions": c["actions"][:-1]}, ("actions", "47", "48")),
        (lambda c: {**c, "next_observations": c["next_observations"][:, :2]}, ("next_observations",)),
        (lambda c: {**c, "actions": c["actions"] * 9}, ("actions", "[-1, 1]")),
    ],
    ids=["nan", "inf", "missing", "length", "shape", "range"],
)
def test_faulty_logs(capsys, elsewhere, change, words):
    path = write(elsewhere / "log.hdf5", change)
    err = refused(capsys, "train", "policy=fisor", "data=file", f"data.path={path}", *SMALL)
    assert all(w in err for w in words), err


def test_a_sound_log_trains(elsewhere):
    path = write(elsewhere / "log.hdf5")
    main(["train", "policy=fisor", "data=file", f"data.path={path}", *SMALL])
    assert list((elsewhere / "runs").rglob("model.safetensors"))


def test_files_that_are_not_there_or_not_logs(capsys, elsewhere):
    (elsewhere / "bad.hdf5").write_bytes(b"no log")
    for path in ("none.hdf5", "bad.hdf5"):
        assert path in refused(capsys, "train", "policy=fisor", "data=file", f"data.path={path}", *SMALL)
    assert "ends in .hdf5" in refused(capsys, "train", "policy=fisor", "data=file", "data.path=log.csv", *SMALL)
    assert "data.path=FILE.hdf5" in refused(capsys, "train", "policy=fisor", "data=file", *SMALL)


def test_corrupt_checkpoint_is_named_and_left_as_it_is(capsys, elsewhere):
    path = write(elsewhere / "log.hdf5")
    argv = ["train", "policy=fisor", "data=file", f"data.path={path}", *SMALL]
    main(argv)
    capsys.readouterr()
    (state,) = (elsewhere / "runs").rglob("state.pt")
    broken = state.read_bytes()[:-100]
    state.write_bytes(broken)
    assert "state.pt" in refused(capsys, *argv) and state.read_bytes() == broken
    (model,) = (elsewhere / "runs").rglob("model.safetensors")
    raw = bytearray(model.read_bytes())
    raw[-1] ^= 1
    model.write_bytes(raw)
    assert "corrupt" in refused(capsys, "plan", "env=hovercraft", f"weights={model}")


def test_weights_of_something_else(capsys, elsewhere):
    path = write(elsewhere / "log.hdf5")
    main(["train", "policy=fisor", "data=file", f"data.path={path}", *SMALL])
    capsys.readouterr()
    err = refused(capsys, "plan", "env=hovercraft", "weights=runs/t/seed_0")
    assert "Fisor" in err and "trajectory model" in err
    err = refused(capsys, "evaluate", "env=hovercraft", "planners=[fisor]", "fisor_weights=runs/t/seed_0", "episodes=1")
    assert "expected a FISOR agent with" in err
    assert "no such file" in refused(capsys, "plan", "env=hovercraft", "weights=nowhere.safetensors")


# ---------------------------------------------------------------- hard scenes are answered with a status
def own_scene(folder: Path, old: str, new: str) -> str:
    text = (EXAMPLES / "scene.yaml").read_text()
    assert old in text
    (folder / "scene.yaml").write_text(text.replace(old, new))
    return "scene=scene.yaml"


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("start: [0.5, 1.5", "start: [2.2, 1.3", "start_in_collision"),
        ("goal: {x: 5.5, y: 1.5", "goal: {x: 2.2, y: 1.3", "unreachable"),
        ("goal: {x: 5.5, y: 1.5", "goal: {x: 9.0, y: 9.0", "unreachable"),
    ],
)
def test_hard_scenes_end_in_a_status(capsys, elsewhere, old, new, status):
    scene = own_scene(elsewhere, old, new)
    limits = ("env.max_seconds=0.6", "animate=false", "planner.clock=cpu")
    main(["plan", f"system.file={EXAMPLES / 'my_vehicle.py'}", scene, *limits])
    out = capsys.readouterr().out
    assert status in out and ("Goal NOT reached" in out or "COLLISION" in out)
    data = json.loads((elsewhere / "runs" / "plan_my_vehicle" / "seed_0" / "plan.json").read_text())
    assert data["plans"][0]["status"] == status and "safe stop" in data["plans"][0]["message"]


# ---------------------------------------------------------------- your own files
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("start: [0.5, 1.5, 0.0, 0.0]", "start: [0.5, 1.5]", "expected 4 finite numbers"),
        ("start: [0.5", "start: [.nan", "expected 4 finite numbers"),
        ("radius: 0.25", "radios: 0.25", "Did you mean 'radius'"),
        ("goal: {x: 5.5, y: 1.5, radius: 0.25}", "goal: {x: 5.5, y: 1.5}", "radius is missing"),
        ("obstacles:", "obstacle:", "Did you mean 'obstacles'"),
        ("{x: 2.2, y: 1.3, r: 0.45}", "{x: 2.2, y: 1.3, r: wide}", "obstacles[0].r"),
        ("{x: 2.2, y: 1.3, r: 0.45}", "7", "obstacles[0]"),
        ("bounds: [0.0, 0.0, 6.0, 3.0]", "bounds: [6.0, 0.0, 0.0, 3.0]", "xlo < xhi"),
        ("stretch_s: 0.5", "stretch_s: 0", "above 0"),
        ("bounds: [", "bounds: [[", "not YAML"),
    ],
)
def test_faults_in_a_scene_are_named(elsewhere, old, new, words):
    own_scene(elsewhere, old, new)
    system = load_vehicle(EXAMPLES / "my_vehicle.py").system
    with pytest.raises(DataError) as caught:
        load_scene("scene.yaml", system)
    assert words in str(caught.value) and "scene=scene.yaml" in str(caught.value)


def test_scenes_that_are_no_scenes(elsewhere):
    system = load_vehicle(EXAMPLES / "my_vehicle.py").system
    with pytest.raises(DataError, match="no such file"):
        load_scene("none.yaml", system)
    Path("list.yaml").write_text("[1]")
    with pytest.raises(DataError, match="expected the keys"):
        load_scene("list.yaml", system)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "define `system`"),
        ("def system(): return 3", "define `system`"),
        ("from safeplan.dynamics.unicycle import unicycle as system", "define `belief"),
    ],
)
def test_faults_in_a_vehicle_are_named(capsys, elsewhere, text, words):
    Path("mine.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_vehicle("mine.py")
    assert words in str(caught.value) and "mine.py" in str(caught.value)
    assert words in refused(capsys, "plan", "system.file=mine.py", f"scene={EXAMPLES / 'scene.yaml'}")


def test_vehicles_that_are_not_there(capsys, elsewhere):
    Path("mine.txt").write_text("x = 1")
    for path, words in (("none.py", "no such file"), ("mine.txt", "not a Python file")):
        with pytest.raises(ConfigError, match=words):
            load_vehicle(path)
    assert "needs a scene" in refused(capsys, "plan", f"system.file={EXAMPLES / 'my_vehicle.py'}")


def test_a_changed_vehicle_is_not_verified(capsys, elsewhere):
    Path("mine.py").write_text((EXAMPLES / "my_vehicle.py").read_text())
    limits = ("env.max_seconds=0.3", "animate=false")
    main(["plan", "system.file=mine.py", f"scene={EXAMPLES / 'scene.yaml'}", *limits])
    capsys.readouterr()
    plan = "runs/plan_mine/seed_0/plan.json"
    Path("mine.py").write_text(Path("mine.py").read_text() + "\n")
    assert "has changed" in refused(capsys, "verify", plan)
    data = json.loads(Path(plan).read_text())
    Path("other.json").write_text(json.dumps({**data, "system": {"env": "boat"}}))
    assert "hovercraft" in refused(capsys, "verify", "other.json")
    Path("cut.json").write_text(Path(plan).read_text()[:50])
    assert "cut.json" in refused(capsys, "verify", "cut.json")
    assert "no such file" in refused(capsys, "verify", "none.json")
