"""Pictures of logs are drawn whatever the numbers are: a file with faults is what they are for."""

import numpy as np
import pytest

from safeplan.evaluation.log_plot import columns_figure

COLUMNS = {
    "one large number": np.full(50, 1234567890123456789),
    "stamps in nanoseconds": 1_700_000_000_000_000_000 + np.arange(50),
    "beyond float32": np.full(50, 1e39),
    "the largest floats": np.array([-1e308, 1e308, 0.0]),
    "the smallest": np.array([5e-324, 0.0]),
    "nothing finite": np.array([np.nan, np.inf]),
    "none": np.zeros(0),
    "text": np.array(["a", "b"]),
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_any_column_has_a_histogram(tmp_path, name):
    path = columns_figure({name: COLUMNS[name], "beside": np.arange(5.0)}, tmp_path / "a.png")
    assert path.read_bytes().startswith(b"\x89PNG") and len(list(tmp_path.iterdir())) == 1
