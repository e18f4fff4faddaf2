"""Short runs on a mixture with an exact denoiser, for tests of what guidance does to it."""

import torch

from safeplan.diffusion import EDM, Context, Flow, VPCosine, conditions

F64 = torch.float64
GRIDS = {"vp": VPCosine().grid(12), "edm": EDM(sigma_max=20.0).grid(12), "flow": Flow().grid(12)}


def start(n=12, k=4):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    return z, {"label": torch.arange(n) % k}


def same(x, y, tol=1e-12):
    torch.testing.assert_close(x, y, rtol=tol, atol=tol)


def at(x, cond, sigma=0.9, frame="vp"):
    a = torch.tensor((1 + sigma**2) ** -0.5 if frame == "vp" else 1.0, dtype=F64)
    return Context(x, a, a * sigma, sigma, 1, conditions(cond), None, None, 0.5 * sigma, 10)


def noisy_logits(mix):
    return lambda x, a, s: mix.logits(x, a, s)
