"""A small transformer over trajectories whose attention can be perturbed row by row, without hooks."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from safeplan.errors import ShapeError
from safeplan.nets.perturbations import FORMS, Masks, check_perturbation, chosen
from safeplan.nets.temporal_unet import CondEncoder, Leaf


class Attention(nn.Module):
    """Self-attention over `[B, H, width]`. pag: the output is V; seg: blurred queries; swg: a window of keys."""

    def __init__(self, width: int, heads: int, layer: int) -> None:
        super().__init__()
        self.heads, self.layer = heads, layer
        self.to_qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, h: Tensor, masks: Masks | None) -> Tensor:
        q, k, v = self.to_qkv(h).chunk(3, -1)
        for (sigma,), rows in chosen(masks, "seg", self.layer, 1):
            q = torch.where(rows, blur(q, float(sigma)), q)
        B, H, W = h.shape
        split = [t.reshape(B, H, self.heads, -1).transpose(1, 2) for t in (q, k, v)]
        bias = None
        for (width,), rows in chosen(masks, "swg", self.layer, 1):
            i = torch.arange(H, device=h.device)
            outside = ((i[:, None] - i).abs() > width) & rows
            bias = outside if bias is None else bias | outside
        keep = None if bias is None else ~bias[:, None]
        y = nn.functional.scaled_dot_product_attention(*split, attn_mask=keep)
        y = y.transpose(1, 2).reshape(B, H, W)
        for _, rows in chosen(masks, "pag", self.layer):
            y = torch.where(rows, v, y)
        return self.out(y)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `[B, H, width]` along H with standard deviation `sigma` (tokens); inf: the mean."""
    if sigma == math.inf:
        return x.mean(1, keepdim=True).expand_as(x)
    i = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
    w = torch.exp(-0.5 * ((i[:, None] - i) / max(sigma, 1e-6)) ** 2)
    return (w / w.sum(1, keepdim=True)) @ x


class Block(nn.Module):
    """Attention and MLP, scaled and shifted by time and condition; starts as the identity [dit]."""

    def __init__(self, width: int, heads: int, emb: int, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.attention = Attention(width, heads, layer)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulate = nn.Linear(emb, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, emb: Tensor, masks: Masks | None) -> Tensor:
        s1, b1, g1, s2, b2, g2 = self.modulate(emb)[:, None].chunk(6, -1)
        h = x
        for _, rows in chosen(masks, "tpg", self.layer):
            h = torch.where(rows, h.flip(1), h)  # what is added lands on other tokens
        y = x + g1 * self.attention(self.norm1(h) * (1 + s1) + b1, masks)
        y = y + g2 * self.mlp(self.norm2(y) * (1 + s2) + b2)
        for _, rows in chosen(masks, "slg", self.layer):
            y = torch.where(rows, x, y)
        return y


class TemporalTransformer(nn.Module):
    """`(x [B, H, D], t [B], leaves, null, perturb) -> [B, H, D]`.

    Perturbations: ("pag", *layers), ("seg", sigma, *layers), ("swg", width, *layers), ("slg", *layers),
    ("tpg", *layers) and ("time", shift); without layers they act in all blocks. sigma (inf: the mean) and width are in
    tokens, shift in units of t. TPG feeds the attention tokens in reversed order instead of a drawn one, so that it
    needs no generator.

    Args:
        dim: D. horizon: largest H. cond: leaf name -> size, or (slots, size) for a set; empty: unconditional.
        time_scale: phases run over `time_scale * t`.

    Raises:
        ShapeError: x of another shape. CapabilityError, ConfigError: see `check_perturbation`.
    """

    learned_null = True
    perturbations = tuple(FORMS)
    freq: Tensor

    def __init__(
        self,
        dim: int,
        horizon: int,
        cond: Mapping[str, Leaf] | None = None,
        width: int = 64,
        blocks: int = 3,
        heads: int = 4,
        emb: int = 128,
        time_scale: float = 100.0,
    ) -> None:
        super().__init__()
        self.time_scale, self.horizon = time_scale, horizon
        self.register_buffer("freq", torch.exp(-math.log(1000.0) * torch.arange(32) / 31), persistent=False)
        self.time = nn.Sequential(nn.Linear(64, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.cond = CondEncoder(cond, emb) if cond else None
        self.inp, self.out = nn.Linear(dim, width), nn.Linear(width, dim)
        self.place = nn.Parameter(0.02 * torch.randn(horizon, width))
        self.blocks = nn.ModuleList(Block(width, heads, emb, i) for i in range(blocks))
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def nullable(self) -> bool:
        return self.cond is not None

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        leaves: Mapping[str, Tensor] | None = None,
        null: Mapping[str, Tensor] | None = None,
        perturb: Masks | None = None,
    ) -> Tensor:
        if x.ndim != 3 or x.shape[1] > self.horizon:
            raise ShapeError(f"TemporalTransformer: x is {tuple(x.shape)}, expected [B, H <= {self.horizon}, D]")
        for p in perturb or {}:
            check_perturbation(p, len(self.blocks))
        phase = self.time_scale * t[:, None]
        for p, rows in (perturb or {}).items():
            if p[0] == "time":
                phase = torch.where(rows[:, None], phase + self.time_scale * p[1], phase)
        phase = phase * self.freq
        emb = self.time(torch.cat([torch.sin(phase), torch.cos(phase)], -1))
        if self.cond is not None:
            emb = emb + self.cond(leaves or {}, null or {})
        emb = nn.functional.silu(emb)
        h = self.inp(x) + self.place[: x.shape[1]]
        for block in self.blocks:
            h = block(h, emb, perturb)
        return self.out(self.norm(h))
