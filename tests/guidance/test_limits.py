"""Where one method equals another, and where it does nothing."""

import math

import pytest
import torch

from safeplan.diffusion import (
    COND,
    EDM,
    NULL,
    Cond,
    Context,
    Flow,
    Guided,
    Prediction,
    Predictions,
    Trace,
    VPCosine,
    conditions,
    ddim,
    denoise,
    euler,
    heun,
)
from safeplan.diffusion.analytic import Mixture, ring
from safeplan.diffusion.guidance import Guidance, Paper
from safeplan.errors import ConfigError, ShapeError
from safeplan.guidance import (
    APG,
    CFG,
    FACFG,
    FDG,
    GFCG,
    ICG,
    MAMBO,
    PAG,
    TCFG,
    AdaptiveGuidance,
    AutoGuidance,
    CFGpp,
    CFGZeroStar,
    ClassifierGuidance,
    Composed,
    EluCD,
    FeedbackGuidance,
    LinearAG,
    Rescale,
    best_of,
    calibrated_logit,
    cfgpp_scale,
    confusion,
    fit_linear_ag,
    papers,
    repeat,
    shuffled,
    smooth_activations,
    step_invariant_cfgpp,
)
from safeplan.guidance.vector import rms
from tests.guidance.methods import domain

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


# ---------------------------------------------------------------- relatives of CFG
@pytest.mark.parametrize(
    "twin",
    [
        APG(3.0, eta=1.0),
        MAMBO(3.0, alpha=0.0),
        AdaptiveGuidance(CFG(3.0), 1.1),
        LinearAG(3.0),
        Composed({"cond": 2.0}),
        CFG(torch.full((12,), 3.0, dtype=F64)),
    ],
    ids=lambda m: type(m).__name__,
)
@pytest.mark.parametrize("frame", GRIDS)
def test_these_are_cfg(twin, frame):
    mix, (z, label) = ring(var=0.3), start()
    same(ddim(mix, z, GRIDS[frame], label, (twin,)), ddim(mix, z, GRIDS[frame], label, (CFG(3.0),)))


@pytest.mark.parametrize("name", ["trajectory", "image"])
def test_equal_bands_are_cfg(name):
    d = domain(name)
    run = lambda m: ddim(d.nets, d.noise, VPCosine().grid(4), d.cond, (m,))  # noqa: E731
    same(run(FACFG(low=3.0, high=3.0)), run(CFG(3.0)), 1e-10)
    same(run(FDG(scales=(3.0, 3.0))), run(CFG(3.0)), 1e-10)
    assert not torch.allclose(run(FACFG(low=3.0, high=4.0)), run(CFG(3.0)))


@pytest.mark.parametrize(
    "off",
    [
        CFG(1.0), APG(1.0), PAG(0.0), AutoGuidance(1.0), ICG(1.0), Rescale(0.0), Composed({}), FeedbackGuidance(pi=1.0),
        GFCG(lambda x: 50.0 * torch.eye(4, dtype=F64)[torch.arange(len(x)) % 4], 3.0),  # a classifier that is sure
        GFCG(lambda x: x.repeat(1, 2), 0.0), Composed({"cond": 0.0}), Composed({"cond": lambda sigma: 0.0}),
    ],
    ids=lambda m: type(m).__name__,
)  # fmt: skip
def test_these_are_off(off):
    mix, (z, label) = ring(var=0.3), start()
    trace = Trace()
    same(ddim(mix, z, GRIDS["vp"], label, (off,), trace=trace), ddim(mix, z, GRIDS["vp"], label))
    sure = isinstance(off, GFCG) and off.s != 0  # it must be asked to be known as sure
    assert trace.total_nfe().eq(24 if sure else 12).all(), "what is off costs nothing"


def test_a_plain_zero_asks_for_nothing():
    assert not Composed({"neg": 0.0}).requires and not GFCG(lambda x: x, 0.0, net="weak").requires
    assert Composed({"neg": 0.0, "cond": 1.0}).requires == {"null"}


