"""Numbers and shapes that guidance cannot use end in one error that names them."""

import math

import pytest
import torch

from safeplan.diffusion import VPCosine, conditions, ddim, denoise
from safeplan.diffusion.analytic import smooth_process
from safeplan.diffusion.guidance import Context
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
    SEG,
    SLG,
    SWG,
    TPG,
    TSG,
    AdaptiveGuidance,
    Barrier,
    CFGpp,
    CFGZeroStar,
    Composed,
    ConstrictingBarrier,
    EluCD,
    Energy,
    ExactEnergy,
    FeedbackGuidance,
    LinearAG,
    PiGDM,
    smooth_activations,
)
from tests.guidance.methods import domain, square
from tests.guidance.test_matrix import compiled_step

F64 = torch.float64
NAN, INF = math.nan, math.inf
Y = torch.zeros(2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CFG(NAN), "CFG: w is nan"),
        (lambda: CFG(INF), "CFG: w is inf"),
        (lambda: CFGpp(NAN), "CFGpp: lam is nan"),
        (lambda: LinearAG(NAN), "LinearAG: w is nan"),
        (lambda: GFCG(square, NAN), "GFCG: s is nan"),
        (lambda: Composed({"left": INF}), "Composed: left is inf"),
        (lambda: AdaptiveGuidance(threshold=NAN), "threshold is nan"),
        (lambda: CFG("3"), "CFG: w is '3'"),  # type: ignore[arg-type]
        (lambda: CFG(torch.tensor([1.0, NAN])), r"CFG: w is a tensor \[2\]: \[1.0, nan\]"),
        (lambda: CFG(torch.ones(2, 1)), r"CFG: w is a tensor \[2, 1\]"),
        (lambda: APG(INF), "APG: w is inf"),
        (lambda: APG(eta=NAN), "apg.eta is nan"),
        (lambda: APG(r=NAN), "r = nan"),
        (lambda: MAMBO(alpha=-1.0), "mambo.alpha is -1.0"),
        (lambda: CFGZeroStar(zero=5), "zero_star.zero is 5, expected a number of at least 0 and below 1"),
        (lambda: CFGZeroStar(zero=-0.1), "zero_star.zero is -0.1"),
        (lambda: CFGZeroStar(NAN), "CFGZeroStar: w is nan"),
        (lambda: FACFG(low=NAN), "fa_cfg.low is nan"),
        (lambda: FACFG(high=INF), "fa_cfg.high is inf"),
        (lambda: FDG(scales=()), "fdg: scales is empty; give one per level"),
        (lambda: FDG(scales=(2.0, NAN)), "fdg.scales is nan"),
        (lambda: PAG(NAN), "PAG: s is nan"),
        (lambda: FeedbackGuidance(temperature=NAN), "feedback.temperature is nan"),
        (lambda: FeedbackGuidance(w_max=INF), "feedback.w_max is inf"),
        (lambda: FeedbackGuidance(drift=-INF), "feedback.drift is -inf"),
        (lambda: Energy(square, NAN), "Energy: scale is nan"),
        (lambda: Energy(square, sigma_data=0.0), "energy.sigma_data is 0.0"),
        (lambda: ExactEnergy(lambda x, a, s: x, INF), "ExactEnergy: scale is inf"),
        (lambda: EluCD(square, NAN), "EluCD: scale is nan"),
        (lambda: EluCD(square, marginal=INF), "elucd.marginal is inf"),
        (lambda: Barrier(square, sigma_data=NAN), "barrier.sigma_data is nan"),
        (lambda: ConstrictingBarrier(square, width=-1.0), "tube.width is -1.0"),
        (lambda: PiGDM(square, Y, noise=NAN), "pigdm.noise is nan"),
        (lambda: PiGDM(square, Y, noise=-1.0), "pigdm.noise is -1.0"),
        (lambda: PiGDM(square, Y / 0), "pigdm: target is tensor"),
        (lambda: PiGDM(square, [1.0]), r"pigdm: target is \[1.0\]"),  # type: ignore[arg-type]
    ],
)
def test_a_number_that_cannot_be_used_is_refused_where_it_is_given(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize("method", [CFG, lambda w: Energy(square, w, metric="scalar"), lambda w: PAG(w, ("pag", 1))])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_one_weight_per_row(method, rows):
    d = domain("trajectory")  # 3 rows
    with pytest.raises(ShapeError, match=rf"weights \({rows},\) for 3 rows; give a number, or one weight per row"):
        ddim(d.nets, d.noise, VPCosine().grid(3), d.cond, (method(torch.linspace(1.5, 3.0, rows)),))


def test_weights_of_rows_compile_as_one_graph():
    d = domain("trajectory")
    want, got = compiled_step(d, CFG(torch.tensor([1.5, 2.0, 3.0], dtype=F64)), 1.3, 2, "eager")
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    assert not torch.equal(want, compiled_step(d, CFG(2.0), 1.3, 2, "eager")[0])


def process(sigma=1.0, b=4):
    a = torch.tensor((1 + sigma**2) ** -0.5, dtype=F64) if sigma < INF else torch.zeros((), dtype=F64)
    s = (1 - a**2).sqrt()
    return smooth_process(), Context(torch.ones(b, 16, 1, dtype=F64), a, s, sigma, 0, conditions(None))


def test_pigdm_refuses_targets_of_another_shape():
    gp, ctx = process()
    two = lambda v: v[..., 0][:, :2]  # noqa: E731
    for shape in ((3,), (1, 2), (3, 2), ()):
        with pytest.raises(ShapeError, match=r"target is \(.*\), measure gives \(4, 2\)"):
            denoise(gp, ctx, (PiGDM(two, torch.zeros(shape)),))
    one, each = (denoise(gp, ctx, (PiGDM(two, torch.zeros(shape)),))[0].x0 for shape in ((2,), (4, 2)))
    assert torch.equal(one, each)


def test_pigdm_without_noise_says_which_measurements_it_cannot_use():
    gp, ctx = process()
    twice = lambda v: v[..., 0][:, [3, 3]]  # noqa: E731
    with pytest.raises(ConfigError, match=r"sigma = 1 the measurements depend on each other.*noise > 0"):
        denoise(gp, ctx, (PiGDM(twice, Y, 0.0, exact=True),))
    once = denoise(gp, ctx, (PiGDM(lambda v: v[..., 0][:, 3:4], torch.ones(1), 0.0, exact=True),))[0].x0
    torch.testing.assert_close(once[:, 3], torch.ones(4, 1, dtype=F64))
    for noise in (0.0, 0.1):  # at a = 0 nothing is known: only noise keeps it solvable
        gp, end = process(INF)
        method = PiGDM(lambda v: v[..., 0][:, 3:4], torch.ones(1), noise, exact=True)
        if noise:
            assert torch.equal(denoise(gp, end, (method,))[0].x0, denoise(gp, end)[0].x0)
        else:
            with pytest.raises(ConfigError, match="sigma = inf"):
                denoise(gp, end, (method,))


def test_smooth_activations_replaces_all_of_them_or_says_there_are_none():
    relu = torch.nn.ReLU()
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), relu, torch.nn.Sequential(torch.nn.Linear(3, 3), relu), relu)
    smooth = smooth_activations(net, 4.0)
    assert not any(isinstance(m, torch.nn.ReLU) for m in smooth.modules())
    kinds = [type(m).__name__ for m in (*smooth, *smooth[2])]  # type: ignore[misc]
    assert kinds == ["Linear", "Softplus", "Sequential", "Softplus", "Linear", "Softplus"]
    assert isinstance(smooth_activations(relu), torch.nn.Softplus)
    with pytest.raises(ConfigError, match=r"Linear has no module nn.ReLU"):
        smooth_activations(torch.nn.Linear(3, 3))
    with pytest.raises(ConfigError, match="beta is 0"):
        smooth_activations(net, 0)


def test_citations_name_the_interval_and_no_number_that_was_not_looked_up():
    always, limited = CFG(3.0).citation(), CFG(3.0, interval=(0.2, 5.0)).citation()
    assert "interval" not in always and limited.startswith(always)
    assert "[interval, guidance between two noise levels]" in limited and "2404.07724" in limited
    assert "2404.07724" in FDG(interval=(0.0, 1.0)).citation() and "2404.07724" not in FDG().citation()
    assert "[safediffuser, " in Barrier(square).citation() and "2306.00148" in Barrier(square).citation()
    assert "[constricting, " in ConstrictingBarrier(square).citation()
    for method in (APG(), ICG(), PAG(), SEG(), SLG(), SWG(), TPG(), TSG(), FeedbackGuidance(), PiGDM(square, Y)):
        where = method.citation().partition("]")[0]
        assert "algorithm" not in where and "eq." not in where and ", " in where
