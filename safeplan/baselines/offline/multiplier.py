"""Lagrange multipliers that follow how far a cost exceeds its limit: by a PID rule, or by projected ascent."""

import torch
from torch import Tensor, nn


class PidMultiplier(nn.Module):
    """`relu(kp relu(e) + ki I + kd relu(e - e_before))`, I the integral of e kept at 0 or above [pid_lagrangian].

    e is cost minus limit; -inf (no limit) leaves it at 0. All state is in buffers.
    """

    value: Tensor
    integral: Tensor
    before: Tensor

    def __init__(self, kp: float, ki: float, kd: float) -> None:
        super().__init__()
        self.kp, self.ki, self.kd = kp, ki, kd
        for name in ("value", "integral", "before"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def step(self, error: Tensor) -> Tensor:
        """The multiplier after one more error (0-d)."""
        error = error.clamp_min(torch.finfo(error.dtype).min)  # differences of infinities are NaN
        change = torch.relu(error - self.before)
        self.integral.copy_(torch.relu(self.integral + error))
        self.before.copy_(error)
        self.value.copy_(torch.relu(self.kp * torch.relu(error) + self.ki * self.integral + self.kd * change))
        return self.value.clone()


class AscentMultiplier(nn.Module):
    """`clip(value + rate e, 0, high)`: projected gradient ascent on the dual; e = -inf (no limit) gives 0."""

    value: Tensor

    def __init__(self, rate: float, high: float = float("inf"), start: float = 0.0) -> None:
        super().__init__()
        self.rate, self.high = rate, high
        self.register_buffer("value", torch.tensor(float(start)))

    @torch.no_grad()
    def step(self, error: Tensor) -> Tensor:
        """The multiplier after one more error (0-d)."""
        self.value.copy_((self.value + self.rate * error).clamp(0.0, self.high))
        return self.value.clone()
