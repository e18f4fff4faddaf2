"""The console script, in process: help, info, plan, verify, train, evaluate; last lines, exit codes, own vehicles."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from safeplan import __version__
from safeplan.cli.app import quote, value_of
from safeplan.cli.main import COMMANDS, PARTS, main

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "scripts" / "examples"
LEAVES = [c for c in COMMANDS if c not in PARTS] + [f"{c} {part}" for c, parts in PARTS.items() for part in parts]
SHORT = ("env.max_seconds=1.5", "weights=none", "planner.clock=cpu")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def last_line(capsys) -> str:
    return capsys.readouterr().out.strip().splitlines()[-1]


def refused(capsys, *argv: str) -> str:
    """The one error line that `argv` ends in."""
    with pytest.raises(SystemExit) as caught:
        main(argv)
    err = capsys.readouterr().err.strip()
    assert caught.value.code == 2 and len(err.splitlines()) == 1, err
    return err


# ---------------------------------------------------------------- help and info
def test_usage_and_version(capsys):
    main([])
    text = capsys.readouterr().out
    assert all(c in text for c in COMMANDS) and "safeplan plan env=hovercraft" in text
    main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("command", LEAVES)
def test_help_has_examples_settings_and_comments(capsys, command):
    main([*command.split(), "--help"])
    text = capsys.readouterr().out
    assert f"  safeplan {command}" in text and "--cfg job" in text
    settings = [x for x in text.splitlines() if re.match(r"  [a-z_.0-9]+=\S+ {2,}\S", x)]
    assert settings
    if command in ("plan", "evaluate"):
        assert any("planner.gamma=0.01" in x and "bound on the collision probability" in x for x in settings)
        assert "env=driving|hovercraft|point_robot" in text


@pytest.mark.parametrize("command", LEAVES)
def test_examples_in_the_help_compose(capsys, command):
    """What the help shows must be accepted; `--cfg job` composes without running."""
    import shlex

    main([*command.split(), "--help"])
    text = capsys.readouterr().out
    found = [shlex.split(x.split("      (")[0])[1:] for x in text.splitlines() if x.startswith("  safeplan ")]
    for argv in found:
        main([*(a for a in argv if a != "-m" and not a.startswith("seed=range")), "--cfg", "job"])
        assert "device" in capsys.readouterr().out or command in (
            "verify",
            "data check",
            "data import",
            "data estimate",
        )


def test_info_prints_versions_and_writes_nothing(capsys, elsewhere):
    main(["info"])
    out = capsys.readouterr().out
    assert __version__ in out and "torch" in out and "casadi" in out and "weights hovercraft" in out
    assert out.strip().endswith("nothing was written") and not list(elsewhere.iterdir())


def test_misspelt_command_and_setting(capsys):
    assert "Did you mean 'plan'" in refused(capsys, "paln")
    assert "Did you mean 'horizon'" in refused(capsys, "plan", "planner.horizn=3")
    assert "Did you mean 'hovercraft'" in refused(capsys, "plan", "env=hoovercraft")
    assert "unknown setting 'x'" in refused(capsys, "info", "+x=1")


def test_console_script_and_shim_exit_with_2(elsewhere):
    """The installed entry point in a process of its own: no traceback."""
    script = str(Path(sys.executable).parent / "safeplan")
    for command in ([script, "info"], [sys.executable, str(ROOT / "scripts" / "info.py")]):
        done = subprocess.run([*command, "devise=cpu"], capture_output=True, text=True, env={**os.environ})
        assert done.returncode == 2 and "Did you mean 'device'" in done.stderr and "Traceback" not in done.stderr


def test_quote_survives_hydras_grammar():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for path in ("plain.json", "a b/c=d.json", "it's [odd], {really}\\.json"):
        (override,) = OverridesParser.create().parse_overrides([f"plan={quote(path)}"])
        assert override.value() == path
    assert value_of(["a=1", "a='x y'"], "a") == "x y" and value_of([], "a") is None


# ---------------------------------------------------------------- plan, verify
def test_plan_writes_evidence_that_verify_confirms(capsys, elsewhere):
    main(["plan", "env=hovercraft", "seed=0", *SHORT])
    out = capsys.readouterr().out
    assert "certified at most" in out and "Planning time: p50" in out and "worst clearance" in out
    folder = elsewhere / "runs" / "plan_hovercraft" / "seed_0"
    assert out.strip().splitlines()[-1].startswith(f"results: {folder.relative_to(elsewhere)}/")
    assert (folder / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "plan.gif").read_bytes().startswith(b"GIF8")
    assert (folder / ".hydra" / "config.yaml").is_file()  # what it was run with
    data = json.loads((folder / "plan.json").read_text())
    assert data["seed"] == 0 and data["plans"][-1]["certificate"]["n"] > 0
    main(["verify", str(folder / "plan.json"), "fresh=500"])
    out = capsys.readouterr().out
    assert re.search(r"(\d+) of \1 certificates come out again", out)
    assert out.strip().splitlines()[-1].startswith("verified")
    # tampering is found
    data["plans"][0]["scene"]["obstacles"][0]["r"] += 0.1
    (elsewhere / "changed.json").write_text(json.dumps(data))
    assert "do not hold" in refused(capsys, "verify", "changed.json", "fresh=500")


DAMAGED = {
    "numbers": ({"plans": [1, 2]}, "plans[0] is 1"),
    "word": ({"system": "x"}, "system is 'x'"),
    "driving": ({"system": {"env": "driving"}}, "plans[0]: it has 9 states, system 'bicycle' has 4"),
    "list": ({"system": {"env": ["driving"]}}, "its system is {'env': ['driving']}"),
    "nothing": ({"system": {}}, "its system is {}"),
    "gone": ({"system": {"file": "/nowhere.py", "sha256": "0"}}, "/nowhere.py, the vehicle"),
    "number": ({"system": {"file": 3}}, "its system is {'file': 3}"),
    "planner": ({"planner": {"gamma": 2, "delta": 0.05}}, "planner: gamma is 2"),
}


def test_verify_refuses_damaged_files_in_one_line(capsys, elsewhere):
    main(["plan", "env=hovercraft", "animate=false", "env.max_seconds=0.3", "weights=none", "planner.clock=cpu"])
    capsys.readouterr()
    data = json.loads((elsewhere / "runs" / "plan_hovercraft" / "seed_0" / "plan.json").read_text())
    for how, (change, words) in DAMAGED.items():
        (elsewhere / f"{how}.json").write_text(json.dumps({**data, **change}))
        assert words in refused(capsys, "verify", f"{how}.json")
    data["plans"][0].pop("gains")
    (elsewhere / "gains.json").write_text(json.dumps(data))
    assert "gains.json: plans[0]: gains is missing" in refused(capsys, "verify", "gains.json")
    assert "a folder; give the plan.json in it" in refused(capsys, "verify", str(elsewhere))


def test_verify_says_how_sure_the_worst_bound_is(capsys, elsewhere):
    """A certificate of another confidence than was asked for is a fault, whatever else is forged to fit it."""
    from safeplan.planning.evidence import _hash
    from safeplan.reach import clopper_pearson

    main(["plan", "env=hovercraft", "animate=false", "env.max_seconds=0.3", "weights=none", "planner.clock=cpu"])
    path = elsewhere / "runs" / "plan_hovercraft" / "seed_0" / "plan.json"
    capsys.readouterr()
    main(["verify", str(path), "fresh=100"])
    assert re.search(r"Worst bound of a certified plan: 0\.\d\d% with 9\d\.\d\d% confidence", capsys.readouterr().out)
    data = json.loads(path.read_text())
    record = data["plans"][0]
    c = record["certificate"]
    c["delta"] = 0.9
    c["upper"] = clopper_pearson(c["k"], c["n"], c["delta"])[1]
    record["hash"] = _hash(record)
    path.write_text(json.dumps(data))
    with pytest.raises(SystemExit):
        main(["verify", str(path), "fresh=100"])
    assert "its confidence is 10.0000%, the settings ask for 97.5" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["hydra.run.dir=taken/x", "hydra.run.dir=/proc/x"])
def test_a_run_folder_that_cannot_be_made(capsys, elsewhere, where):
    if "/proc/" in where and not Path("/proc").is_dir():
        pytest.skip("no /proc here")
    (elsewhere / "taken").write_text("a file")
    err = refused(capsys, "plan", "env=point_robot", "weights=none", where)
    assert where.partition("=")[2] in err and "hydra.run.dir=FOLDER" in err


def test_sweep_gives_every_seed_its_folder(elsewhere):
    main(["plan", "env=point_robot", "-m", "seed=0,1", "animate=false", "env.max_seconds=0.3", "weights=none"])
    assert len(list((elsewhere / "runs" / "plan_point_robot").rglob("plan.json"))) == 2


def test_own_vehicle_in_own_scene(capsys, elsewhere):
    own = [f"system.file={EXAMPLES / 'my_vehicle.py'}", f"scene={EXAMPLES / 'scene.yaml'}"]
    main(["plan", *own, "planner.clock=cpu", "animate=false"])
    out = capsys.readouterr().out
    assert "running your code" in out and "Goal reached" in out and "without collision" in out
    path = elsewhere / "runs" / "plan_my_vehicle" / "seed_0" / "plan.json"
    main(["verify", str(path), "fresh=200"])
    assert "verified" in last_line(capsys)


def test_own_scene_for_a_shipped_vehicle(capsys, elsewhere):
    text = (EXAMPLES / "scene.yaml").read_text().replace("start: [0.5, 1.5, 0.0, 0.0]", "start: [0.5, 1.5, 0.5, 0.0]")
    (elsewhere / "scene.yaml").write_text(text)
    main(["plan", "env=point_robot", "scene=scene.yaml", "animate=false", "name=mine", *SHORT])
    data = json.loads((elsewhere / "runs" / "mine" / "seed_0" / "plan.json").read_text())
    assert data["plans"][0]["scene"]["goal"]["x"] == 5.5


# ---------------------------------------------------------------- train, evaluate
def test_train_runs_and_the_same_command_ends_at_once(capsys, elsewhere, tiny_log):
    argv = ["train", "policy=fisor", "data=file", f"data.path={tiny_log}", "name=t"]
    argv += ["updates=4", "checkpoint_every=2", "log_every=2"]
    argv += ["policy.batch=16", "policy.critic_rows=8", "policy.hidden=8", "policy.actor_width=8"]
    main(argv)
    assert last_line(capsys).startswith("results: runs/t/seed_0/")
    weights = elsewhere / "runs/t/seed_0/checkpoints/000000004/model.safetensors"
    before = weights.stat().st_mtime_ns
    main(argv)
    assert weights.stat().st_mtime_ns == before
    capsys.readouterr()
    main([*argv, "updates=3"])
    last = last_line(capsys)
    assert last.startswith("results: ") and "nothing was trained: this run is at 4 updates already, updates=3" in last
    assert "other settings" in refused_lines(capsys, *argv, "policy.lr=1.0")


def refused_lines(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def tiny_log(tmp_path):
    import numpy as np

    from safeplan.data import Log, write_log

    n, rng = 64, np.random.default_rng(0)
    x = rng.normal(size=(n + 1, 3)).astype(np.float32)
    end = np.arange(n) % 16 == 15
    log = Log(
        observations=x[:-1],
        next_observations=x[1:],
        actions=rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        rewards=rng.normal(size=n).astype(np.float32),
        costs=(rng.random(n) < 0.2).astype(np.float32),
        terminals=np.zeros(n, bool),
        timeouts=end,
    )
    return write_log(tmp_path / "tiny.hdf5", log)


def test_evaluate_resumes_and_writes_the_table(capsys, elsewhere):
    base = ["evaluate", "env=point_robot", "planners=[safeplan,mpc]", "env.max_seconds=0.6", "weights=none", "name=e"]
    main([*base, "episodes=1", "planner.clock=cpu"])
    folder = elsewhere / "runs" / "e" / "seed_0"
    first = (folder / "study.jsonl").read_text()
    main([*base, "episodes=2", "planner.clock=cpu", "summary=results/e.json", "tuned.mpc.margin=0.01"][:-1])
    assert (folder / "study.jsonl").read_text().startswith(first)
    assert last_line(capsys).startswith("results: runs/e/seed_0/")
    summary = json.loads((elsewhere / "results" / "e.json").read_text())
    assert [p["episodes"] for p in summary["planners"]] == [2, 2]
    assert (folder / "table.md").read_text().startswith("| planner |")
    err = refused(capsys, *base, "episodes=2", "planner.clock=cpu", "tuned.mpc.margin=0.05")
    assert "other settings: tuned" in err
    assert "Did you mean 'margin'" in refused(capsys, *base, "name=f", "tuned.mpc.margn=0.05")
    err = refused(capsys, *base, "planners=[mpc,mpc]")
    assert "mpc is named more than once" in err
    assert "Name at least one of: safeplan, mpc" in refused(capsys, *base, "planners=[]")