def test_a_weak_network_that_is_the_same_does_nothing():
    mix, (z, label) = ring(var=0.3), start()
    same(
        ddim({"main": mix, "weak": mix}, z, GRIDS["vp"], label, (AutoGuidance(3.0),)), ddim(mix, z, GRIDS["vp"], label)
    )


def test_autoguidance_narrows_what_the_networks_blurred():
    """Smoothed nets of N(0, .05): the variance crosses the true one near w = 1 + d1 / (d0 - d1)."""
    centre = torch.zeros(1, 1, dtype=F64)
    nets = {"main": Mixture(centre, 0.05 + 0.07**2), "weak": Mixture(centre, 0.05 + 0.13**2)}
    z = torch.randn(20000, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    grid = EDM(sigma_max=10.0).grid(40)
    var = [ddim(nets, z, grid, None, (AutoGuidance(w),)).var().item() for w in (1.0, 1.5, 2.0)]
    assert var[0] > var[1] > var[2] and var[0] > 0.05 > var[2]


# ---------------------------------------------------------------- CFG++
@pytest.mark.parametrize("frame", GRIDS)
@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_cfgpp_is_scheduled_cfg(frame, lam):
    """With first-order steps CFG++ is CFG of scale lam / (1 - rho); lam = 0 is unconditional."""
    mix, (z, label), grid = ring(var=0.3), start(), GRIDS[frame]
    got = ddim(mix, z, grid, label, (CFGpp(lam),))
    same(got, ddim(mix, z, grid, label, (CFG(cfgpp_scale(lam, grid)),)))
    same(got, euler(mix, z, grid, label, (CFGpp(lam),)))
    if lam == 0:
        same(got, ddim(mix, z, grid))


def test_cfgpp_gets_stronger_with_the_steps_and_the_invariant_form_does_not():
    mix, (z, label) = ring(var=0.3), start(400)
    reference = EDM(sigma_max=20.0).grid(20)

    def spread(method, steps):
        x = ddim(mix, z, EDM(sigma_max=20.0).grid(steps), label, (method,))
        return (x - mix.means[label["label"]]).square().sum(1).mean().item()

    drift = abs(spread(CFGpp(0.6), 80) - spread(CFGpp(0.6), 20))
    held = [spread(step_invariant_cfgpp(0.6, reference), n) for n in (20, 80)]
    assert abs(held[1] - held[0]) < 0.5 * drift
    scale = cfgpp_scale(0.6, reference)
    between = math.sqrt(reference.sigma[4] * reference.sigma[5])
    ends = scale(reference.sigma[4]), scale(reference.sigma[5])
    assert min(ends) <= scale(between) <= max(ends)
    assert scale(1e-9) == scale(reference.sigma[-2]) and scale(1e9) == scale(reference.sigma[0])


@pytest.mark.parametrize(("path", "tol"), [(VPCosine(), 1e-9), (Flow(), 0.01)], ids=["vp", "flow"])
def test_cfgpp_scale_between_the_noisiest_level_and_infinity(path, tol):
    """By hand: the time of sigma = 25 and 100, less one step of the reference grid, gives sigma' and rho."""
    scale = cfgpp_scale(0.6, path.grid(20))
    for sigma in (25.0, 100.0):
        t = path.time(torch.ones((), dtype=F64), torch.tensor(sigma, dtype=F64))
        a, s = path.at(t - 1 / 20)
        rho = float(s / a) / sigma
        assert scale(sigma) == pytest.approx(0.6 / (1 - rho), rel=tol) and rho > 0.1
    assert scale(math.inf) == 0.6
    finite = path.grid(20).sigma[1]
    assert scale(finite * (1 + 1e-9)) == pytest.approx(scale(finite), rel=1e-6) and scale(1e12) == pytest.approx(0.6)


# ---------------------------------------------------------------- APG
def test_apg_orthogonality_threshold_and_momentum():
    d = domain("trajectory")
    ctx = at(d.noise, d.cond)
    c, _ = denoise(d.nets, ctx)
    only, _ = denoise(d.nets, ctx, (APG(3.0, eta=0.0),))
    assert ((only.x0 - c.x0) * c.x0).flatten(1).sum(1).abs().max() < 1e-12
    clamped, _ = denoise(d.nets, ctx, (APG(3.0, eta=1.0, r=0.01),))
    same(rms(clamped.x0 - c.x0).flatten(), torch.full((3,), 0.02, dtype=F64))
    method = APG(3.0, eta=1.0, momentum=-0.5)
    first, (state,) = denoise(d.nets, ctx, (method,))
    second, _ = denoise(d.nets, ctx, (method,), (state,))
    same(second.x0 - c.x0, 0.5 * (first.x0 - c.x0))  # m = d - d / 2
    again, _ = denoise(d.nets, ctx, (method,))
    assert torch.equal(again.x0, first.x0)  # the state was passed, not kept
    with pytest.raises(ConfigError, match="momentum"):
        APG(momentum=1.0)


def test_heun_counts_apg_steps_not_calls():
    """Correctors see the momentum and do not commit it."""
    calls = []

    class Spy(APG):
        def shape(self, d, predictions, ctx, state):
            out = super().shape(d, predictions, ctx, state)
            calls.append((ctx.step, state, out[1]))
            return out

    mix, (z, label) = ring(var=0.3), start()
    trace = Trace()
    heun(mix, z, GRIDS["vp"], label, (Spy(3.0, momentum=-0.5),), trace=trace)
    assert len(calls) == 2 * 12 - 1 and trace.total_nfe()[0] == 2 * (2 * 12 - 1)
    for (k, _, after), (j, seen, made), (n, found, _) in zip(calls[::2], calls[1::2], calls[2::2], strict=False):
        assert k == j == n - 1 and torch.equal(seen, after) and torch.equal(found, after)
        assert not torch.allclose(made, after)


# ---------------------------------------------------------------- classifier-based
def noisy_logits(mix):
    return lambda x, a, s: mix.logits(x, a, s)


def test_cfg_is_classifier_guidance_with_the_exact_noisy_posterior():
    """u + w (s^2/a) grad log p(y|x): from the unconditional model, along a whole run, in every frame."""
    mix, (z, label) = ring(var=0.3), start()
    for grid in (VPCosine(t_max=0.97).grid(12), EDM(sigma_max=20.0).grid(12), Flow().grid(40).below(20.0)):
        classifier = ClassifierGuidance(noisy_logits(mix), 2.5)
        got = ddim(mix, z, grid, label, (CFG(0.0), classifier))
        same(got, ddim(mix, z, grid, label, (CFG(2.5),)))


def test_gfcg_with_two_classes_and_the_exact_posterior_is_cfg():
    mix, (z, label) = ring(2, var=0.5), start(12, 2)
    for sigma in (0.3, 1.0, 4.0):
        ctx = at(sigma * z, label, sigma, "ve")
        exact = GFCG(lambda x, ctx=ctx: mix.logits(ctx.x, ctx.a, ctx.s), 1.7)
        got, _ = denoise(mix, ctx, (exact,))
        want, _ = denoise(mix, ctx, (CFG(2.7),))
        same(got.x0, want.x0)


def test_gfcg_rival_is_deterministic_and_its_laws_are_bounded():
    p = torch.tensor([[0.6, 0.2, 0.2], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0]], dtype=F64)
    y = torch.tensor([0, 2, 0])
    doubt, r = confusion(p, y)
    assert r.tolist() == [1, 0, 1]  # ties: the lowest
    same(doubt, torch.tensor([0.4, 0.2, 0.0], dtype=F64))
    rival, _ = confusion(p, y, "rival")
    same(rival, torch.tensor([0.25, 1 / 9, 0.0], dtype=F64))
    with pytest.raises(ConfigError, match="law"):
        GFCG(lambda x: x, law="other")


