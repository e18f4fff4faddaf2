"""Imports run down the floors of the contracts in pyproject.toml; importing safeplan costs little."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def lint(cwd: Path, config: Path) -> subprocess.CompletedProcess:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--config", str(config), "--no-cache"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_the_floors_hold():
    done = lint(ROOT, ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


def test_the_contract_sees_a_breach(tmp_path):
    """The same layers on a toy tree in which `dynamics` imports `planning`."""
    import tomllib

    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    package = tmp_path / "toy"
    for layer in contract["layers"]:
        for name in layer.replace(" ", "").replace("|", ":").split(":"):
            if not name.startswith("("):
                (package / name).mkdir(parents=True)
                (package / name / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    layers = "".join(f"    {layer}\n" for layer in contract["layers"])
    config = tmp_path / ".importlinter"
    text = "[importlinter]\nroot_package = toy\n[importlinter:contract:1]\nname = x\ntype = layers\ncontainers = toy\n"
    config.write_text(f"{text}layers =\n{layers}")
    assert lint(tmp_path, config).returncode == 0
    (package / "dynamics" / "__init__.py").write_text("import toy.planning\n")
    assert lint(tmp_path, config).returncode == 1
    (package / "dynamics" / "__init__.py").write_text("import toy.nets\n")  # a sibling
    assert lint(tmp_path, config).returncode == 1


def test_importing_safeplan_loads_nothing_heavy():
    heavy = ("torch", "casadi", "matplotlib", "scipy", "hydra", "gymnasium", "h5py")
    code = f"import sys, safeplan, safeplan.schema, safeplan.build; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_public_names_exist():
    import safeplan

    for name in safeplan.__all__:
        assert getattr(safeplan, name) is not None
    assert set(safeplan.__all__) <= set(dir(safeplan))
    try:
        safeplan.Plannr  # noqa: B018
    except AttributeError as e:
        assert "public names" in str(e)
    else:
        raise AssertionError("an unknown name must raise")
