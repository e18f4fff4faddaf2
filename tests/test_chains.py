"""Settings whose methods depend on the noise levels of the run."""

import pytest
import torch

from safeplan import build, schema
from safeplan.diffusion import EDM, VPCosine, ddim
from safeplan.diffusion.analytic import ring
from safeplan.errors import CapabilityError
from safeplan.guidance import CFGpp, EluCD, sine_schedule, unit_schedule

F64 = torch.float64


def made(place: build.Place, **settings):
    """The one method of a chain: its name, and its settings."""
    (name,) = settings
    (method,) = build.chain(schema.GuidanceConfig([name], **settings), place)
    return method


@pytest.mark.parametrize("path", [EDM(sigma_max=20.0), VPCosine()], ids=lambda p: p.name)
def test_cfgpp_with_reference_steps_is_cfgpp_at_that_number_of_steps(path):
    mix, label = ring(var=0.3), {"label": torch.arange(8) % 4}
    z = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    method = made(build.Place(grid=path.grid), cfgpp=schema.CfgppConfig(0.6, 20))
    got, more = (ddim(mix, z, path.grid(n), label, (method,)) for n in (20, 80))
    torch.testing.assert_close(got, ddim(mix, z, path.grid(20), label, (CFGpp(0.6),)), rtol=1e-9, atol=1e-9)
    drift = (ddim(mix, z, path.grid(80), label, (CFGpp(0.6),)) - got).square().mean()
    assert (more - got).square().mean() < 0.5 * drift  # elsewhere the strength stays, where that of CFG++ grows
    assert isinstance(made(build.Place(), cfgpp=schema.CfgppConfig(0.6)), CFGpp)
    with pytest.raises(CapabilityError, match=r"guidance\.cfgpp.ref_steps=20 needs the noise levels"):
        made(build.Place(), cfgpp=schema.CfgppConfig(0.6, 20))


@pytest.mark.parametrize(("kind", "weigh"), [("sine", sine_schedule), ("unit", unit_schedule)])
def test_elucd_schedules_follow_the_steps_of_the_run(kind, weigh):
    grid = EDM().grid(12)
    place = build.Place(classifier=lambda: torch.sin, grid=EDM().grid, steps=12)
    method = made(place, elucd=schema.ElucdConfig(2.0, schedule=kind))
    assert isinstance(method, EluCD) and callable(method.scale) and method.unit == (kind == "unit")
    want = weigh(grid)
    assert [method.scale(s) for s in grid.sigma[:-1]] == [2.0 * want(s) for s in grid.sigma[:-1]]
    constant = made(place, elucd=schema.ElucdConfig(2.0))
    assert (constant.scale, constant.unit) == (2.0, False)
    for unknown in (build.Place(classifier=lambda: torch.sin), build.Place(classifier=lambda: None, grid=EDM().grid)):
        with pytest.raises(CapabilityError, match=f"guidance.elucd.schedule={kind} needs the noise levels"):
            made(unknown, elucd=schema.ElucdConfig(schedule=kind))