def test_gfcg_asks_the_classifier_once_a_step():
    calls = []

    def clf(x):
        calls.append(len(x))
        return torch.zeros(len(x), 4, dtype=x.dtype)

    mix, (z, label) = ring(var=0.3), start()
    trace = Trace()
    ddim({"main": mix, "weak": mix}, z, GRIDS["vp"], label, (GFCG(clf, 1.0, net="weak"),), trace=trace)
    assert len(calls) == 12 and trace.total_nfe().eq(24).all()


def test_calibrated_logit_limits_and_smooth_activations():
    f, y = torch.randn(5, 4, dtype=F64, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0])
    grad = lambda **t: torch.func.grad(lambda v: calibrated_logit(v, y, **t).sum())(f)  # noqa: E731
    same(grad(joint=1.0, marginal=1.0), torch.func.grad(lambda v: v.log_softmax(1)[range(5), y].sum())(f))
    one_hot = torch.eye(4, dtype=F64)[y]
    same(grad(joint=1.0, marginal=0.5), one_hot - 0.5 * (0.5 * f).softmax(1), 1e-12)
    same(grad(joint=1.0, marginal=0.0), one_hot)
    flat = torch.zeros(5, 4, dtype=F64)
    same(torch.func.grad(lambda v: calibrated_logit(v, y, 1.0, 1.0).sum())(flat).sum(), torch.zeros((), dtype=F64))
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4)).double()
    x = torch.randn(6, 3, dtype=F64)
    gap = [(smooth_activations(net, b)(x) - net(x)).abs().max().item() for b in (3.0, 30.0, 300.0)]
    assert gap[0] > gap[1] > gap[2] and gap[2] < 0.05 and isinstance(net[1], torch.nn.ReLU)


