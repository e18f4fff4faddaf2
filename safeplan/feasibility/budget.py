"""Soft limits without training again: the budget that is left joins the observation, and feasible means staying in it.

A state (s, z) is violated when the cost spent since exceeds z, so {V_h(s, z) <= 0} is where the rest of the episode
can still be kept within z; z = 0 is FISOR's hard constraint. Logs need no budgets: any z may be drawn for any row,
since the next one follows from the cost. The augmentation is that of [saute]. The networks see the square root of the
share that is left (`FisorPolicy.encode`): 1 of 40 is then 0.16 away from nothing, not 0.025.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeplan.errors import ConfigError

SPENT = 0.1  # share of the rows that are seen with nothing left


def augment(batch: Mapping[str, Tensor], budget: float, share: Tensor, violating: float, satisfying: float) -> dict:
    """A batch (see `columns`, with `costs`) seen with `share [B]` of `budget` left: observations get one column more.

    The column is what is left over `budget`, 0 where nothing is, overspent or not; `h` says whether it is overspent.
    """
    after = share - batch["costs"] / budget
    return {
        **batch,
        "observations": torch.cat([batch["observations"], share[:, None]], -1),
        "next_observations": torch.cat([batch["next_observations"], after[:, None].clamp_min(0.0)], -1),
        # costs are sums of float32: a budget spent to the last bit is not overspent
        "h": torch.where(after < -1e-6, violating, satisfying).to(share.dtype),
    }


def draw_shares(rows: int, generator: torch.Generator | None = None, device: Any = None) -> Tensor:
    """Budgets to learn from, `[B]` in [0, 1]: nothing for a tenth of the rows, as when a limit is spent.

    The others are denser where they are small, there feasibility changes most: their square roots are uniform.
    Without `generator`, from that of `device`, as a captured graph must draw.
    """
    u = torch.rand(rows, generator=generator, device=device if generator is None else generator.device)
    return ((u - SPENT) / (1.0 - SPENT)).clamp_min(0.0).square()


def with_budget(obs: Any, left: Any, budget: float) -> np.ndarray:
    """Observations `[B, S]` (or `[S]`) and what is left of their cost limits `[B]` as the policy sees them, `[B, S+1]`.

    Once a limit is overspent the policy acts as where nothing is left: it has learned from no less.

    Raises:
        ConfigError: the policy was not trained with budgets, or a limit is NaN or exceeds the largest trained for.
    """
    obs, left = np.asarray(obs, np.float32), np.asarray(left, np.float32)
    if budget <= 0:
        raise ConfigError("this policy knows no budgets: train it with policy.budget=LARGEST_LIMIT")
    if not (left <= budget).all():
        raise ConfigError(
            f"cost limit {left.max():g} is not within policy.budget = {budget:g}, the largest trained for"
        )
    column = np.broadcast_to(np.maximum(left / budget, 0.0), obs.shape[:-1])[..., None]
    return np.concatenate([obs, column], -1, dtype=np.float32)
