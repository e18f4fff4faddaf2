"""Files with bytes changed at random."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np


def damaged(path: Path, seed: int, count: int = 40, changes: int = 8) -> Iterator[None]:
    """The file with some bytes changed at random, `count` times; each time from what it is now."""
    whole, rng = path.read_bytes(), np.random.default_rng(seed)
    for _ in range(count):
        spoilt = bytearray(whole)
        for at in rng.integers(0, len(whole), changes):
            spoilt[at] = rng.integers(256)
        path.write_bytes(spoilt)
        yield