def test_elucd_takes_the_network_out_of_the_gradient_and_unit_rms_holds():
    d = domain("trajectory")
    target = torch.tensor([0.3, 0.1, -0.2, 0.4], dtype=F64)
    clf = lambda x: x.flatten(1)[:, :4] * target  # noqa: E731
    ctx = at(d.noise, d.cond)
    plain, _ = denoise(d.nets, ctx)
    got, _ = denoise(d.nets, ctx, (EluCD(clf, 0.25),))

    def value(x0):
        return calibrated_logit(clf(x0), d.cond["label"], 1.0, 0.5).sum()

    without = torch.func.grad(value)(plain.x0)
    through = torch.func.grad(lambda x: value(denoise(d.nets, ctx._replace(x=x))[0].x0))(ctx.x)
    same(got.x0 - plain.x0, 0.25 * without)
    assert (through - without).flatten(1).norm(dim=1).min() > 0.05 * without.norm(), "the network must matter"
    unit, _ = denoise(d.nets, ctx, (EluCD(clf, 0.25, unit=True),))
    same(rms(unit.x0 - plain.x0), 0.25 * rms(plain.x0))


# ---------------------------------------------------------------- adaptive
def test_adaptive_guidance_counts_exactly():
    mix, (z, label) = ring(var=0.3), start()
    for threshold, nfe in ((1.1, 24), (-1.0, 13)):
        trace = Trace()
        ddim(mix, z, GRIDS["vp"], label, (AdaptiveGuidance(CFG(4.0), threshold),), trace=trace)
        assert trace.total_nfe().eq(nfe).all()
    traces = [Trace(), Trace()]
    mixed, alone = (
        ddim(mix, x, GRIDS["vp"], y, (AdaptiveGuidance(CFG(4.0), 0.995),), trace=t)
        for x, y, t in ((z, label, traces[0]), (z[:1], {"label": label["label"][:1]}, traces[1]))
    )
    same(mixed[:1], alone)
    nfe = traces[0].total_nfe()
    assert nfe[0] == traces[1].total_nfe()[0] and 13 < nfe.double().mean() < 24 and nfe.unique().numel() > 1
    trace = Trace()
    ddim(mix, z, GRIDS["vp"], label, (AdaptiveGuidance(CFG(4.0), 0.995, per_sample=False),), trace=trace)
    assert trace.total_nfe().unique().numel() == 1 and trace.total_nfe()[0] >= nfe.max()
    trace = Trace()
    armed = AdaptiveGuidance(CFG(4.0), -1.0, sigma_arm=0.5)
    ddim(mix, z, GRIDS["vp"], label, (armed,), trace=trace)
    late = sum(s > 0.5 for s in GRIDS["vp"].sigma[:-1])
    assert trace.total_nfe().eq(12 + late + 1).all()


