"""How good drawn images are: Frechet distance, precision and recall, accuracy, saturation. In float64 on the CPU."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from safeplan.errors import DataError, ShapeError
from safeplan.imaging.datasets import check_finite, to_bytes

INCEPTION_SIZE = 299


class Moments(NamedTuple):
    """Mean `[F]` and covariance `[F, F]` of features, and how many there were."""

    mean: Tensor
    cov: Tensor
    n: int


def moments(features: Tensor) -> Moments:
    """Of features `[N, F]`, N >= 2; the covariance is the unbiased one.

    Raises:
        ShapeError: not a matrix of at least two rows. DataError: a value is not finite.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ShapeError(f"moments: features are {tuple(features.shape)}, expected [N, F] with N at least 2")
    f = features.detach().cpu().double()
    if not torch.isfinite(f).all():
        raise DataError(f"moments: {int((~torch.isfinite(f)).any(1).sum())} of {len(f)} rows are not finite; drop them")
    mean = f.mean(0)
    return Moments(mean, (f - mean).T @ (f - mean) / (len(f) - 1), len(f))


def frechet(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)); Heusel et al. 2017 [fid], eq. 6.

    The trace of the root is the sum of singular values of C_b^(1/2) C_a^(1/2), so that symmetric eigenproblems suffice.
    Biased upwards in small samples, so compare at equal n (2,000 or more).

    Raises:
        ShapeError: features of different size.
    """
    if a.mean.shape != b.mean.shape:
        raise ShapeError(f"frechet: features of {len(a.mean)} and {len(b.mean)} entries; use one network for both")
    root = float(torch.linalg.svdvals(_root(b.cov) @ _root(a.cov)).sum())
    gap = float((a.mean - b.mean).square().sum())
    return max(gap + float(a.cov.trace() + b.cov.trace()) - 2 * root, 0.0)


class PrecisionRecall(NamedTuple):
    """Share of samples among the real, and share of the real among the samples."""

    precision: float
    recall: float


def precision_recall(real: Tensor, drawn: Tensor, k: int = 3, batch: int = 1024) -> PrecisionRecall:
    """Kynkaanniemi et al. 2019 [precision_recall], eq. 1: a point is covered when it lies in the ball around some
    point of the other set that reaches to that point's k-th neighbour. Features `[N, F]`, `[M, F]`; memory N x batch.

    Raises:
        ShapeError: too few rows, or features of different size.
    """
    if real.ndim != 2 or drawn.ndim != 2 or real.shape[1] != drawn.shape[1] or min(len(real), len(drawn)) <= k:
        shapes = f"{tuple(real.shape)} and {tuple(drawn.shape)}"
        raise ShapeError(f"precision_recall: features are {shapes}, expected [N, F] and [M, F], N and M above k={k}")
    real, drawn = real.cpu().double(), drawn.cpu().double()
    reach_r, reach_d = _reach(real, k, batch), _reach(drawn, k, batch)
    return PrecisionRecall(_covered(drawn, real, reach_r, batch), _covered(real, drawn, reach_d, batch))


def accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """Share of rows `[N, K]` whose largest entry is that of the label `[N]`."""
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ShapeError(f"accuracy: {tuple(probabilities.shape)} probabilities and {tuple(labels.shape)} labels")
    return float((probabilities.argmax(1).cpu() == labels.cpu()).double().mean())


def saturation(images: Tensor) -> float:
    """Mean HSV saturation of colour images `[N, 3, H, W]` in [-1, 1] or uint8; what large CFG scales drive up.

    Raises:
        ShapeError: no colour.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ShapeError(f"saturation: images are {tuple(images.shape)}, expected [N, 3, H, W]; grey has none")
    x = (images if images.dtype == torch.uint8 else to_bytes(images)).double()
    high, low = x.amax(1), x.amin(1)
    return float(torch.where(high > 0, (high - low) / high.clamp_min(1.0), torch.zeros_like(high)).mean())


def clipped(images: Tensor) -> float:
    """Share of values outside [-1, 1] by more than 1/127.5, one step of 8 bits; saturation of grey images.

    Raises:
        DataError: a value is not finite.
    """
    check_finite("clipped", images)
    return float((images.abs() > 1 + 1 / 127.5).double().mean())


def inception_features(path: str | Path, images: Tensor, batch: int = 16) -> Tensor:
    """`[N, 2048]` of uint8 images `[N, 1 or 3, H, W]` by the FID Inception-2015 as TorchScript, which you supply.

    The file's program is run: take it from a source that you trust. It gets `[-1, 1]` at 299 x 299, bilinear.

    Raises:
        DataError: the file is missing or no TorchScript.
    """
    if not Path(path).is_file():
        raise DataError(f"inception {path}: no such file. Give the FID Inception-2015 as TorchScript")
    try:
        net = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as e:
        raise DataError(f"inception {path}: no TorchScript ({str(e).splitlines()[0]})") from e
    out = []
    with torch.no_grad():
        for part in images.split(batch):
            x = part.expand(-1, 3, -1, -1).float() / 127.5 - 1
            size = (INCEPTION_SIZE, INCEPTION_SIZE)
            out.append(net(torch.nn.functional.interpolate(x, size, mode="bilinear")).flatten(1))
    return torch.cat(out)


def _root(cov: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def _reach(x: Tensor, k: int, batch: int) -> Tensor:
    """Distance of each row to its k-th neighbour."""
    return torch.cat([torch.cdist(part, x).kthvalue(k + 1, 1).values for part in x.split(batch)])  # itself is the first


def _covered(points: Tensor, centres: Tensor, reach: Tensor, batch: int) -> float:
    inside = [(torch.cdist(part, centres) <= reach).any(1) for part in points.split(batch)]
    return float(torch.cat(inside).double().mean())
