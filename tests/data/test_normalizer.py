"""Normalisation is invertible, the same for arrays and tensors, and knows its support."""

import numpy as np
import pytest
import torch

from safeplan.data import Normalizer
from safeplan.errors import DataError, ShapeError

X = np.random.default_rng(0).normal([1.0, -5.0, 3.0], [2.0, 0.1, 0.0], (500, 3)).astype(np.float32)


def test_encode_decode():
    nz = Normalizer.fit(X)
    z = nz.encode(X)
    np.testing.assert_allclose(z[:, :2].std(0), 1.0, rtol=1e-4)
    np.testing.assert_allclose(z.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(nz.decode(z), X, atol=1e-5)
    np.testing.assert_array_equal(nz.encode(torch.from_numpy(X)).numpy(), z)
    assert nz.encode(torch.from_numpy(X).double()).dtype == torch.float64
    assert nz.std[2] == 1.0  # a constant column keeps its unit


def test_support():
    nz = Normalizer.fit(X)
    assert nz.supports(X).all()
    far = X[:4].copy()
    far[2, 1] = 0.0
    assert nz.supports(far).tolist() == [True, True, False, True]
    assert Normalizer.identity(3).supports(1e6 * X).all()


def test_dict_round_trip():
    nz = Normalizer.fit(X)
    back = Normalizer.from_dict(nz.to_dict())
    np.testing.assert_array_equal(back.encode(X), nz.encode(X))


def test_refusals():
    with pytest.raises(ShapeError, match="expected 3"):
        Normalizer.fit(X).encode(X[:, :2])
    with pytest.raises(DataError, match="NaN"):
        Normalizer.fit(np.array([[np.nan]]))
    with pytest.raises(ShapeError, match=r"\[N, D\]"):
        Normalizer.fit(X[:0])
    with pytest.raises(DataError, match="above 0"):
        Normalizer(np.zeros(2), np.array([1.0, 0.0]), np.zeros(2), np.ones(2))
    with pytest.raises(ShapeError, match="one"):
        Normalizer(np.zeros(2), np.ones(3), np.zeros(2), np.ones(2))
