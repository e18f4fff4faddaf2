"""Methods that save evaluations: exactly how many, and where they change nothing."""

import pytest
import torch

from safeplan.diffusion import EDM, Trace, ddim
from safeplan.diffusion.analytic import Mixture, ring
from safeplan.errors import ConfigError
from safeplan.guidance import CFG, AdaptiveGuidance, LinearAG, fit_linear_ag
from tests.guidance.mixture_runs import F64, GRIDS, same, start


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
