"""FISOR in one evaluation: a network that maps noise to what the diffusion policy's sampler would make of it.

Distillation as in flow Q-learning [fql]: imitate the teacher's deterministic map, and lean towards what its critics
prefer. What they prefer is FISOR's: least violation where the state or the action is infeasible, else most reward.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from safeplan.diffusion import Cond, Denoiser, Prediction, ddim
from safeplan.feasibility.policy import FisorPolicy
from safeplan.nets.mlp import MLP
from safeplan.schema import in_range


@dataclass(frozen=True)
class OneStepConfig:
    """Settings of the distilled policy."""

    hidden: int = 256  # width of its hidden layers
    layers: int = 3  # hidden layers
    lr: float = 3e-4  # Adam
    batch: int = 256  # states per update
    improve: float = 0.3  # weight of what the critics prefer against imitation; 0: imitation alone
    candidates: int = 64  # actions drawn per state, told apart by the critics as FISOR's are: cheap, and worth much

    def __post_init__(self) -> None:
        in_range(
            self,
            "one_step",
            {"positive": "lr", "not negative": "improve", "count": "hidden layers batch candidates"},
        )


@dataclass(frozen=True)
class Clamped:
    """A denoiser of actions whose estimates stay in [-1, 1]."""

    inner: Denoiser

    @property
    def capabilities(self) -> frozenset[str]:
        return self.inner.capabilities

    def __call__(self, x: Tensor, a: Tensor, s: Tensor, cond: Cond, perturb: Any = None) -> Prediction:
        found = self.inner(x, a, s, cond, perturb)
        return Prediction(found.x0.clamp(-1.0, 1.0), found.aux)


def teacher_map(teacher: FisorPolicy, obs: Tensor, noise: Tensor) -> Tensor:
    """The action `[B, A]` that the teacher's sampler without fresh noise makes of `noise [B, A]`; obs as encoded."""
    grid = teacher.path.grid()
    return ddim(Clamped(teacher.denoiser("actor_ema")), noise / grid.s[0], grid, teacher.leaves(obs))


class OneStepPolicy:
    """Acts with one evaluation of `net`; scores with the teacher's critics. Observations and actions as there."""

    def __init__(self, teacher: FisorPolicy, config: OneStepConfig | None = None, *, net: MLP | None = None) -> None:
        self.teacher, self.config = teacher, config or OneStepConfig()
        sizes = teacher.obs_size + teacher.act_size, teacher.act_size, [self.config.hidden] * self.config.layers
        self.net = (net or MLP(*sizes, torch.nn.GELU)).to(teacher.device)
        self._choose = torch.compile(OneStepPolicy._choice) if teacher.config.compile else OneStepPolicy._choice

    @property
    def budget(self) -> float:
        """The teacher's."""
        return self.teacher.budget

    def map(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Action `[B, A]` in [-1, 1] for encoded observations `[B, S]` and noise `[B, A]`."""
        return self.net(torch.cat([obs, noise], -1)).clamp(-1.0, 1.0)

    def act(self, obs: Any, generator: torch.Generator, *, pick: str | None = None) -> Any:
        """One action per state, `[B, A]`; as `FisorPolicy.act`."""
        n, t = self.config.candidates, self.teacher
        return t._asked(lambda o: self._choose(self, o, t._noise(len(o) * n, generator), n, pick), obs)

    def _choice(self, obs: Tensor, noise: Tensor, n: int, pick: str | None) -> Tensor:
        many = obs.repeat_interleave(n, 0) if n > 1 else obs
        a = self.map(many, noise)
        return self.teacher.chosen(many, a, n, pick) if n > 1 or pick else a

    def loss(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Imitation and preference, 0-d each: squared distance to the teacher's action, and what the critics say of it.

        The preference is Q_h where V_h or Q_h is above 0, elsewhere -Q, each in units of its mean size [td3_bc].
        """
        t = self.teacher
        a = self.net(torch.cat([obs, noise], -1))
        imitation = (a - teacher_map(t, obs, noise)).square().sum(-1).mean()
        q_h, q = t.scores(obs, a.clamp(-1.0, 1.0))
        with torch.no_grad():
            unsafe = (t._value("v_h", obs) > 0) | (q_h > t.threshold)
            units = q_h.abs().mean().clamp_min(1e-6), q.abs().mean().clamp_min(1e-6)
        return imitation, torch.where(unsafe, q_h / units[0], -q / units[1]).mean()
