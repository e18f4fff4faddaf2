"""A vehicle file of the user's own: what is wrong in it is named before anything is planned."""

import sys
from pathlib import Path

import numpy as np
import pytest

from safeplan.cli.main import main
from safeplan.dynamics.own import load_scene, load_vehicle
from safeplan.errors import ConfigError, DataError

EXAMPLES = Path(__file__).resolve().parents[2] / "scripts" / "examples"
VEHICLE, SCENE = (EXAMPLES / "my_vehicle.py").read_text(), (EXAMPLES / "scene.yaml").read_text()
RATES = "    return vx, vy, gain * ax - 0.4 * vx + wind_x, gain * ay - 0.4 * vy + wind_y\n"
AT_REST = "at_rest=lambda x, xp: (x[2], x[3]),"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*changes: tuple[str, str]) -> str:
    """mine.py: the example with some text replaced."""
    text = VEHICLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("mine.py").write_text(text)
    return "mine.py"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "_, _, vx, vy = x",
            "_, vx, vy = x",
            ["f(t, x, u, theta, xp) failed in line 14", "too many values", "x 4, u 2"],
        ),
        (
            RATES,
            "    return vx, vy, ax\n",
            ["f(t, x, u, theta, xp) returned 3 components", "expected 4 rates", "vx, vy"],
        ),
        (RATES, "    pass\n", ["f(t, x, u, theta, xp) returned None", "expected a tuple"]),
        (RATES, "    return vx, vy, None, ay\n", ["returned None as component 2"]),
        (RATES, "    return vx, vy, np.ones(2), ay\n", ["as component 2"]),
        (RATES, "    return vx, vy, float(ax), ay\n", ["failed in line 17 on NumPy arrays", "functions of `xp`"]),
        (RATES, "    return vx, vy, np.sign(ax), ay\n", ["on CasADi symbols", "functions of `xp`"]),
        (RATES, "    return vx, vy, ax if vx > 0 else ay, ay\n", ["on NumPy arrays", "no `if` on a component"]),
        (AT_REST, "at_rest=lambda x, xp: (x[2], x[4]),", ["at_rest(x, xp) failed in line", "IndexError"]),
        (AT_REST, "at_rest=lambda x, xp: x[2],", ["at_rest(x, xp) returned 0.0", "expected a tuple"]),
        (AT_REST, "at_rest=lambda x, xp: (),", ["at_rest(x, xp) returned 0 components"]),
        ("return CutNormalBelief(", "CutNormalBelief(", ["belief(x) returned None", "CutNormalBelief"]),
        ("x_mean=x,", "x_mean=x[:9] / q,", ["belief(x) failed in line", "NameError"]),
        ("x_mean=x,", "x_mean=x[:3],", ["belief(x) failed in line", "x_sd (4,)"]),
        ("theta_mean=np.array([1.0, 0.0, 0.0])", "theta_mean=np.ones(2)", ["belief(x) failed", "theta_mean (2,)"]),
        ("[0.005, 0.005,", "[-0.005, 0.005,", ["x_sd = [-0.005", "at least 0"]),
        ("stretch_s=0.5", "stretch_s=0", ["stretch_s = 0, expected a finite number above 0"]),
        ("dt=0.1", "dt=0", ["in line 20", "dt is 0, expected seconds above 0"]),
        ("dt=0.1", "substeps=0", ["substeps is 0"]),
        ("dt=0.1", "position=(0, 9)", ["position is (0, 9)"]),
        ("footprint=((0.0, 0.0, 0.15),)", "footprint=()", ["footprint is ()"]),
        ("import numpy as np", "import sys\nimport numpy as np\nsys.exit(3)", ["calls sys.exit(3)", "in line 8"]),
        ("import numpy as np", "import numpy as np\n1 / 0", ["failed in line 7", "ZeroDivisionError"]),
    ],
)
def test_bugs_are_named(old, new, words):
    with pytest.raises(ConfigError) as caught:
        load_vehicle(write((old, new)))
    text = str(caught.value)
    assert text.startswith("system.file=mine.py") and all(w in text for w in words), text


def test_the_command_line_says_it_in_one_line(capsys):
    Path("scene.yaml").write_text(SCENE)
    file = write((RATES, "    return vx, vy, ax\n"))
    with pytest.raises(SystemExit) as caught:
        main(["plan", f"system.file={file}", "scene=scene.yaml"])
    err = capsys.readouterr().err
    assert caught.value.code == 2 and "returned 3 components" in err and len(err.strip().splitlines()) == 1


def test_a_belief_that_fails_at_another_start_is_named():
    vehicle = load_vehicle(write(("x_mean=x,", "x_mean=x if x[0] < 1 else None,")))
    with pytest.raises(ConfigError, match=r"system\.file=mine\.py: belief\(x\) failed in line"):
        vehicle.belief(np.array([2.0, 0, 0, 0]))


