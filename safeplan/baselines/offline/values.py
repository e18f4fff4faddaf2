"""What methods with reward and cost critics share: twin heads, their loss, and who is asked of two that disagree."""

import torch
from torch import Tensor, nn


def heads(net: nn.Module, obs: Tensor, actions: Tensor) -> Tensor:
    """Both heads of a critic, `[2, B]`."""
    return net(torch.cat([obs, actions], -1)).squeeze(-1)


def twin_loss(found: Tensor, y: Tensor) -> Tensor:
    """Squared error of heads `[2, B]` against `y [B]`, summed over heads."""
    return (found - y).square().mean(-1).sum()


def soft_lower(found: Tensor, share: float) -> Tensor:
    """`share` of the lower head `[2, B] -> [B]`, the rest of the upper one: soft clipped double Q [bcq]."""
    return share * found.amin(0) + (1 - share) * found.amax(0)


def value(net: nn.Module, obs: Tensor) -> Tensor:
    """One number per state, `[B]`."""
    return net(obs).squeeze(-1)
