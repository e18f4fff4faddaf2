"""The same numbers as the guiders of diffusers, where those are right. Needs the extra [image]; skipped without it."""

import math

import pytest
import torch

from safeplan.diffusion import Context, Flow, Guided, Prediction, VPLinear, conditions, denoise, from_x0, renoise, to_x0
from safeplan.diffusion.guidance import COND, NULL, Branch, Predictions
from safeplan.guidance import APG, CFG, FDG, MAMBO, PAG, TCFG, CFGZeroStar, Rescale

pytest.importorskip("diffusers", reason="oracle tests compare with diffusers: pip install 'safeplan[image]'")

F64 = torch.float64
SHAPES = [(4, 3), (4, 8, 3), (4, 2, 8, 16)]


def pair(shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=g, dtype=F64) for _ in range(3))


def fold(method, c, u, x=None, a=0.8, s=0.6, state=None):
    """x0 after one method, given the predictions of both branches."""
    x = torch.zeros_like(c) if x is None else x
    ctx = Context(x, torch.tensor(a, dtype=F64), torch.tensor(s, dtype=F64), s / a, 5, conditions(None), steps=10)
    preds = Predictions({COND: Prediction(c), NULL: Prediction(u)})
    guided, state = method(Guided(c, c), preds, ctx, method.init(ctx) if state is None else state)
    return guided.x0, state


def guider(cls, *args, step=5, **kw):
    g = cls(*args, **kw)
    g.set_state(step=step, num_inference_steps=10, timestep=torch.tensor(500))
    return g


@pytest.mark.parametrize("shape", SHAPES, ids=len)
@pytest.mark.parametrize("original", [False, True])
def test_cfg_in_both_conventions(shape, original):
    from diffusers.guiders import ClassifierFreeGuidance

    c, u, _ = pair(shape)
    want = guider(ClassifierFreeGuidance, 3.0, use_original_formulation=original).forward(c, u).pred
    got, _ = fold(CFG(4.0 if original else 3.0), c, u)
    tol = 0 if original else 1e-15  # the same sum, or u + w (c - u) where ours is c + (w - 1)(c - u)
    torch.testing.assert_close(got, want, rtol=tol, atol=tol)


@pytest.mark.parametrize("shape", SHAPES, ids=len)
def test_rescale(shape):
    from diffusers.guiders import ClassifierFreeGuidance

    c, u, _ = pair(shape)
    want = guider(ClassifierFreeGuidance, 5.0, guidance_rescale=0.7).forward(c, u).pred
    y, _ = fold(CFG(5.0), c, u)
    ctx = Context(c, torch.tensor(0.8), torch.tensor(0.6), 0.75, 0, conditions(None))
    got, _ = Rescale(0.7)(Guided(y, y), Predictions({COND: Prediction(c)}), ctx, None)
    torch.testing.assert_close(got.x0, want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES, ids=len)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_apg_of_the_paper_over_steps(shape, eta):
    """Paper's w is diffusers' w - 1 in the original formulation; thresholds are RMS here and norms there."""
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

    r, size = 0.4, math.prod(shape[1:])
    method, buffer, state = APG(6.0, eta=eta, r=r, momentum=-0.5), MomentumBuffer(-0.5), None
    for k in range(6):
        c, u, _ = pair(shape, k)
        want = normalized_guidance(c, u, 5.0, buffer, eta, r * math.sqrt(size), True)
        got, state = fold(method, c, u, state=state)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_apg_over_time_only():
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

    c, u, _ = pair((3, 8, 4))
    want = normalized_guidance(c, u, 5.0, MomentumBuffer(0.0), 0.0, 0.5 * math.sqrt(8), True, norm_dim=(1,))
    got, _ = fold(APG(6.0, eta=0.0, r=0.5, only=(1,)), c, u)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_pag_combination_of_the_pipelines():
    from diffusers.pipelines.pag.pag_utils import PAGMixin

    c, u, p = pair((2, 4, 8, 8))

    class Pipe(PAGMixin):
        pag_scale, pag_adaptive_scale, do_pag_adaptive_scaling = 3.0, 0.0, False

        def _get_pag_scale(self, t):
            return 3.0

    want = Pipe()._apply_perturbed_attention_guidance(torch.cat([u, c, p]), True, 5.0, 500)
    y, _ = fold(CFG(5.0), c, u)
    ctx = Context(c, torch.tensor(0.8), torch.tensor(0.6), 0.75, 0, conditions(None))
    branch = Branch(perturb=("pag",))
    got, _ = PAG(3.0)(Guided(y, y), Predictions({COND: Prediction(c), branch: Prediction(p)}), ctx, None)
    torch.testing.assert_close(got.x0, want, rtol=1e-14, atol=1e-14)


