"""Write the tables of README.md from results/*.json, between their markers. `--check` only says whether they are true.

A marker is `<!-- table: NAME -->` ... `<!-- end -->`; NAME.json lies in results/. No file: the table says so.
"""

import json
import re
import sys
from pathlib import Path

from safeplan.evaluation.report import markdown

ROOT = Path(__file__).resolve().parents[1]
MARKER = re.compile(r"(<!-- table: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def number(value: object) -> str:
    """A cell: floats to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def generic(data: dict) -> str:
    """A result with a list `rows` of equal keys, an optional `note`."""
    rows = data["rows"]
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([number(r[k]) for k in head] for r in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return table + (f"\n\n{data['note']}" if data.get("note") else "")


def table(name: str, results: Path) -> str:
    """Markdown of results/NAME.json."""
    path = results / f"{name}.json"
    if not path.is_file():
        return f"*not run yet* (no results/{name}.json)"
    data = json.loads(path.read_text())
    return markdown(data) if "planners" in data else generic(data)


def fill(text: str, results: Path) -> str:
    """README text with every table written anew."""
    return MARKER.sub(lambda m: f"{m[1]}{table(m['name'], results)}\n{m[3]}", text)


def main(argv: list[str], readme: Path = ROOT / "README.md", results: Path = ROOT / "results") -> int:
    """Write, or with --check compare; the exit status."""
    text = readme.read_text()
    new = fill(text, results)
    if "--check" in argv:
        if new != text:
            print("README.md: its tables differ from results/*.json. Run: python scripts/make_readme_tables.py")
            return 1
        return 0
    readme.write_text(new)
    print(f"results: {readme}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
