"""The help of a command, made from what it reads: its docstring, the option files, the settings and their comments."""

import ast
import dataclasses
import inspect
import textwrap
from importlib import resources
from typing import Any

from safeplan.schema import one_of

GROUPS = ("env", "planner", "policy", "data", "model", "system", "guidance")
FLAGS = """\
Hydra flags:
  --cfg job          print the settings instead of running
  -m, --multirun     sweep: seed=0,1,2 or seed='range(0,10)'
  --config-dir DIR   your own option files, such as DIR/env/mine.yaml
  --hydra-help       all of Hydra's flags"""


def comments(cls: type) -> dict[str, str]:
    """Field -> comment behind it or on the line above, for every field of a dataclass, bases first."""
    out: dict[str, str] = {}
    for base in reversed(inspect.getmro(cls)):
        if not dataclasses.is_dataclass(base):
            continue
        origin = getattr(base, "origin", base)
        try:
            source = textwrap.dedent(inspect.getsource(origin))
        except (OSError, TypeError):
            continue
        lines = source.splitlines()
        for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                behind = lines[node.end_lineno - 1][node.end_col_offset :].strip()  # type: ignore[operator]
                above = lines[node.lineno - 2].strip()
                text = behind if behind.startswith("#") else above if above.startswith("#") else ""
                out[node.target.id] = text.lstrip("# ")
    return out


def options(group: str) -> list[str]:
    """Names of the option files of a group."""
    folder = resources.files("safeplan.configs") / group
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))


def schema_of(group: str, option: str) -> str:
    """The name of the settings that an option file fills. Raises ConfigError for an option that is not there."""
    import yaml

    one_of(group, option, options(group))
    file = resources.files("safeplan.configs") / group / f"{option}.yaml"
    return yaml.safe_load(file.read_text())["defaults"][0]["/schema@_here_"]


def chosen(command: str) -> list[str]:
    """Groups from which a command takes a file."""
    import yaml

    file = resources.files("safeplan.configs") / f"{command.replace(' ', '_')}.yaml"
    entries = yaml.safe_load(file.read_text())["defaults"]
    keys = {key for entry in entries if isinstance(entry, dict) for key in entry}
    return [g for g in GROUPS if g in keys]


def text(command: str, doc: str, cls: type, nested: dict[str, type]) -> str:
    """Help of `safeplan <command>`; `nested` gives the classes of settings whose type the schema leaves open."""
    parts = [doc.strip(), "Settings (give them as key=value):"]
    parts.append("\n".join(_lines(cls, nested, "")))
    groups = [f"  {g}={'|'.join(options(g))}" for g in chosen(command)]
    if groups:
        parts.append("\n".join(["Groups (settings that belong together, by name):", *groups]))
    return "\n\n".join([*parts, FLAGS])


def _lines(cls: type, nested: dict[str, type], prefix: str) -> list[str]:
    notes, out = comments(cls), []
    for f in dataclasses.fields(cls):
        name, inner = f"{prefix}{f.name}", nested.get(f"{prefix}{f.name}") or _dataclass(f.type)
        note = notes.get(f.name, "")
        if inner is not None:
            out += _lines(inner, nested, f"{name}.")
            continue
        value = f.default
        if f.default_factory is not dataclasses.MISSING:
            value = f.default_factory()
        left = f"  {name}={_show(value)}"
        out.append(f"{left:<42} {note}".rstrip())
    return out


def _dataclass(kind: Any) -> type | None:
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def _show(value: Any) -> str:
    if value is dataclasses.MISSING or value == "???":
        return "..."
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "[" + ",".join(map(str, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
