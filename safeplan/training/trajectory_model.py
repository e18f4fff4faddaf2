"""A trained trajectory model: futures of the vehicle in the manner of the logs, steered by a guidance chain."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeplan.diffusion import SAMPLERS, Cond, Denoiser, Guidance, Pin, Trace, VPCosine
from safeplan.errors import ConfigError
from safeplan.nets import TemporalUNet
from safeplan.rng import randn, sample_generators
from safeplan.training.trajectory_codec import Codec

Chain = Sequence[Guidance] | Callable[[Tensor], Sequence[Guidance]]
MARGIN = 0.1  # how far outside the logs' range an observation may lie, in half ranges


def pinned(codec: Codec, obs: Tensor) -> Cond:
    """The condition of observations `[B, O]`: leaves, and the start state pinned in the first token."""
    layout = codec.layout
    mask = torch.zeros(1, layout.length, layout.n + layout.m, dtype=torch.bool, device=obs.device)
    mask[:, 0, : layout.n] = True
    value = codec.start(obs)[:, None].expand(-1, layout.length, -1)
    return Cond(codec.condition(obs), {}, Pin(mask, value))


class TrajectoryModel:
    """EMA network and codec. States and controls are physical; H is `horizon`.

    Attributes:
        horizon: steps that a sample covers.
        denoiser: for callers with a sampler of their own; x is `[B, L, D]`, normalised tokens.
    """

    def __init__(self, net: TemporalUNet, codec: Codec, predict: str = "x0"):
        self.net = net.eval().requires_grad_(False)
        self.codec, self.horizon = codec, codec.layout.horizon
        self.path = VPCosine()
        self.denoiser = Denoiser(self.net, self.path, predict)
        self.device = next(net.parameters()).device

    def sample(
        self,
        obs: Any,
        n: int,
        chain: Chain = (),
        steps: int = 8,
        seed: int = 0,
        *,
        sampler: str = "dpmpp_2m",
        max_rows: int | None = None,
        trace: Trace | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`n` futures per observation `[B, O]` (or `[O]`): states `[B n, H+1, n]`, controls `[B n, H, m]` in bounds.

        Row i of the result depends on its observation, the seed and i alone. Energies in the chain see
        `[rows, H+1, n + m]` in physical units (absolute states, controls; those of the last row are 0).

        Args:
            chain: guidance, or a function from the observations of all rows `[B n, O]` to it.

        Raises:
            ShapeError: observations of another size. ConfigError: no such sampler, or n below 1.
        """
        if sampler not in SAMPLERS:
            raise ConfigError(f"sampler {sampler!r} is unknown; use one of {', '.join(sorted(SAMPLERS))}")
        if n < 1:
            raise ConfigError(f"trajectory.sample: n is {n}, expected at least 1")
        rows = self._obs(obs).repeat_interleave(n, 0)
        cond = pinned(self.codec, rows)
        layout = self.codec.layout
        generators = sample_generators(seed, len(rows), "trajectory")
        noise = randn(generators, (layout.length, layout.n + layout.m), device=self.device)

        def decode(x: Tensor) -> Tensor:
            states, controls = self.codec.decode(x, rows)
            return torch.cat([states, torch.nn.functional.pad(controls, (0, 0, 0, 1))], -1)

        x = SAMPLERS[sampler](
            self.denoiser,
            noise,
            self.path.grid(steps),
            cond,
            tuple(chain(rows) if callable(chain) else chain),
            decode=decode,
            generators=generators,
            max_rows=max_rows,
            trace=trace,
        )
        states, controls = self.codec.decode(x, rows)
        low, high = np.array(layout.control_low), np.array(layout.control_high)
        return states.double().cpu().numpy(), controls.double().cpu().numpy().clip(low, high)

    def support(self, obs: Any) -> np.ndarray:
        """`[B]`: how far observations `[B, O]` lie from the middle of the logs' range; 1 is its edge, inf is NaN."""
        return self.codec.support(self._obs(obs)).cpu().numpy()

    def supported(self, obs: Any, margin: float = MARGIN) -> np.ndarray:
        """`[B]` true where an observation resembles the logs."""
        return self.support(obs) <= 1.0 + margin

    def _obs(self, obs: Any) -> Tensor:
        obs = torch.as_tensor(np.asarray(obs), dtype=torch.float32, device=self.device)
        return torch.atleast_2d(obs)
