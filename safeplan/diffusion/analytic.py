"""Worlds whose denoiser is known exactly: a labelled Gaussian mixture and a Gaussian process over trajectories.

They are `DenoiserLike`, so every sampler and method runs on them, and what it should give can be worked out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from safeplan.diffusion.cond import Cond
from safeplan.diffusion.convert import from_x0, like
from safeplan.diffusion.denoiser import Prediction
from safeplan.diffusion.paths import Path


@dataclass(frozen=True)
class Mixture:
    """Components N(mean_k, var I) with labels; the leaf "label" `[B]` picks those of one, a null row has all."""

    means: Tensor  # [K, D]
    var: float = 0.04
    log_weights: Tensor | None = None  # [K]
    labels: Tensor | None = None  # [K], label of each component; None: component k has label k

    def logits(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """log p(x, k) at noise level (a, s), `[B, K]`."""
        total = a * a * self.var + s * s
        sq = (x[:, None] - a[..., None] * self.means).square().sum(-1) if a.ndim else None
        sq = (x[:, None] - a * self.means).square().sum(-1) if sq is None else sq
        prior = torch.zeros(len(self.means), dtype=x.dtype) if self.log_weights is None else self.log_weights
        total = total.to(x.dtype)
        const = -0.5 * x.shape[1] * torch.log(2 * torch.pi * total)
        return prior.log_softmax(0) - 0.5 * sq / total + const

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of clean samples `[B]`."""
        one, zero = torch.ones((), dtype=x.dtype), torch.zeros((), dtype=x.dtype)
        return self.logits(x, one, zero).logsumexp(1)

    def x0(self, x: Tensor, a: Tensor, s: Tensor, cond: Cond) -> Tensor:
        a, s = like(a, x), like(s, x)
        logits = self.logits(x, a, s)
        if "label" in cond.leaves:
            own = torch.arange(len(self.means)) if self.labels is None else self.labels
            other = own != cond.leaves["label"][:, None]
            if "label" in cond.null:
                other = other & ~cond.null["label"][:, None]
            logits = logits.masked_fill(other, -torch.inf)
        r = logits.softmax(1)
        k = a * self.var / (a * a * self.var + s * s)
        return r @ self.means * (1 - k * a) + k * x

    def __call__(self, x, a, s, cond, perturb=None) -> Prediction:
        return Prediction(self.x0(x, a, s, cond))

    def sample(self, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples `[n, D]` and labels `[n]`."""
        w = torch.ones(len(self.means)) if self.log_weights is None else self.log_weights.exp()
        k = torch.multinomial(w.double(), n, True, generator=g)
        noise = torch.randn(n, self.means.shape[1], generator=g, dtype=self.means.dtype)
        return self.means[k] + self.var**0.5 * noise, k

    def net(self, path: Path, kind: str, sigma_data: float = 1.0) -> "MixtureNet":
        """A "network" of parametrisation `kind` that is exactly right, as Denoiser expects one."""
        return MixtureNet(self, path, kind, sigma_data)


@dataclass(frozen=True)
class MixtureNet:
    """What a network trained on a mixture would put out, had it learned everything."""

    mixture: Mixture
    path: Path
    kind: str
    sigma_data: float = 1.0

    learned_null = True

    def __call__(self, z: Tensor, t: Tensor, leaves: dict[str, Tensor], null: dict[str, Tensor] | None) -> Tensor:
        if self.kind == "edm":
            sigma = torch.exp(4 * t)
            x = z * torch.sqrt(sigma**2 + self.sigma_data**2)[:, None]
            a, s = torch.ones_like(t), sigma
        else:
            x, (a, s) = z, self.path.at(t)
        return from_x0(self.kind, self.mixture.x0(x, a, s, Cond(leaves, null or {})), x, a, s, self.sigma_data)


def ring(k: int = 4, radius: float = 2.0, var: float = 0.04, dtype=torch.float64) -> Mixture:
    """k components evenly on a circle."""
    angle = torch.arange(k, dtype=dtype) * (2 * torch.pi / k)
    return Mixture(radius * torch.stack([angle.cos(), angle.sin()], 1), var)


@dataclass(frozen=True)
class Process:
    """A Gaussian process over trajectories `[B, H, 1]` with exact denoiser; a pin conditions on its entries."""

    cov: Tensor  # [H, H]
    mean: Tensor  # [H]

    def conditioned(self, cond: Cond) -> tuple[Tensor, Tensor]:
        """Prior mean `[B or 1, H]` and covariance `[H, H]` given the pin."""
        if cond.pin is None:
            return self.mean[None], self.cov
        on = cond.pin.mask.reshape(-1)[: len(self.mean)]
        gain = self.cov[:, on] @ torch.linalg.inv(self.cov[on][:, on])
        value = cond.pin.value[..., 0][:, on]
        return self.mean + (value - self.mean[on]) @ gain.T, self.cov - gain @ self.cov[on]

    def __call__(self, x, a, s, cond, perturb=None) -> Prediction:
        mean, cov = self.conditioned(cond)
        y = x[..., 0]
        eye = torch.eye(len(self.mean), dtype=x.dtype)
        gain = a * cov @ torch.linalg.inv(a * a * cov + s * s * eye)
        x0 = mean + (y - a * mean) @ gain.T
        return Prediction(x0[..., None] if cond.pin is None else cond.pin.write(x0[..., None]))


def smooth_process(h: int = 16, length: float = 4.0) -> Process:
    """Squared-exponential covariance with a little white noise."""
    t = torch.arange(h, dtype=torch.float64)
    cov = torch.exp(-0.5 * ((t[:, None] - t) / length) ** 2) + 1e-3 * torch.eye(h, dtype=torch.float64)
    return Process(cov, torch.zeros(h, dtype=torch.float64))
