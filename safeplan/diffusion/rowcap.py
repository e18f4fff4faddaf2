"""How many rows one forward should have: measured on the network and the machine at hand."""

import time
from statistics import median

import torch

from safeplan.diffusion.cond import as_cond
from safeplan.diffusion.denoiser import DenoiserLike


def measured_row_cap(
    denoiser: DenoiserLike,
    x: torch.Tensor,
    cond: object = None,
    *,
    largest: int = 512,
    repeats: int = 3,
    tolerance: float = 0.05,
) -> int:
    """The largest power of two whose forward costs at most `tolerance` more per row than the cheapest.

    `max_rows` of samplers and of `denoise`: stacked branches win at small batches and lose where rows no longer share
    overhead and the working set leaves the cache.

    Args:
        x: `[B, ...]`, repeated as needed; cond: with B rows.
        largest: most rows that are tried; repeats: timed runs of each size, after one that is not.
    """
    c = as_cond(cond)
    a = s = torch.tensor(0.5**0.5, dtype=torch.float64, device=x.device)
    per_row: dict[int, float] = {}
    n = 1
    while n <= largest:
        index = torch.arange(n, device=x.device) % len(x)
        rows, here = x[index], c.take(index)
        times = []
        with torch.no_grad():
            for i in range(repeats + 1):
                begin = _now(x.device)
                denoiser(rows, a, s, here)
                if i:
                    times.append(_now(x.device) - begin)
        per_row[n] = median(times) / n
        n *= 2
    best = min(per_row.values())
    return max(k for k, v in per_row.items() if v <= (1 + tolerance) * best)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
