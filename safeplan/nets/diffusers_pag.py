"""Perturbed attention in the networks of diffusers, row by row and without hooks: PAG's branch rides the same batch.

Ahn et al. 2024 [pag]: in chosen self-attention layers the attention map becomes the identity, so that a token's output
is its own value. Here that happens in marked rows only; the others keep the layer's own attention processor.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from safeplan.errors import CapabilityError


class IdentityRows:
    """Attention processor: rows `[B]` (bool) get identity attention, the others what `plain` gives them."""

    def __init__(self, plain: Any, rows: Tensor):
        self.plain, self.rows = plain, rows

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None) -> Tensor:
        attended = self.plain(
            attn, hidden_states, encoder_hidden_states=encoder_hidden_states, attention_mask=attention_mask, temb=temb
        )
        x = hidden_states if attn.spatial_norm is None else attn.spatial_norm(hidden_states, temb)
        tokens = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        if attn.group_norm is not None:
            tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
        own = attn.to_v(tokens)
        for layer in attn.to_out:  # projection, then dropout
            own = layer(own)
        if x.ndim == 4:
            own = own.transpose(1, 2).reshape(x.shape)
        if attn.residual_connection:
            own = own + hidden_states
        own = own / attn.rescale_output_factor
        return torch.where(self.rows.reshape(-1, *[1] * (own.ndim - 1)), own, attended)


class PAGRows:
    """The self-attention layers of one network, and how to perturb them in some rows.

    Raises:
        CapabilityError: diffusers is missing, or the network has no self-attention of diffusers' `Attention` class.
    """

    perturbations = ("pag",)

    def __init__(self, net: nn.Module):
        try:
            from diffusers.models.attention_processor import Attention
        except ImportError as e:
            raise CapabilityError(
                "perturbed attention needs the package diffusers, which cannot be imported here; "
                "pip install 'safeplan[image]'"
            ) from e
        self.layers = {
            name: m
            for name, m in net.named_modules()
            # joint attention over image and text (added projections) has no identity map to put in
            if isinstance(m, Attention) and not m.is_cross_attention and m.added_kv_proj_dim is None
        }
        if not self.layers:
            raise CapabilityError(
                f"{type(net).__name__} has no self-attention layer that can be perturbed (class `Attention` of "
                "diffusers, image tokens only); drop the perturbation from the chain"
            )

    def find(self, names: tuple) -> list[str]:
        """Layers meant by `names`: a number counts self-attention layers, a text is the start of a part of their path.

        "mid" finds `mid_block.attentions.0...`, "down_blocks.1" does not find `down_blocks.10`.
        """
        found: list[str] = []
        for want in names:
            if isinstance(want, int):
                hits = list(self.layers)[want : want + 1] if want >= 0 else []
            else:
                part = re.compile(rf"(?:^|\.){re.escape(want)}(?!\d)")
                hits = [n for n in self.layers if part.search(n)]
            if not hits:
                raise CapabilityError(f"no self-attention layer {want!r} to perturb; there are {list(self.layers)}")
            found += hits
        if not found:
            raise CapabilityError(f"perturbation ('pag',) names no layer; add some of {list(self.layers)}, as in 'mid'")
        return found

    @contextmanager
    def perturbed(self, perturb: Mapping[tuple, Tensor] | None) -> Iterator[None]:
        """The network inside `with` runs with `perturb`: ("pag", layer, ...) -> bool rows `[B]`; afterwards as before.

        Raises:
            CapabilityError: another perturbation than "pag", or a layer that the network does not have.
        """
        marks: dict[str, Tensor] = {}
        for key, rows in (perturb or {}).items():
            if key[0] not in self.perturbations:
                raise CapabilityError(f"perturbation {key[0]!r} is unknown here; use one of {self.perturbations}")
            for name in self.find(key[1:]):
                marks[name] = marks[name] | rows if name in marks else rows
        before: dict[str, Any] = {name: self.layers[name].processor for name in marks}
        try:
            for name, rows in marks.items():
                processor: Any = IdentityRows(before[name], rows)
                self.layers[name].set_processor(processor)
            yield
        finally:
            for name, plain in before.items():
                self.layers[name].set_processor(plain)
