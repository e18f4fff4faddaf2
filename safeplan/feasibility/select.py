"""Which of the N candidate actions is taken."""

import torch
from torch import Tensor

from safeplan.errors import ConfigError

PICKS = ("minqc", "maxq", "maxq_feasible")


def select(q_h: Tensor, q: Tensor, pick: str = "minqc") -> Tensor:
    """Index `[B]` of the action taken among candidates with worst violation `q_h [B, N]` and reward value `q [B, N]`.

    `minqc`: least violation (official default). `maxq`: most reward. `maxq_feasible`: most reward among `q_h <= 0`,
    least violation where no candidate is feasible. Raises ConfigError for any other name.
    """
    if pick == "minqc":
        return q_h.argmin(-1)
    if pick == "maxq":
        return q.argmax(-1)
    if pick == "maxq_feasible":
        best = torch.where(q_h <= 0, q, -torch.inf).argmax(-1)
        return torch.where((q_h <= 0).any(-1), best, q_h.argmin(-1))
    raise ConfigError(f"pick is {pick!r}, expected {', '.join(PICKS)}")