def test_cfg_zero_star_on_flow_velocities():
    from diffusers.guiders.classifier_free_zero_star_guidance import cfg_zero_star_scale

    vc, vu, x = pair((4, 2, 8, 8))
    a, s = Flow().at(torch.tensor(0.7, dtype=F64))
    alpha = cfg_zero_star_scale(vc.flatten(1), vu.flatten(1)).reshape(-1, 1, 1, 1)
    want = to_x0("flow", alpha * vu + 4.0 * (vc - alpha * vu), x, a, s)
    c, u = to_x0("flow", vc, x, a, s), to_x0("flow", vu, x, a, s)
    got, _ = fold(CFGZeroStar(4.0), c, u, x, float(a), float(s))
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-5)  # float32 inside


def test_tcfg_on_scores():
    from diffusers.guiders.tangential_classifier_free_guidance import normalized_guidance

    sc, su, x = pair((4, 2, 6, 6))
    a, s = torch.tensor(0.8, dtype=F64), torch.tensor(0.6, dtype=F64)
    x0 = lambda score: (x + s**2 * score) / a  # noqa: E731
    want = x0(normalized_guidance(sc, su, 3.0))
    got, _ = fold(TCFG(3.0), x0(sc), x0(su), x)
    torch.testing.assert_close(got, want, rtol=5e-4, atol=5e-4)  # an SVD in float32 there


def test_mambo():
    from diffusers.guiders.magnitude_aware_guidance import mambo_guidance

    c, u, _ = pair((4, 6))
    torch.testing.assert_close(fold(MAMBO(10.0), c, u)[0], mambo_guidance(c, u, 10.0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scales", [(10.0, 5.0), (6.0, 4.0, 2.0)])
def test_fdg_on_sizes_that_are_powers_of_two(scales):
    pytest.importorskip("kornia", reason="diffusers' FDG needs kornia")
    from diffusers.guiders import FrequencyDecoupledGuidance

    c, u, _ = pair((2, 3, 32, 32))
    want = guider(FrequencyDecoupledGuidance, list(scales)).forward(c, u).pred
    torch.testing.assert_close(fold(FDG(scales=scales), c, u)[0], want, rtol=1e-5, atol=1e-5)


def test_ddim_step():
    from diffusers import DDIMScheduler

    eps, x, _ = pair((2, 3, 4, 4))
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    t = scheduler.timesteps[3]
    want = scheduler.step(eps, t, x).prev_sample
    level = [scheduler.alphas_cumprod[i] for i in (t, t - 100)]
    (a, s), (a2, s2) = ((v.sqrt(), (1 - v).sqrt()) for v in level)
    x0 = to_x0("eps", eps, x, a, s)
    torch.testing.assert_close(renoise(x, Guided(x0, x0), a, s, a2, s2), want, rtol=1e-15, atol=1e-15)


def test_what_the_core_applies_on_x0_differs_on_eps():
    """APG is no affine combination: the space matters, and ours is x0."""
    c, u, x = pair((3, 8))
    a, s = VPLinear().at(torch.tensor(0.4, dtype=F64))
    method = APG(5.0, r=0.5)
    in_x0, _ = fold(method, c, u, x)
    ec, eu = (from_x0("eps", v, x, a, s) for v in (c, u))
    in_eps = to_x0("eps", fold(method, ec, eu, x)[0], x, a, s)
    assert (in_x0 - in_eps).abs().max() > 0.05
    affine = to_x0("eps", fold(CFG(5.0), ec, eu, x)[0], x, a, s)
    torch.testing.assert_close(affine, fold(CFG(5.0), c, u, x)[0], rtol=1e-12, atol=1e-12)


def test_executor_gives_what_the_fold_gives():
    c, u, x = pair((4, 3))

    ctx = Context(x, torch.tensor(0.8, dtype=F64), torch.tensor(0.6, dtype=F64), 0.75, 0, conditions({"k": c}))

    class Fixed:
        capabilities = frozenset({"null"})

        def __call__(self, z, a, s, cond, perturb=None):
            off = cond.null.get("k", torch.zeros(len(z), dtype=torch.bool))[:, None]
            return Prediction(torch.where(off, u.repeat(len(z) // 4, 1), cond.leaves["k"]))

    got, _ = denoise(Fixed(), ctx, (APG(4.0, r=0.3),))
    torch.testing.assert_close(got.x0, fold(APG(4.0, r=0.3), c, u, x)[0], rtol=1e-13, atol=1e-13)