def test_adaptive_guidance_saves_null_rows_in_the_forward():
    rows = []

    class Counting(Mixture):
        def __call__(self, x, a, s, cond, perturb=None):
            rows.append(len(x))
            return super().__call__(x, a, s, cond, perturb)

    base = ring(var=0.3)
    z, label = start()
    trace = Trace()
    ddim(Counting(base.means, base.var), z, GRIDS["vp"], label, (AdaptiveGuidance(CFG(4.0), 0.995),), trace=trace)
    assert sum(rows) == trace.total_nfe().sum()


@pytest.mark.parametrize("classes", [2, 7])
def test_linear_ag_is_exact_for_two_gaussians_and_not_for_seven(classes):
    """One sample in 16 dimensions, three coefficients: of two equal isotropic Gaussians u_t - c_t stays parallel to the
    difference of the means; of seven it turns."""
    g = torch.Generator().manual_seed(0)
    mix = Mixture(torch.randn(classes, 16, generator=g, dtype=F64) / 2, 0.2)
    z, label, grid = torch.randn(12, 16, generator=g, dtype=F64), torch.zeros(12, dtype=torch.long), EDM().grid(16)

    def run(chain, n=12, trace=None):
        return ddim(mix, z[:n], grid, {"label": label[:n]}, chain, trace=trace)

    fitted, want = fit_linear_ag(lambda chain: run(chain, 1), [3, 5, 7], 3.0), run((CFG(3.0),), 1)
    off, effect = ((run(m, 1) - want).square().mean().sqrt() for m in ((fitted,), ()))
    assert off < 1e-12 if classes == 2 else 1e-3 < off < 0.3 * effect
    trace = Trace()
    run((fit_linear_ag(run, [3, 5, 7], 3.0, stop=8),), trace=trace)
    assert trace.total_nfe().eq(16 + 8 - 3).all()
    with pytest.raises(ConfigError, match="rule of step"):
        LinearAG(2.0, {1: ((1.0, 0.0, 0.0), ())})


# ---------------------------------------------------------------- the others
def test_rescale_gives_the_spread_of_the_conditional_back():
    d = domain("image")
    ctx = at(d.noise, d.cond)
    c, _ = denoise(d.nets, ctx)
    y, _ = denoise(d.nets, ctx, (CFG(6.0), Rescale(1.0)))
    same(y.x0.flatten(1).std(1), c.x0.flatten(1).std(1))
    half, _ = denoise(d.nets, ctx, (CFG(6.0), Rescale(0.5)))
    raw, _ = denoise(d.nets, ctx, (CFG(6.0),))
    same(half.x0, 0.5 * (raw.x0 + y.x0))


def test_zero_star_stands_still_at_first_and_is_cfg_where_alpha_is_one():
    mix, (z, label) = ring(var=0.3), start()
    grid = Flow().grid(10)
    kept = []
    ddim(mix, z, grid, label, (CFGZeroStar(3.0, zero=0.2),), callback=lambda k, x: kept.append(x.clone()))
    same(kept[1], z)
    assert not torch.allclose(kept[2], z)
    a, s = Flow().at(torch.tensor(0.6, dtype=F64))
    ctx = Context(z, a, s, float(s / a), 5, conditions(label), steps=10)
    vu = z.roll(1, 0)
    across = torch.stack([-vu[:, 1], vu[:, 0]], 1)  # <vc, vu> = |vu|^2, so alpha = 1
    for vc, equal in ((vu + 0.7 * across, True), (2 * vu + 0.7 * across, False)):
        c, u = z - s * vc, z - s * vu
        preds = Predictions({COND: Prediction(c), NULL: Prediction(u)})
        star, cfg = (m(Guided(c, c), preds, ctx, None)[0].x0 for m in (CFGZeroStar(3.0, zero=0.0), CFG(3.0)))
        assert torch.allclose(star, cfg, rtol=1e-12, atol=1e-12) == equal
        assert (cfg - c).abs().max() > 0.5


