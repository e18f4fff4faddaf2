"""Gaussian paths `x = a x0 + s n`: VP, VE (EDM) and flow are three schedules of one thing; sigma = s / a orders them.

A path maps its own time to (a, s) and back. Time is 0 at the data and grows with the noise. Step grids hold Python
floats, so that what a step does is known ahead; all tensors may be of any shape.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from safeplan.errors import ConfigError


@dataclass(frozen=True)
class Grid:
    """N + 1 points `(a, s)` of strictly falling noise, the last one usually the data (1, 0)."""

    a: tuple[float, ...]
    s: tuple[float, ...]

    def __post_init__(self) -> None:
        sig = self.sigma
        if len(self.a) != len(self.s) or len(sig) < 2:
            raise ConfigError(f"grid: {len(self.a)} values of a and {len(self.s)} of s; give at least 2 of each")
        if any(q >= p for p, q in pairwise(sig)):
            raise ConfigError(f"grid: sigma must fall strictly, got {[round(v, 5) for v in sig]}")

    @property
    def sigma(self) -> tuple[float, ...]:
        """s / a of each point, inf where a = 0."""
        return tuple(s / a if a > 0 else math.inf for a, s in zip(self.a, self.s, strict=True))

    @property
    def steps(self) -> int:
        return len(self.a) - 1

    def below(self, sigma: float) -> "Grid":
        """The part of the grid with noise at most `sigma`: where a partly noised start enters."""
        keep = [i for i, v in enumerate(self.sigma) if v <= sigma]
        return Grid(tuple(self.a[i] for i in keep), tuple(self.s[i] for i in keep))


class Path:
    """A schedule. Subclasses give `at`, `time` and `t_max`, and override what is special to them."""

    name: ClassVar[str] = ""
    t_max: float = 1.0

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(a, s) at time `t`."""
        raise NotImplementedError

    def time(self, a: Tensor, s: Tensor) -> Tensor:
        """The time whose sigma is s / a; `a` and `s` may come from another path."""
        raise NotImplementedError

    def grid(self, steps: int) -> Grid:
        """`steps` + 1 points, evenly spaced in time from `t_max` to the data."""
        _positive(steps)
        return self.points(torch.linspace(self.t_max, 0.0, steps + 1, dtype=torch.float64))

    def points(self, t: Tensor) -> Grid:
        """The grid through falling times `t [N+1]`."""
        a, s = self.at(t.double())
        return Grid(tuple(a.tolist()), tuple(s.tolist()))

    def karras(self, steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Grid:
        """Karras et al. 2022 [edm], eq. 5: `steps` noise levels spaced evenly in sigma^(1/rho), then the data."""
        sigma = torch.cat([karras_sigmas(steps, sigma_min, sigma_max, rho), torch.zeros(1, dtype=torch.float64)])
        return self.points(self.time(torch.ones_like(sigma), sigma))

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Training times `[n]`, float32 on the generator's device; uniform on (0, t_max]."""
        return self.t_max * (1.0 - _rand(n, generator))


@dataclass(frozen=True)
class VPLinear(Path):
    """Variance preserving, beta(t) linear on t in [0, 1]. Song et al. 2021 [score_sde], eq. 33."""

    name = "vp_linear"
    b_min: float = 0.1
    b_max: float = 20.0

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_a2 = -(0.5 * t * t * (self.b_max - self.b_min) + t * self.b_min)
        return torch.exp(0.5 * log_a2), torch.sqrt(-torch.expm1(log_a2))

    def time(self, a: Tensor, s: Tensor) -> Tensor:
        big = torch.log1p((s / a) ** 2)  # -log a^2 on this path
        d = self.b_max - self.b_min
        t = 2 * big / (self.b_min + torch.sqrt(self.b_min**2 + 2 * d * big))
        return torch.where(torch.isinf(big), big, t)


@dataclass(frozen=True)
class VPCosine(Path):
    """a = cos(pi t / 2), s = sin(pi t / 2). Nichol and Dhariwal 2021 [improved_ddpm], eq. 17 without its offset."""

    name = "vp_cosine"
    t_max: float = 1.0

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # the sine of the complement is exactly 0 at t = 1, where the cosine would leave 6e-17
        return torch.sin(0.5 * math.pi * (1 - t)), torch.sin(0.5 * math.pi * t)

    def time(self, a: Tensor, s: Tensor) -> Tensor:
        return torch.atan2(s, a) * (2 / math.pi)


@dataclass(frozen=True)
class Flow(Path):
    """Rectified flow a = 1 - t, s = t. Lipman et al. 2023 [flow_matching], eq. 20. `shift` > 1: more noisy steps."""

    name = "flow"
    shift: float = 1.0

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def time(self, a: Tensor, s: Tensor) -> Tensor:
        return s / (a + s)

    def grid(self, steps: int) -> Grid:
        _positive(steps)
        t = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
        return self.points(self.shift * t / (1 + (self.shift - 1) * t))


@dataclass(frozen=True)
class EDM(Path):
    """Variance exploding, a = 1, s = t = sigma. Karras et al. 2022 [edm], eq. 5 (grid) and table 1 (training)."""

    name = "edm"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    p_mean: float = -1.2
    p_std: float = 1.2

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return self.sigma_max

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), t

    def time(self, a: Tensor, s: Tensor) -> Tensor:
        return s / a

    def grid(self, steps: int) -> Grid:
        return self.karras(steps, self.sigma_min, self.sigma_max, self.rho)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        device = generator.device if generator is not None else None
        return torch.exp(self.p_mean + self.p_std * torch.randn(n, generator=generator, device=device))


