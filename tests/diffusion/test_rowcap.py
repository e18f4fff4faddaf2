"""The measured row cap against a network whose cost per row is known."""

import time

import torch

from safeplan.diffusion import Prediction, measured_row_cap


def test_the_cap_is_where_rows_stop_sharing_their_overhead():
    def net(x, a, s, cond, perturb=None):
        n = len(x)
        time.sleep(0.004 + 0.00005 * n + (0.0 if n <= 16 else 0.004 * n))  # beyond 16 rows the cache is too small
        return Prediction(x)

    x = torch.zeros(4, 3)
    assert measured_row_cap(net, x, {"label": torch.arange(4)}, largest=64, repeats=3) == 16
    assert measured_row_cap(net, x, largest=8) == 8
