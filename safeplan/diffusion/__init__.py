"""Gaussian paths, denoisers, samplers, the denoising loss, and the protocol that guidance methods follow."""

from safeplan.diffusion.cond import Cond, Pin, as_cond
from safeplan.diffusion.convert import from_x0, noise_of, target, to_x0
from safeplan.diffusion.denoiser import Denoiser, DenoiserLike, Prediction
from safeplan.diffusion.driver import drive, renoise
from safeplan.diffusion.executor import conditions, denoise
from safeplan.diffusion.guidance import COND, NULL, Branch, Context, Guidance, Guided, Paper, Predictions
from safeplan.diffusion.losses import denoising_errors, denoising_loss
from safeplan.diffusion.paths import EDM, FisorVP, Flow, Grid, Path, VPCosine, VPLinear
from safeplan.diffusion.rowcap import measured_row_cap
from safeplan.diffusion.samplers import SAMPLERS, ddim, ddim_inversion, ddpm, dpmpp_2m, euler, heun
from safeplan.diffusion.trace import Trace

__all__ = [
    "COND",
    "EDM",
    "NULL",
    "SAMPLERS",
    "Branch",
    "Cond",
    "Context",
    "Denoiser",
    "DenoiserLike",
    "FisorVP",
    "Flow",
    "Grid",
    "Guidance",
    "Guided",
    "Paper",
    "Path",
    "Pin",
    "Prediction",
    "Predictions",
    "Trace",
    "VPCosine",
    "VPLinear",
    "as_cond",
    "conditions",
    "ddim",
    "ddim_inversion",
    "ddpm",
    "denoise",
    "denoising_errors",
    "denoising_loss",
    "dpmpp_2m",
    "drive",
    "euler",
    "from_x0",
    "heun",
    "measured_row_cap",
    "noise_of",
    "renoise",
    "target",
    "to_x0",
]