def test_tcfg_keeps_a_parallel_null_score_whole():
    """Where both scores are parallel the projection keeps all of u: TCFG is CFG."""
    mix, z = Mixture(torch.tensor([[1.0], [-1.0]], dtype=F64), 0.3), torch.randn(6, 1, dtype=F64)
    label, grid = {"label": torch.arange(6) % 2}, VPCosine(t_max=0.97).grid(6)
    same(ddim(mix, z, grid, label, (TCFG(3.0),)), ddim(mix, z, grid, label, (CFG(3.0),)), 1e-9)


def test_feedback_guides_most_where_the_condition_is_in_doubt():
    mix, (z, label) = ring(var=0.3), start(200)
    trace = Trace()
    method = FeedbackGuidance(pi=0.9, w_max=8.0, temperature=1.0)
    grid = VPCosine().grid(30)
    x = ddim(mix, z, grid, label, (method,), trace=trace)
    plain = ddim(mix, z, grid, label)
    one, zero = torch.ones((), dtype=F64), torch.zeros((), dtype=F64)
    hit = [(mix.logits(v, one, zero).argmax(1) == label["label"]).double().mean().item() for v in (plain, x)]
    assert hit[1] >= hit[0]
    state = method.init(at(z, label))
    assert state.log_p.exp().eq(1).all() and method.floor == pytest.approx(math.log(0.1 * 8 / 7))
    with pytest.raises(ConfigError, match="w_max"):
        FeedbackGuidance(pi=0.5, w_max=1.5)


def test_best_of_keeps_the_best_and_never_a_nan():
    samples, scores = torch.arange(6.0)[:, None], torch.tensor([0.0, 2.0, 2.0, float("nan"), -5.0, -7.0])
    assert best_of(samples, scores, 3).flatten().tolist() == [1.0, 4.0]
    with pytest.raises(ShapeError, match="n = 4"):
        best_of(samples, scores, 4)
    c = repeat({"label": torch.tensor([3, 7])}, 3)
    assert c.leaves["label"].tolist() == [3, 3, 3, 7, 7, 7]


def test_shuffled_gives_every_row_anothers_condition():
    c = shuffled({"label": torch.arange(5)}, torch.Generator().manual_seed(3))
    assert (c.leaves["label"] != torch.arange(5)).all() and sorted(c.leaves["label"].tolist()) == list(range(5))
    with pytest.raises(ShapeError, match="independent"):
        shuffled({"label": torch.zeros(1)})


def test_composed_with_a_negative_condition_moves_away_from_it():
    mix, (z, label) = ring(var=0.8), start(400)
    neg = {"label": (label["label"] + 1) % 4}
    x = [ddim(mix, z, GRIDS["vp"], label, chain, conds={"neg": neg}) for chain in ((), (Composed({"neg": -1.0}),))]
    far = [(v - mix.means[neg["label"]]).norm(dim=1).mean() for v in x]
    assert far[1] > far[0] + 0.1


def test_citations_name_key_and_paper():
    assert APG().citation().startswith("[apg") and "2410.02416" in APG().citation()
    assert "reconstruct" in GFCG(lambda x: x).citation()
    known = [p for p in vars(papers).values() if isinstance(p, Paper)]
    assert len({p.key for p in known}) == len(known) > 25 and all(p.title and (p.arxiv or p.venue) for p in known)


def test_citations_leave_out_what_is_unknown():
    class Nameless(Guidance):
        paper = Paper("x", "", "A title", "", "2401.00001")

    class Dated(Guidance):
        paper = Paper("y", "A. Author", "A title", "2024")
        equation = "the rule"

    assert Nameless().citation() == "[x] A title. arXiv:2401.00001."
    assert Dated().citation() == "[y, the rule] A. Author. A title. 2024."


def test_analytic_conditions_are_what_they_say():
    mix, (z, label) = ring(var=0.3), start()
    a, s = torch.tensor(0.8, dtype=F64), torch.tensor(0.6, dtype=F64)
    u = mix.x0(z, a, s, Cond())
    p = mix.logits(z, a, s).softmax(1)
    c = torch.stack([mix.x0(z, a, s, Cond({"label": torch.full((12,), k)})) for k in range(4)], 1)
    same(u, (p[..., None] * c).sum(1))
    assert label["label"].max() == 3
