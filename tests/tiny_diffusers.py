"""Tiny, randomly initialised networks and pipelines of diffusers, in float64, and our own view of the same networks.

Text parts are left out: pipelines get embeddings. Nothing is downloaded. Import it after `importorskip("diffusers")`.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor

from safeplan.diffusion import COND, Cond, Grid, Guidance, Prediction, to_x0
from safeplan.diffusion.guidance import NULL

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
STEPS = 4


def unet(seed: int = 0, **more: Any) -> UNet2DConditionModel:
    """4 channels, 8 x 8, prompts `[B, 5, 8]`; four self-attention layers."""
    torch.manual_seed(seed)
    size = {"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    net = UNet2DConditionModel(**(size | blocks | {"cross_attention_dim": 8, "attention_head_dim": 2} | more))
    return net.double().eval()


def text_time_unet() -> UNet2DConditionModel:
    """With the added conditions of Stable Diffusion XL: `text_embeds [B, 8]`, `time_ids [B, 6]`."""
    return unet(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 8
    )


def ddim(**more: Any) -> DDIMScheduler:
    """As Stable Diffusion's, with its noise levels in float64."""
    s = DDIMScheduler(**(BETAS | {"clip_sample": False, "set_alpha_to_one": False} | more))
    s.alphas_cumprod, s.final_alpha_cumprod = s.alphas_cumprod.double(), s.final_alpha_cumprod.double()
    return s


def euler(**more: Any) -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(**(BETAS | more))


def pipeline(scheduler: Any = None, net: Any = None, kind: Any = StableDiffusionPipeline) -> Any:
    """Stable Diffusion without its text parts and VAE."""
    empty = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    scheduler, net = ddim() if scheduler is None else scheduler, unet() if net is None else net
    pipe = kind(**empty, unet=net, scheduler=scheduler, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sd3(scheduler: Any) -> Any:
    """Stable Diffusion 3 without its text parts and VAE: a transformer and flow matching."""
    torch.manual_seed(0)
    net = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=8, caption_projection_dim=16, pooled_projection_dim=6,
    )  # fmt: skip
    empty = dict.fromkeys(("vae", *(f"{p}{n}" for p in ("text_encoder", "tokenizer") for n in ("", "_2", "_3"))))
    pipe = StableDiffusion3Pipeline(**empty, transformer=net.double().eval(), scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draws(b: int = 2, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Latents `[B, 4, 8, 8]`, prompt and negative prompt `[B, 5, 8]`."""
    g = torch.Generator().manual_seed(seed)
    shapes = ((b, 4, 8, 8), (b, 5, 8), (b, 5, 8))
    return tuple(torch.randn(s, generator=g, dtype=torch.float64) for s in shapes)  # type: ignore[return-value]


def run(pipe: Any, **more: Any) -> Tensor:
    """The pipeline's final latents; `guidance_scale` 1 unless given."""
    latents, pos, _ = draws()
    size = {"height": 8 * pipe.vae_scale_factor, "width": 8 * pipe.vae_scale_factor}
    options = {"prompt_embeds": pos, "latents": latents, "guidance_scale": 1.0, "num_inference_steps": STEPS}
    return pipe(output_type="latent", **(size | options | more)).images


def loop(net: Any, scheduler: Any, latents: Tensor | None = None, begin: int = 0, **more: Any) -> Tensor:
    """A sampling loop of one's own, from step `begin`; `net` may be a guest."""
    scheduler.set_timesteps(STEPS)
    if begin and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    first, pos, _ = draws()
    x = first if latents is None else latents
    with torch.no_grad():
        for t in scheduler.timesteps[begin:]:
            z = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            pred = net(z, t, encoder_hidden_states=pos, return_dict=False, **more)[0]
            x = scheduler.step(pred, t, x, return_dict=False)[0]
    return x


class Rows:
    """Counts the rows of each forward of a network."""

    def __init__(self, net: torch.nn.Module):
        self.seen: list[int] = []
        net.register_forward_hook(lambda _net, _args, out: self.seen.append(len(out[0])))


@dataclass(frozen=True, eq=False)
class AimOnly(Guidance):
    """A two-field method, as CFG++ is: aims at u + lam (c - u), keeps the noise of u."""

    lam: float = 0.6

    @property
    def requires(self):
        return frozenset({"null"})

    def needs(self, ctx, state):
        return (NULL,)

    def __call__(self, guided, predictions, ctx, state):
        d = predictions.x0(COND) - predictions.x0(NULL)
        return guided.shift(-d).aim(self.lam * d), state


@dataclass(frozen=True, eq=False)
class Momentum(Guidance):
    """Pushes by the difference of the last two predictions; notes where it was asked."""

    asked: list
    gain: float = 0.5

    def init(self, ctx):
        self.asked.append("init")
        return torch.zeros_like(ctx.x)

    def __call__(self, guided, predictions, ctx, state):
        self.asked.append((ctx.step, ctx.steps))
        c = predictions.x0()
        return (guided.shift(self.gain * (c - state)) if ctx.step else guided), c


class Own:
    """The network of a pipeline as a denoiser of ours, at the noise levels (a, s) of `times`: sigma -> timestep."""

    capabilities = frozenset({"null", "gradient"})

    def __init__(self, net: Any, kind: str, grid: Grid, times: Any):
        self.net, self.kind = net, kind
        self.times = list(zip(grid.sigma, times, strict=False))

    def __call__(self, x: Tensor, a: Tensor, s: Tensor, cond: Cond, perturb: Any = None) -> Prediction:
        sigma = float(s / a) if a > 0 else math.inf
        t = next(t for v, t in self.times if v == sigma or abs(v - sigma) < 1e-9 * sigma)
        args = {k: v for k, v in cond.leaves.items()}
        out = self.net(x, timestep=t.expand(len(x)), **args, return_dict=False)[0]
        return Prediction(to_x0(self.kind, out, x, a, s))