FISOR_SCHEDULES = ("vp", "cosine", "linear")


@dataclass(frozen=True)
class FisorVP(Path):
    """FISOR's few-step schedules; time is the integer step 0 .. T-1 that the network sees, -1 is the data [fisor].

    schedule "vp" (its default): alpha_t = exp(-b_min/T - (b_max - b_min)(2t - 1)/(2 T^2)), t = 1 .. T. "cosine":
    [improved_ddpm], eq. 17 with offset 0.008, beta at most 0.999. "linear": beta from 1e-4 to 2e-2, as [ddpm] but not
    adapted to T, so that noise never fills it. Between steps log a^2 is linear.
    """

    name = "fisor_vp"
    T: int = 5
    b_min: float = 0.1
    b_max: float = 10.0
    schedule: str = "vp"

    def __post_init__(self) -> None:
        if self.schedule not in FISOR_SCHEDULES:
            raise ConfigError(f"fisor_vp: schedule {self.schedule!r}; use {', '.join(FISOR_SCHEDULES)}")

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return self.T - 1.0

    def log_alpha(self) -> list[float]:
        """log alpha_t for t = 1 .. T."""
        if self.schedule == "cosine":
            level = [math.cos((t / self.T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(self.T + 1)]
            return [math.log(max(after / before, 0.001)) for before, after in pairwise(level)]
        if self.schedule == "linear":
            return [math.log1p(-1e-4 - (2e-2 - 1e-4) * t / max(self.T - 1, 1)) for t in range(self.T)]
        return [
            -self.b_min / self.T - 0.5 * (self.b_max - self.b_min) * (2 * t - 1) / self.T**2
            for t in range(1, self.T + 1)
        ]

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_a2 = torch.zeros_like(t)
        for k, piece in enumerate(self.log_alpha()):
            log_a2 = log_a2 + piece * (t + 1 - k).clamp(0, 1)
        return torch.exp(0.5 * log_a2), torch.sqrt(-torch.expm1(log_a2))

    def time(self, a: Tensor, s: Tensor) -> Tensor:
        log_a2 = -torch.log1p((s / a) ** 2)
        t, start = torch.full_like(log_a2, -1.0), 0.0
        for piece in self.log_alpha():
            t = t + ((log_a2 - start) / piece).clamp(0, 1)
            start += piece
        return t

    def grid(self, steps: int | None = None) -> Grid:
        steps = self.T if steps is None else steps
        if not 1 <= steps <= self.T:
            raise ConfigError(f"fisor_vp: {steps} steps asked for, the schedule has {self.T}; give 1 to {self.T}")
        t = torch.linspace(self.T - 1, 0, steps, dtype=torch.float64).round()
        return self.points(torch.nn.functional.pad(t, (0, 1), value=-1.0))

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        device = generator.device if generator is not None else None
        return torch.randint(0, self.T, (n,), generator=generator, device=device).float()


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """`[steps]` float64 falling from sigma_max to sigma_min, evenly spaced in sigma^(1/rho) [edm], eq. 5."""
    _positive(steps)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    hi, lo = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (hi + ramp * (lo - hi)) ** rho


def _positive(steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"grid: {steps} steps; give at least 1")


def _rand(n: int, generator: torch.Generator | None) -> Tensor:
    return torch.rand(n, generator=generator, device=generator.device if generator is not None else None)
