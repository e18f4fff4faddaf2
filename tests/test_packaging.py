"""The wheel holds the tree and nothing else, and works from anywhere."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("safeplan", "envs", "configs", "pyproject.toml", "README.md", "LICENSE")
DATA = {".py", ".yaml", ".json", ".safetensors", ".typed", ".md"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy, so that nothing is left behind in the tree."""
    work = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, work / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, work / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "out", "."]
    subprocess.run(command, cwd=work, check=True, capture_output=True)
    (found,) = (work / "out").glob("*.whl")
    return found


def expected() -> set[str]:
    """What the tree says the wheel must hold."""
    roots = {"safeplan": ROOT / "safeplan", "safeplan/configs": ROOT / "configs"}
    roots["safeplan_envs"] = ROOT / "envs" / "safeplan_envs"
    return {
        f"{name}/{path.relative_to(root).as_posix()}"
        for name, root in roots.items()
        for path in root.rglob("*")
        if path.is_file() and path.suffix in DATA and "__pycache__" not in path.parts
    }


def test_wheel_holds_the_tree_and_no_stray_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    held = {n for n in names if ".dist-info/" not in n}
    assert held == expected()
    assert {n.split("/")[0] for n in held} == {"safeplan", "safeplan_envs"}
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_wheel_runs_from_another_directory(wheel, tmp_path):
    home, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    # dependencies are those of this environment; a .pth line does not process its .pth files, so not its safeplan
    (site,) = (home / "lib").glob("python*/site-packages")
    (site / "deps.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{sysconfig.get_paths()['platlib']}\n")
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("COV")}

    def call(*args: str) -> str:
        done = subprocess.run(args, cwd=elsewhere, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "import safeplan, safeplan_envs, safeplan.configs as c; print(safeplan.__file__, c.__file__)"
    assert call(str(python), "-c", code).count(str(site)) == 2
    for name in ("envs", "configs", "scripts", "tests"):
        here = importlib.util.find_spec(name)
        if here is not None and str(ROOT) not in str(here):
            continue  # some dependency drops such a package; the test above shows that the wheel does not
        call(str(python), "-c", f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is not None)")
    safeplan = str(home / "bin" / "safeplan")
    assert str(site) in call(safeplan, "info")
    said = call(safeplan, "plan", "env=point_robot", "env.max_seconds=1", "animate=false", "weights=none")
    assert "results: " in said and list(elsewhere.rglob("plan.json"))
