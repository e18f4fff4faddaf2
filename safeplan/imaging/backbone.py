"""A diffusers U-Net with class labels, as a network for `diffusion.Denoiser`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from safeplan.errors import CapabilityError, ShapeError
from safeplan.imaging.attention import MaskedSelfAttention
from safeplan.imaging.config import ImageConfig

TIME_SCALE = 250.0  # the sinusoids of diffusers expect times up to about 1000; ln(sigma)/4 runs from -1.6 to 1.1


class LabelUNet(nn.Module):
    """`(x [B, C, H, W], t [B], leaves, null) -> [B, C, H, W]` with leaf `label [B]`, int64 in 0 .. classes - 1.

    Cells of `patch` x `patch` pixels go through `UNet2DConditionModel`: self-attention on the second level and in the
    middle; the label is added to the time embedding and is the one token of the cross-attention. A learned
    vector stands for a label that is switched off.

    Attributes:
        layers: names of the self-attention layers, in order; ("pag", 0, 2) perturbs the first and the third, ("pag",)
            those of the middle block.

    Raises:
        CapabilityError: diffusers is not installed.
    """

    learned_null = True
    nullable = True
    perturbations = ("pag",)

    def __init__(self, channels: int, classes: int, config: ImageConfig | None = None) -> None:
        super().__init__()
        c = config or ImageConfig()
        self.channels, self.classes, self.patch, self.levels = channels, classes, c.patch, c.levels
        widths = [c.width * k for k in range(1, c.levels + 1)]
        cells = channels * c.patch**2
        kinds = ["CrossAttn" if k == 1 else "" for k in range(c.levels)]
        self.unet: Any = _unet_class()(
            in_channels=cells,
            out_channels=cells,
            down_block_types=[f"{k}DownBlock2D" for k in kinds],
            up_block_types=[f"{k}UpBlock2D" for k in reversed(kinds)],
            block_out_channels=widths,
            layers_per_block=1,
            cross_attention_dim=4 * c.width,
            attention_head_dim=[max(w // c.head_width, 1) for w in widths],  # diffusers calls the number of heads so
            norm_num_groups=8,
            num_class_embeds=classes + 1,  # the last one is the null label
        )
        names = [n.removesuffix(".processor") for n in self.unet.attn_processors]
        parts = ("down_blocks", "mid_block", "up_blocks")
        self.layers = tuple(n for part in parts for n in names if n.startswith(part) and n.endswith("attn1"))
        number = {n: i for i, n in enumerate(self.layers)}
        self.unet.set_attn_processor({f"{n}.processor": MaskedSelfAttention(number.get(n, -1)) for n in names})
        nn.init.zeros_(self.unet.conv_out.weight)  # starts at the mean of the data
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        leaves: Mapping[str, Tensor],
        null: Mapping[str, Tensor] | None = None,
        perturb: Mapping[tuple, Tensor] | None = None,
    ) -> Tensor:
        """`perturb`: ("pag", *layers) -> bool `[B]`.

        Raises:
            ShapeError: x or the label does not fit. CapabilityError: a layer that there is not.
        """
        multiple = self.patch * 2 ** (self.levels - 1)
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] % multiple or x.shape[3] % multiple:
            want = f"[B, {self.channels}, H, W] with H and W divisible by {multiple}"
            raise ShapeError(f"LabelUNet: x is {tuple(x.shape)}, expected {want}")
        if "label" not in leaves or leaves["label"].shape != (len(x),):
            given = {k: tuple(v.shape) for k, v in leaves.items()}
            raise ShapeError(f"LabelUNet: leaves are {given or 'none'}, expected label [{len(x)}]")
        label = leaves["label"].long()
        if null and "label" in null:
            label = torch.where(null["label"], self.classes, label)
        perturbed = self._masks(perturb) if perturb else None
        out = self.unet(
            nn.functional.pixel_unshuffle(x, self.patch),
            t * TIME_SCALE,
            self.unet.class_embedding(label)[:, None],
            class_labels=label,
            cross_attention_kwargs={"perturbed": perturbed} if perturbed else None,
            return_dict=False,
        )[0]
        return nn.functional.pixel_shuffle(out, self.patch)

    def _masks(self, perturb: Mapping[tuple, Tensor]) -> dict[int, Tensor]:
        """Layer -> rows in which it is perturbed."""
        masks: dict[int, Tensor] = {}
        for (_, *chosen), rows in perturb.items():
            for layer in chosen or [i for i, n in enumerate(self.layers) if n.startswith("mid_block")]:
                if layer not in range(len(self.layers)):
                    known = ", ".join(f"{i} {n}" for i, n in enumerate(self.layers))
                    raise CapabilityError(f"pag: no self-attention layer {layer!r}; there are {known}")
                masks[layer] = masks[layer] | rows if layer in masks else rows
        return masks


def _unet_class() -> Any:
    try:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    except ImportError as e:
        raise CapabilityError(f'image models need diffusers ({e}). Install it: pip install "safeplan[image]"') from e
    return UNet2DConditionModel
