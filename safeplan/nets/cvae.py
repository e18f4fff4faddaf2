"""What actions a log takes in a state: a conditional variational auto-encoder."""

import torch
from torch import Tensor, nn

from safeplan.nets.mlp import MLP

LOG_STD = (-4.0, 15.0)  # of the latent; the bounds of the authors' code [bcq]


class CVAE(nn.Module):
    """Actions `[B, A]` in [-1, 1] given states `[B, S]`, through a latent of `latent` numbers (default 2 A) [bcq]."""

    def __init__(self, obs_size: int, act_size: int, hidden: int = 400, latent: int | None = None) -> None:
        super().__init__()
        self.latent = latent or 2 * act_size
        self.encoder = MLP(obs_size + act_size, 2 * self.latent, (hidden, hidden))
        self.decoder = MLP(obs_size + self.latent, act_size, (hidden, hidden))

    def encode(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the latent, `[B, latent]` each."""
        mean, log_std = self.encoder(torch.cat([obs, actions], -1)).chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD)

    def decode(self, obs: Tensor, z: Tensor) -> Tensor:
        """Actions `[B, A]` of latents `[B, latent]`."""
        return torch.tanh(self.decoder(torch.cat([obs, z], -1)))

    def divergence(self, obs: Tensor, actions: Tensor) -> Tensor:
        """`[B]`, KL(latent given action || N(0, I)) averaged over its entries: large for strangers."""
        return gaussian_kl(*self.encode(obs, actions))

    def loss(self, obs: Tensor, actions: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
        """Squared error of the reconstruction plus `kl_weight` times the divergence; `noise [B, latent]` is normal."""
        mean, log_std = self.encode(obs, actions)
        again = self.decode(obs, mean + log_std.exp() * noise)
        return (again - actions).square().mean() + kl_weight * gaussian_kl(mean, log_std).mean()


def gaussian_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(0, 1)) averaged over the last axis, `[B, ...] -> [B]`."""
    return 0.5 * (mean.square() + (2 * log_std).exp() - 1.0 - 2 * log_std).mean(-1)
