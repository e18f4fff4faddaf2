"""Columns of a CSV or TSV file with a header."""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from safeplan.data.layout import Array
from safeplan.data.order import NUMBERED
from safeplan.errors import DataError

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
BREAK = re.compile(r"\s*[\r\n]+\s*")
TRUTH = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


def read_table(path: Path) -> tuple[dict[str, Array], list[str]]:
    """Columns `[N]` in float64 by the header's names, and the names of columns of text, which are left out.

    `True`, `False`, `yes` and `no` are numbers; a column without a name, such as a row count, is left out. Separators:
    comma, semicolon, tab, whichever the header holds most of.

    Raises:
        DataError: not UTF-8, no header, a name twice, or cells that are no numbers; all such columns are named at once.
        csv.Error: a cell of more than 131,072 characters.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as e:
                byte = e.object[e.start]
                raise DataError(f"table {path}: not UTF-8, byte {byte:#04x} in line {number}. Save it as UTF-8") from e
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        header = file.readline().rstrip("\r\n")
        separator = max(",;\t", key=header.count)
        file.seek(0)
        reader = csv.reader(file, delimiter=separator)
        names = [BREAK.sub(" ", n).strip() for n in next(reader, [])]  # a quoted name may hold a line break
        lines = reader.line_num
        cells = next((row for row in reader if len(row) > 1 or "".join(row).strip()), [])
    unnamed = [f"(column {i})" for i, n in enumerate(names, 1) if not n]
    names = [n or f"(column {i})" for i, n in enumerate(names, 1)]
    if not header.strip() or all(_is_number(n) for n in names):
        raise DataError(f"table {path}: the first line must name the columns, found {header[:60]!r}")
    double = sorted({n for n in names if names.count(n) > 1})
    if double:
        raise DataError(f"table {path}: column {double[0]!r} is named twice. Give every column its own name")
    text = [n for n, cell in zip(names, cells, strict=False) if cell.strip() and _truth(cell) is None]
    text = _without_numbers(path, names, separator, text) if text else text
    text += [n for n in unnamed if n not in text]
    if not cells:
        return {n: np.zeros(0) for n in names}, []
    converters: dict[int | str, Callable[[str], float]] = {names.index(n): lambda _: 0.0 for n in text}
    for i, (name, cell) in enumerate(zip(names, cells, strict=False)):
        if name not in text and cell.strip().lower() in TRUTH:
            converters[i] = _converted
    try:
        options: dict = {"delimiter": separator, "skiprows": lines, "comments": None, "quotechar": '"', "ndmin": 2}
        table = np.loadtxt(path, converters=converters or None, encoding="utf-8-sig", **options)
    except ValueError as e:
        found = list(_bad_cells(path, names, separator, text))
        if found:
            raise DataError(f"table {path}: {len(found)} fault(s):\n" + "\n".join(f"  - {f}" for f in found)) from e
        every: dict[int | str, Callable[[str], float]] = {
            i: (lambda _: 0.0) if n in text else _converted for i, n in enumerate(names)
        }
        try:  # a column may begin with 0 and go on with False
            table = np.loadtxt(path, converters=every, encoding="utf-8-sig", **options)
        except ValueError as again:
            raise DataError(f"table {path}: cannot be read ({again}). Write it anew as CSV") from again
    return {n: np.ascontiguousarray(table[:, i]) for i, n in enumerate(names) if n not in text}, text


def _without_numbers(path: Path, names: list[str], separator: str, text: list[str]) -> list[str]:
    """Of the columns that begin with text, those of whose filled cells at most half are numbers: labels, hashes ..."""
    at, numbers, filled = [names.index(n) for n in text], np.zeros(len(text)), np.zeros(len(text))
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=separator)
        next(reader)
        for row in reader:
            for k, i in enumerate(at):
                cell = row[i].strip() if i < len(row) else ""
                filled[k] += bool(cell)
                numbers[k] += NUMBER.fullmatch(cell) is not None
    return [n for n, few in zip(text, numbers <= filled / 2, strict=True) if few]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _truth(cell: str) -> float | None:
    """A cell as a number; None where it is none."""
    cell = cell.strip()
    return float(cell) if _is_number(cell) else TRUTH.get(cell.lower())


def _converted(cell: str) -> float:
    value = _truth(cell)
    if value is None:
        raise ValueError(f"{cell!r} is no number")
    return value


def _bad_cells(path: Path, names: list[str], separator: str, text: list[str]) -> Iterator[str]:
    """What is wrong with which lines, one sentence for each column. Slow: only asked when reading has failed."""
    bad: dict[str, list[tuple[int, str]]] = {}
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.reader(file, delimiter=separator)
        next(reader)
        for row in reader:
            filled = [n for n, cell in zip(names, row, strict=False) if cell.strip()]
            if not row:
                continue
            if len(row) != len(names):
                yield f"line {reader.line_num} has {len(row)} cells, the header {len(names)}: correct it"
                return
            if filled and set(filled) <= set(NUMBERED):
                number = row[names.index(filled[0])]
                yield f"line {reader.line_num}: episode {number} has no step, its length is zero. Leave the line out"
                return
            for name, cell in zip(names, row, strict=True):
                if name not in text and _truth(cell) is None:
                    bad.setdefault(name, []).append((reader.line_num, cell))
    for name, cells in bad.items():
        line, cell = cells[0]
        what = f"{cell!r}" if cell.strip() else "an empty cell"
        yield f"column {name!r} holds no number in {len(cells)} lines, first in line {line} ({what}): fill or drop it"