def test_annotations_and_dataclasses():
    """dataclass looks its module up in sys.modules when annotations are strings."""
    start = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
    made = "@dataclass\nclass Drag:\n    k: ClassVar[float] = 0.4\n    c: float = 0.4\n\n\ndef f(t"
    body = VEHICLE.partition('"""\n\n')[2].replace("def f(t", made)
    Path("mine.py").write_text(start + body)
    assert load_vehicle("mine.py").system.n == 4


def test_modules_beside_the_file():
    for folder, gain in (("a", 1.0), ("b", 2.0)):  # of the same names: each vehicle has its own
        Path(folder, "parts").mkdir(parents=True)
        Path(folder, "own_drag.py").write_text(f"GAIN = {gain}\n")
        Path(folder, "parts", "wind.py").write_text("from own_drag import GAIN\n")
        text = VEHICLE.replace("import numpy as np", "import numpy as np\nfrom parts.wind import GAIN")
        Path(folder, "mine.py").write_text(text.replace("gain * ax", "GAIN * gain * ax"))
    path = list(sys.path)
    a, b = load_vehicle("a/mine.py"), load_vehicle("b/mine.py")
    assert a.helpers == b.helpers == ("own_drag.py", "parts/wind.py") and sys.path == path
    x, u, theta = (0.0,) * 4, (1.0, 0.0), (1.0, 0.0, 0.0)
    assert [v.system.f(0.0, x, u, theta, np)[2] for v in (a, b)] == [1.0, 2.0]
    assert not list(Path().rglob("__pycache__"))


def test_a_changed_module_beside_the_file_is_not_verified(capsys):
    Path("scene.yaml").write_text(SCENE)
    Path("own_drag.py").write_text("GAIN = 1.0\n")
    write(("import numpy as np", "import numpy as np\nfrom own_drag import GAIN"), ("gain * ax", "GAIN * gain * ax"))
    main(["plan", "system.file=mine.py", "scene=scene.yaml", "env.max_seconds=0.3", "animate=false"])
    main(["verify", "runs/plan_mine/seed_0/plan.json", "fresh=50"])
    assert "verified" in capsys.readouterr().out
    for text in ("GAIN = 1.1\n", None):
        Path("own_drag.py").write_text(text) if text else Path("own_drag.py").unlink()
        with pytest.raises(SystemExit) as caught:
            main(["verify", "runs/plan_mine/seed_0/plan.json"])
        err = capsys.readouterr().err
        assert caught.value.code == 2 and "own_drag.py has changed" in err


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (SCENE[SCENE.index("obstacles:") :], "obstacles: 5", "obstacles is 5, expected a list"),
        (
            SCENE[SCENE.index("obstacles:") :],
            "obstacles: {x: 1, y: 2}",
            "obstacles is {'x': 1, 'y': 2}, expected a list",
        ),
        (SCENE[SCENE.index("obstacles:") :], "obstacles: 0", "obstacles is 0, expected a list"),
        ("r: 0.45", "r: -0.45", "obstacles[0].r is -0.45, expected at least 0"),
        ("hx: 0.15", "hx: -0.1", "obstacles[1].hx is -0.1, expected at least 0"),
        ("hy: 0.5", "hy: -0.5", "obstacles[1].hy is -0.5"),
        ("sigma_v: 0.05", "sigma_v: -1", "obstacles[2].sigma_v is -1"),
        ("sigma_v: 0.05", "sigma_v: .nan", "obstacles[2].sigma_v is [nan]"),
        ("r: 0.45", f"r: 1{'0' * 400}", "obstacles[0].r is ["),
        ("radius: 0.25", "radius: 0", "goal.radius is 0.0, expected metres above 0"),
        ("radius: 0.25", "radius: -1", "goal.radius is -1.0"),
        ("radius: 0.25", "radius: .inf", "goal.radius is [inf]"),
        ("bounds: [0.0, 0.0, 6.0, 3.0]", "bounds: [0.0, 3.0, 6.0, 0.0]", "xlo < xhi and ylo < yhi"),
        ("bounds: [0.0,", "bounds: [.nan,", "bounds is [nan"),
    ],
)
def test_faults_of_a_scene_are_named(old, new, words):
    assert old in SCENE
    Path("scene.yaml").write_text(SCENE.replace(old, new))
    with pytest.raises(DataError) as caught:
        load_scene("scene.yaml", load_vehicle(EXAMPLES / "my_vehicle.py").system)
    assert words in str(caught.value) and "scene=scene.yaml: " in str(caught.value)


def test_a_scene_without_obstacles():
    for text in (SCENE[: SCENE.index("obstacles:")], SCENE[: SCENE.index("  - {x: 2.2")]):
        Path("scene.yaml").write_text(text)
        assert load_scene("scene.yaml", load_vehicle(EXAMPLES / "my_vehicle.py").system)[0].obstacles == ()
