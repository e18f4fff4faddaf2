"""CSV files: numbers, flags and text are told apart; bad cells are named with their lines."""

import numpy as np
import pytest

from safeplan.data.tables import read_table
from safeplan.errors import DataError


def read(tmp_path, text: str):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    return read_table(path)


def test_numbers_flags_text_quotes_and_byte_order_mark(tmp_path):
    columns, text = read(tmp_path, '\ufeffa, b,c,"d"\r\n1,True,red,"2"\r\n\r\n-1e-3,False,"blue, or so","3"\r\n')
    assert {k: v.tolist() for k, v in columns.items()} == {"a": [1.0, -0.001], "b": [1.0, 0.0], "d": [2.0, 3.0]}
    assert text == ["c"]


def test_floats_come_back_bit_for_bit(tmp_path):
    values = np.random.default_rng(0).normal(size=200).astype(np.float32)
    columns, _ = read(tmp_path, "x\n" + "\n".join(str(float(v)) for v in values))
    assert columns["x"].astype(np.float32).tobytes() == values.tobytes()


def test_a_header_alone_has_no_rows(tmp_path):
    columns, _ = read(tmp_path, "a,b\n")
    assert {k: len(v) for k, v in columns.items()} == {"a": 0, "b": 0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2\n3,4\n", ("first line must name the columns", "1,2")),
        ("", ("first line must name the columns",)),
        ("a,b,a\n1,2,3\n", ("'a' is named twice", "its own name")),
        ("a,b\n1,2\n3,\n4,\n", ("'b' holds no number in 2 lines, first in line 3 (an empty cell)", "fill or drop it")),
        (
            "a,b\n1,2\nx,3\n4,y\n",
            ("2 fault(s)", "'a' holds no number in 1 lines, first in line 3 ('x')", "('y')"),
        ),
        ("a,b\n1,2\n3,4,5\n", ("line 3 has 3 cells, the header 2",)),
        ("a,b\n1,2\n3\n", ("line 3 has 1 cells, the header 2",)),
        ("episode,b\n1,2\n2,\n3,4\n", ("line 3: episode 2 has no step, its length is zero", "Leave the line out")),
        ("a,b\n1,True\n2,maybe\n", ("'b' holds no number in 1 lines, first in line 3 ('maybe')",)),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, words):
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    assert all(w in str(caught.value) for w in words), str(caught.value)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,2\n\xff\xfe,3\n")
    with pytest.raises(DataError, match="line 3"):
        read_table(path)


def test_flags_in_two_ways_of_writing(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,done\n1,0\n2,FALSE\n3,TRUE\n")
    assert read_table(path)[0]["done"].tolist() == [0.0, 0.0, 1.0]


def test_a_quoted_name_may_hold_a_line_break(tmp_path):
    columns, _ = read(tmp_path, '"speed\n(m/s)",b\n1,2\n3,4\n')
    assert {k: v.tolist() for k, v in columns.items()} == {"speed (m/s)": [1.0, 3.0], "b": [2.0, 4.0]}
