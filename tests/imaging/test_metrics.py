"""Metrics against closed forms and independent formulas."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from safeplan.errors import DataError, ShapeError
from safeplan.imaging import metrics


def normal(n: int, f: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, f, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equal_sets_are_at_distance_0():
    f = normal(200, 12) @ normal(12, 12, 1)
    assert metrics.frechet(metrics.moments(f), metrics.moments(f.flip(0))) < 1e-9
    few = metrics.moments(normal(8, 12))  # singular covariance
    assert metrics.frechet(few, few) < 1e-6


def test_closed_form_of_two_normals():
    """Diagonal covariances: the square of the shift plus the squares of the differences of deviations."""
    sd_a, sd_b = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([1.5, 1.0, 0.0]).double()
    shift = torch.tensor([0.3, -1.0, 2.0]).double()
    a, b = (metrics.Moments(m, torch.diag(s**2), 9) for m, s in ((shift, sd_a), (0 * shift, sd_b)))
    want = float(shift.square().sum() + (sd_a - sd_b).square().sum())
    assert metrics.frechet(a, b) == pytest.approx(want, rel=1e-12)
    assert metrics.frechet(a, b) == pytest.approx(metrics.frechet(b, a), rel=1e-12)


def test_against_scipys_matrix_root():
    a, b = metrics.moments(normal(300, 10) @ normal(10, 10, 1)), metrics.moments(normal(250, 10, 2) + 0.4)
    root = np.trace(sqrtm(a.cov.numpy() @ b.cov.numpy()).real)
    want = float((a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace()) - 2 * root
    assert metrics.frechet(a, b) == pytest.approx(want, rel=1e-8)
    np.testing.assert_allclose(a.cov, np.cov((normal(300, 10) @ normal(10, 10, 1)).T), rtol=1e-10)


def test_moments_refuse_what_they_cannot_average():
    bad = normal(5, 3)
    bad[2, 1] = torch.nan
    with pytest.raises(DataError, match="1 of 5 rows"):
        metrics.moments(bad)
    with pytest.raises(ShapeError, match="N at least 2"):
        metrics.moments(normal(1, 3))
    with pytest.raises(ShapeError, match="one network"):
        metrics.frechet(metrics.moments(normal(5, 3)), metrics.moments(normal(5, 2)))


def test_precision_and_recall_of_known_sets():
    real = normal(300, 4)
    assert metrics.precision_recall(real, real.flip(0)) == (1.0, 1.0)
    assert metrics.precision_recall(real, real + 100) == (0.0, 0.0)
    inner = metrics.precision_recall(real, 0.1 * normal(300, 4, 1))  # sharp but not diverse
    assert inner.precision > 0.9 and inner.recall < 0.2
    wide = metrics.precision_recall(real, 4 * normal(300, 4, 1))
    assert wide.precision < 0.5


def test_precision_and_recall_by_hand_and_in_pieces():
    real, drawn = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [9.0]])
    # k = 1: balls of the real ones reach 1, 1, 2; those of the drawn ones 8.5 both
    assert metrics.precision_recall(real, drawn, k=1) == (0.5, 1.0)
    a, b = normal(100, 3), normal(80, 3, 1) + 0.5
    assert metrics.precision_recall(a, b, batch=7) == metrics.precision_recall(a, b)
    with pytest.raises(ShapeError, match="above k=3"):
        metrics.precision_recall(a, b[:3])


def test_accuracy_saturation_and_clipping():
    assert metrics.accuracy(torch.eye(4), torch.tensor([0, 1, 2, 0])) == 0.75
    with pytest.raises(ShapeError, match="accuracy"):
        metrics.accuracy(torch.eye(4), torch.zeros(3))
    grey, red = torch.full((1, 3, 2, 2), 90, dtype=torch.uint8), torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    red[:, 0] = 200
    assert metrics.saturation(grey) == 0 and metrics.saturation(red) == 1
    assert metrics.saturation(torch.cat([grey, red])) == 0.5
    assert metrics.saturation(torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ShapeError, match="grey has none"):
        metrics.saturation(grey[:, :1])
    assert metrics.clipped(torch.tensor([0.0, 1.0, -1.5, 1.5])) == 0.5
    with pytest.raises(DataError, match="clipped: 1 of 2 images are not finite"):
        metrics.clipped(torch.tensor([[0.0], [float("nan")]]))


def test_inception_is_asked_for_by_name(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        metrics.inception_features(tmp_path / "inception.pt", torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


class Means(torch.nn.Module):
    """Stands for Inception: mean of each channel, and the size that it was given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean((2, 3)), torch.full((x.shape[0], 1), float(x.shape[3]))], 1)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_inception_gets_colour_in_range_and_at_its_size(tmp_path):
    path = tmp_path / "net.pt"
    torch.jit.save(torch.jit.script(Means()), path)
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 8, 8)
    features = metrics.inception_features(path, images, batch=2)
    want = torch.tensor([[-1.0], [1.0], [-0.6]]).expand(3, 3)
    torch.testing.assert_close(features, torch.cat([want, torch.full((3, 1), 299.0)], 1))
    path.write_bytes(b"no script")
    with pytest.raises(DataError, match=r"net\.pt: no TorchScript"):
        metrics.inception_features(path, images)
