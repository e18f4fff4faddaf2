"""Every key in brackets that a docstring cites is in a list of papers, and no paper is listed in vain."""

import ast
import re
from pathlib import Path

import safeplan.guidance.papers as guidance
from safeplan.diffusion.guidance import Paper
from safeplan.papers import PAPERS

ROOT = Path(__file__).parents[1]
# not the shapes, which follow a name or a backtick
KEY = re.compile(r"(?<![`\w=])\[([a-z][a-z_0-9]{2,})(?:, [^\]]*\d[^\]]*)?\]")


def cited() -> dict[str, str]:
    """Key -> a file that cites it."""
    out = {}
    for folder in ("safeplan", "envs", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    out |= dict.fromkeys(KEY.findall(ast.get_docstring(node) or ""), str(path))
    return out


def test_every_cited_key_is_listed():
    methods = {p.key for p in vars(guidance).values() if isinstance(p, Paper)}
    found = cited()
    assert "edm" in found, "the search itself works"
    missing = {k: v for k, v in found.items() if k not in methods | set(PAPERS)}
    assert not missing, f"cited, not listed: {missing}"
    assert not methods & set(PAPERS), "one key, one paper"
    assert not set(PAPERS) - set(found), "listed in vain"
