"""Random numbers that depend on names, not on call order: one root seed, one independent stream per purpose."""

import zlib

import numpy as np
import torch


def _words(seed: int, path: tuple[int | str, ...]) -> list[int]:
    return [seed, *(zlib.crc32(p.encode()) if isinstance(p, str) else int(p) for p in path)]


def numpy_rng(seed: int, *path: int | str) -> np.random.Generator:
    """NumPy generator of the stream named by `path` under `seed` (PCG64 through SeedSequence)."""
    return np.random.default_rng(np.random.SeedSequence(_words(seed, path)))


def fold(seed: int, *path: int | str) -> int:
    """A 63-bit seed that depends on `seed` and on every element of `path`."""
    return int(np.random.SeedSequence(_words(seed, path)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def torch_rng(seed: int, *path: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """Torch generator of the stream named by `path` under `seed`."""
    return torch.Generator(device=device).manual_seed(fold(seed, *path))


def sample_generators(seed: int, n: int, *path: int | str) -> list[torch.Generator]:
    """One CPU generator per sample, so that sample i does not depend on the batch size."""
    return [torch_rng(seed, *path, i) for i in range(n)]


def randn(generators: list[torch.Generator], shape: tuple[int, ...], **kw) -> torch.Tensor:
    """Standard normal noise `[B, *shape]`, row i drawn from generator i (on the CPU, then moved).

    One generator for all rows draws them at once.
    """
    device, dtype = kw.get("device", "cpu"), kw.get("dtype", torch.float32)
    if len(generators) > 1 and all(g is generators[0] for g in generators):
        return torch.randn((len(generators), *shape), generator=generators[0], dtype=dtype).to(device)
    return torch.stack([torch.randn(shape, generator=g, dtype=dtype) for g in generators]).to(device)
