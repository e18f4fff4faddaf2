"""Self-attention that can be switched to the identity map row by row: perturbed-attention guidance without hooks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class MaskedSelfAttention:
    """A diffusers attention processor for layer `layer` of a network.

    `perturbed` comes through `cross_attention_kwargs`: layer -> bool `[B]`. In rows where it is true the attention map
    is the identity, so that the output is V before `to_out`, Ahn et al. 2024 [pag]. Cross-attention layers get
    `layer = -1` and are never perturbed.
    """

    def __init__(self, layer: int) -> None:
        self.layer = layer

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        perturbed: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        """`hidden_states [B, N, C] -> [B, N, C]`; `attention_mask` and `temb` belong to diffusers' interface."""
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states

        def split(v: Tensor) -> Tensor:
            return v.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        q, k, v = attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source)
        out = scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2)
        rows = None if perturbed is None else perturbed.get(self.layer)
        if rows is not None:
            out = torch.where(rows[:, None, None], v, out)
        return attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor
