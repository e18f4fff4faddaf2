"""Rescaling, zero starts, tangents, feedback, choosing, composing: their limits; citations."""

import math

import pytest
import torch

from safeplan.diffusion import (
    COND,
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
)
from safeplan.diffusion.analytic import Mixture, ring
from safeplan.diffusion.guidance import Guidance, Paper
from safeplan.errors import ConfigError, ShapeError
from safeplan.guidance import (
    APG,
    CFG,
    GFCG,
    TCFG,
    CFGZeroStar,
    Composed,
    FeedbackGuidance,
    Rescale,
    best_of,
    papers,
    repeat,
    shuffled,
)
from tests.guidance.methods import domain
from tests.guidance.mixture_runs import F64, GRIDS, at, same, start


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
