"""A compact 1-D U-Net over trajectories."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from threading import Lock

import torch
from torch import Tensor, nn

from safeplan.errors import ShapeError

Leaf = int | tuple[int, int]
FEW = 8  # rows up to which convolutions on a CPU are faster without oneDNN: 1.8 against 3.0 ms for 2 rows, H = 24


class CondEncoder(nn.Module):
    """Leaves to one vector `[B, width]`: a flat leaf `[B, size]` by an MLP, a set `[B, slots, size]` by a shared MLP
    with mean and maximum over slots [deep_sets]; a learned vector stands for a leaf that is switched off."""

    def __init__(self, leaves: Mapping[str, Leaf], width: int) -> None:
        super().__init__()
        self.sets = {k: isinstance(v, tuple) for k, v in leaves.items()}
        self.embed, self.merge, self.null = nn.ModuleDict(), nn.ModuleDict(), nn.ParameterDict()
        for k, v in leaves.items():
            size = v[1] if isinstance(v, tuple) else v
            self.embed[k] = nn.Sequential(nn.Linear(size, width), nn.SiLU(), nn.Linear(width, width))
            self.merge[k] = nn.Linear(2 * width, width) if self.sets[k] else nn.Identity()
            self.null[k] = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, leaves: Mapping[str, Tensor], null: Mapping[str, Tensor]) -> Tensor:
        total = None
        for k, is_set in self.sets.items():
            h = self.embed[k](leaves[k])
            if is_set:
                h = self.merge[k](torch.cat([h.mean(1), h.amax(1)], -1))
            if k in null:
                h = torch.where(null[k][:, None], self.null[k], h)
            total = h if total is None else total + h
        assert total is not None
        return total


def zero_(layer: nn.Module) -> None:
    """All parameters to 0: what the layer feeds starts as it would without it."""
    for p in layer.parameters():
        nn.init.zeros_(p)


class _Switch:
    """oneDNN off for the whole process while any thread is inside; then as it was before the first came."""

    def __init__(self) -> None:
        self.lock, self.inside, self.before = Lock(), 0, True

    @contextmanager
    def off(self) -> Iterator[None]:
        with self.lock:
            if self.inside == 0:
                self.before = torch._C._get_mkldnn_enabled()
                torch._C._set_mkldnn_enabled(False)
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if self.inside == 0:
                    torch._C._set_mkldnn_enabled(self.before)


_onednn = _Switch()  # torch has one for all threads


class ResBlock(nn.Module):
    """GroupNorm, SiLU, conv, scale and shift by the condition (FiLM) [film], SiLU, conv, and the residual."""

    def __init__(self, cin: int, cout: int, emb: int, groups: int = 8) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, cin), nn.Conv1d(cin, cout, 3, padding=1)
        self.film = nn.Linear(emb, 2 * cout)
        self.norm2, self.conv2 = nn.GroupNorm(groups, cout), nn.Conv1d(cout, cout, 3, padding=1)
        self.skip = nn.Conv1d(cin, cout, 1) if cin != cout else nn.Identity()
        zero_(self.conv2)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(nn.functional.silu(self.norm1(x)))
        scale, shift = self.film(emb)[:, :, None].chunk(2, dim=1)
        h = self.conv2(nn.functional.silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class TemporalUNet(nn.Module):
    """`(x [B, H, D], t [B], leaves, null) -> [B, H, D]`, H divisible by 4; after the U-Net of [diffuser].

    Args:
        dim: D. cond: leaf name -> size, or (slots, size) for a set; empty: unconditional.
        width: channels of the first level, a multiple of 8; the others have 2 and 3 times as many.
        emb: size of the condition vector. time_scale: phases run over `time_scale * t`.
    """

    learned_null = True
    freq: Tensor

    def __init__(
        self,
        dim: int,
        cond: Mapping[str, Leaf] | None = None,
        width: int = 32,
        emb: int = 128,
        time_scale: float = 100.0,
    ) -> None:
        super().__init__()
        c1, c2, c3 = width, 2 * width, 3 * width
        self.time_scale = time_scale
        self.register_buffer("freq", torch.exp(-math.log(1000.0) * torch.arange(32) / 31), persistent=False)
        self.time = nn.Sequential(nn.Linear(64, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.cond = CondEncoder(cond, emb) if cond else None
        self.inp = nn.Conv1d(dim, c1, 3, padding=1)
        self.down = nn.ModuleList([ResBlock(c1, c1, emb), ResBlock(c1, c2, emb), ResBlock(c2, c3, emb)])
        self.shrink = nn.ModuleList([nn.Conv1d(c, c, 3, stride=2, padding=1) for c in (c1, c2)])
        self.mid = ResBlock(c3, c3, emb)
        self.up = nn.ModuleList([ResBlock(c3 + c2, c2, emb), ResBlock(c2 + c1, c1, emb)])
        self.norm, self.out = nn.GroupNorm(8, c1), nn.Conv1d(c1, dim, 3, padding=1)
        zero_(self.out)

    @property
    def nullable(self) -> bool:
        return self.cond is not None

    def forward(
        self, x: Tensor, t: Tensor, leaves: Mapping[str, Tensor] | None = None, null: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        if x.ndim != 3 or x.shape[1] % 4:
            raise ShapeError(f"TemporalUNet: x is {tuple(x.shape)}, expected [B, H, D] with H divisible by 4; pad it")
        phase = self.time_scale * t[:, None] * self.freq
        emb = self.time(torch.cat([torch.sin(phase), torch.cos(phase)], -1))
        if self.cond is not None:
            emb = emb + self.cond(leaves or {}, null or {})
        few = len(x) <= FEW and x.device.type == "cpu" and not torch.compiler.is_compiling()
        with _onednn.off() if few else nullcontext():
            return self._levels(x, nn.functional.silu(emb))

    def _levels(self, x: Tensor, emb: Tensor) -> Tensor:
        h1 = self.down[0](self.inp(x.transpose(1, 2)), emb)
        h2 = self.down[1](self.shrink[0](h1), emb)
        h = self.mid(self.down[2](self.shrink[1](h2), emb), emb)
        h = self.up[0](torch.cat([h.repeat_interleave(2, dim=2), h2], 1), emb)
        h = self.up[1](torch.cat([h.repeat_interleave(2, dim=2), h1], 1), emb)
        return self.out(nn.functional.silu(self.norm(h))).transpose(1, 2)
