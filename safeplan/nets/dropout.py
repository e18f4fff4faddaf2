"""Dropout whose masks cost a CPU a fifth of torch's."""

import torch
from torch import Tensor, nn

from safeplan.errors import ConfigError

LEVELS = 1 << 16


def _mask(x: Tensor, p: float) -> Tensor:
    """0 where an entry is dropped, elsewhere 1 over the share of those that are kept."""
    dropped = min(round(p * LEVELS), LEVELS - 1)
    bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
    return kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))


# a compiler does not look inside, and so neither draws one number per entry nor the mask anew on the way back
mask = torch.library.custom_op(
    "safeplan::dropout_mask", _mask, mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,)
)
mask.register_fake(lambda x, p: torch.empty_like(x))


class Dropout(nn.Module):
    """`torch.nn.Dropout`; on the CPU four entries share one random number of 64 bits.

    There the probability is the nearest multiple of 2^-16, and what is kept is scaled by that. Inside the transforms of
    `torch.func`, which know torch's alone, it is torch's.

    Raises:
        ConfigError: `p` outside [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ConfigError(f"dropout: p is {p}, expected a probability in [0, 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if x.device.type == "cpu" and torch.compiler.is_compiling():
            return x * mask(x.detach(), self.p)
        if x.device.type != "cpu" or torch._C._are_functorch_transforms_active():
            return nn.functional.dropout(x, self.p)
        return x * _mask(x, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
