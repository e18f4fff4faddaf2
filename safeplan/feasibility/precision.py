"""How exactly the matrix products of training are computed.

`float32`; `tf32`: factors rounded to 10 bits on a GPU, sums in float32; `bfloat16`: the actor's factors rounded to 8
bits, weights and optimiser in float32. The critics are never rounded that far: where they change sign decides what is
feasible, and they are an eighth of the work. Acting is always in float32.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from safeplan.errors import ConfigError


@contextmanager
def products(precision: str, device: torch.device) -> Iterator[None]:
    """All products inside are computed in `precision`, except that bfloat16 asks for `actor_products`.

    Raises:
        ConfigError: tf32 without a GPU.
    """
    if precision != "tf32":
        yield
        return
    if device.type != "cuda":
        raise ConfigError(f"fisor.precision is 'tf32', which device {device} does not have; use float32 or bfloat16")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def actor_products(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The actor's products inside are computed in bfloat16 where that is the precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
